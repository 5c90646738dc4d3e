//! Decides which TURN users are the daemon's own probes, which users never notice and which nobody else can be.
//!
//! A probe's name is `expiry:~probe-ROUTE-TAG`, where the tag authenticates the rest under a key that is made at each
//! start of the daemon and never leaves the process. Whoever knows the configured secrets, and issues names of their own
//! choice by them, still cannot be a probe. The password is that of any user, so that a probe finds out whether users'
//! credentials work. The tag tells the engine of a probe before the password is looked at: one that is refused on
//! purpose is no user's failure either.

use aws_lc_rs::{constant_time, hmac};

use super::credentials::User;
use crate::config::Secret;

/// What the user ids of probes begin with. Such a name is a probe's or nobody's.
const PREFIX: &str = "~probe-";
/// Bytes of a tag that are used.
const TAG: usize = 16;

/// How packets from one allocation of a probe to another one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// As those of two callers: straight from the one to the other where that can be.
    InProcess,
    /// Out of the one relay socket and into the other, as those of a caller and a peer elsewhere.
    ByKernel,
}

impl Route {
    pub const ALL: [Self; 2] = [Self::InProcess, Self::ByKernel];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProcess => "direct",
            Self::ByKernel => "kernel",
        }
    }
}

/// Makes the names of probes, and knows them again.
pub struct Insiders(hmac::Key);

impl Insiders {
    /// `key` must be random, and the same for all shards of a process.
    #[must_use]
    pub fn new(key: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// A name that is good until `expires_at`, in seconds since 1970.
    #[must_use]
    pub fn name(&self, route: Route, expires_at: u64) -> String {
        let stem = format!("{expires_at}:{PREFIX}{}-", route.as_str());
        format!("{stem}{}", self.tag(&stem))
    }

    /// The route of a name that was made here; `None`: it is somebody else's.
    #[must_use]
    pub fn recognise(&self, username: &str) -> Option<Route> {
        let rest = User::parse(username)?.id.strip_prefix(PREFIX)?;
        let (word, tag) = rest.split_once('-')?;
        let route = Route::ALL.into_iter().find(|route| route.as_str() == word)?;
        let stem = username.strip_suffix(tag)?;
        constant_time::verify_slices_are_equal(self.tag(stem).as_bytes(), tag.as_bytes()).ok().map(|()| route)
    }

    fn tag(&self, stem: &str) -> String {
        hmac::sign(&self.0, stem.as_bytes()).as_ref()[..TAG].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Whether a name has the form that only those of probes may have.
#[must_use]
pub fn is_reserved(username: &str) -> bool {
    User::parse(username).is_some_and(|user| user.id.starts_with(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::credentials;

    #[test]
    fn a_name_is_known_again_by_the_process_that_made_it_and_by_no_other() {
        let (own, other) = (Insiders::new(&Secret::new(vec![1; 32])), Insiders::new(&Secret::new(vec![2; 32])));
        for route in Route::ALL {
            let name = own.name(route, 1_800_000_000);
            assert_eq!(own.recognise(&name), Some(route));
            assert_eq!(other.recognise(&name), None);
            assert!(is_reserved(&name));
        }
    }

    #[test]
    fn no_part_of_a_name_can_be_changed() {
        let own = Insiders::new(&Secret::new(vec![1; 32]));
        let name = own.name(Route::InProcess, 1_800_000_000);
        let later = name.replacen("1800000000", "1900000000", 1);
        let routed = name.replacen("direct", "kernel", 1);
        let shorter = name[..name.len() - 1].to_owned();
        for forged in [&later, &routed, &shorter, &format!("{name}0"), &format!("0{name}"), &name.to_uppercase()] {
            assert_ne!(*forged, name);
            assert_eq!(own.recognise(forged), None, "{forged}");
        }
    }

    #[test]
    fn users_of_other_names_are_left_alone() {
        let own = Insiders::new(&Secret::new(vec![1; 32]));
        for name in ["1800000000:web-1", "alice", "", "1800000000", "1800000000:probe", "~probe-direct-00"] {
            assert_eq!(own.recognise(name), None, "{name}");
            assert!(!is_reserved(name), "{name}");
        }
        let now = crate::sys::clock::now();
        let issued = credentials::issue(&Secret::new(vec![1; 32]), "~probe-direct-00", 60, now);
        assert!(is_reserved(&issued.username) && own.recognise(&issued.username).is_none());
    }
}
