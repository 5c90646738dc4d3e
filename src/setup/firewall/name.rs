//! What rules of ours are called, so that they are known again and no other home's.

use aws_lc_rs::digest::{SHA256, digest};

use crate::home::Home;

/// `rtcctl` for the default home of root, `rtcctl-` and eight digits for any other.
#[must_use]
pub fn tag(home: &Home) -> String {
    let path = home.config_dir();
    if path == std::path::Path::new("/etc/rtcctl") {
        return "rtcctl".to_owned();
    }
    let hash = digest(&SHA256, path.as_os_str().as_encoded_bytes());
    let digits: String = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("rtcctl-{digits}")
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
