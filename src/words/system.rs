//! What Linux says by its error numbers, as far as people who set a service up meet it.

use super::Text;
use crate::text;

/// As the standard library words it.
pub(super) fn said(number: i32) -> Option<Text> {
    Some(match number {
        1 => text!("Operation not permitted (os error 1)"),
        2 => text!("No such file or directory (os error 2)"),
        13 => text!("Permission denied (os error 13)"),
        17 => text!("File exists (os error 17)"),
        20 => text!("Not a directory (os error 20)"),
        21 => text!("Is a directory (os error 21)"),
        24 => text!("Too many open files (os error 24)"),
        28 => text!("No space left on device (os error 28)"),
        30 => text!("Read-only file system (os error 30)"),
        98 => text!("Address already in use (os error 98)"),
        99 => text!("Cannot assign requested address (os error 99)"),
        101 => text!("Network is unreachable (os error 101)"),
        104 => text!("Connection reset by peer (os error 104)"),
        110 => text!("Connection timed out (os error 110)"),
        111 => text!("Connection refused (os error 111)"),
        113 => text!("No route to host (os error 113)"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_worded_as_the_system_does() {
        for number in (0..134).filter(|number| said(*number).is_some()) {
            let error = std::io::Error::from_raw_os_error(number);
            assert_eq!(said(number).unwrap(), error.to_string(), "{number}");
            assert_eq!(Text::of_error(&error), said(number).unwrap());
        }
    }
}
