//! What rules of ours are called, so that they are known again and no other home's.

use crate::home::Home;

/// That of the home.
#[must_use]
pub fn tag(home: &Home) -> String {
    home.tag()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn each_home_has_a_name_of_its_own_that_stays() {
        let (one, other) = (Home::under(Path::new("/srv/one")), Home::under(Path::new("/srv/other")));
        assert_ne!(tag(&one), tag(&other));
        assert_eq!(tag(&one), "rtcctl-875fb59d");
        assert_eq!(tag(&Home::under(Path::new("/etc/rtcctl"))), "rtcctl");
    }
}
