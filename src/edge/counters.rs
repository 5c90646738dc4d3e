//! What was made of the connections, counted: a flood of strange ones must not fill the log.

use std::sync::atomic::{AtomicU64, Ordering};

/// What was made of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// HTTPS, which includes WebSockets.
    Web,
    /// HTTP without TLS.
    PlainWeb,
    /// TURN over TLS.
    TurnTls,
    /// TURN over TCP.
    TurnTcp,
    /// An authority that looked whether this host is the one to certify.
    Acme,
    /// Nothing that this port serves.
    Unknown,
    /// It ended or ran out of time before it had said what it wants.
    Silent,
    /// Its TLS handshake failed.
    NoTls,
    /// There was no place left for it.
    TurnedAway,
    /// It could not be accepted.
    Failed,
}

impl Class {
    pub const ALL: [Self; 10] = [
        Self::Web,
        Self::PlainWeb,
        Self::TurnTls,
        Self::TurnTcp,
        Self::Acme,
        Self::Unknown,
        Self::Silent,
        Self::NoTls,
        Self::TurnedAway,
        Self::Failed,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::PlainWeb => "plain_web",
            Self::TurnTls => "turn_tls",
            Self::TurnTcp => "turn_tcp",
            Self::Acme => "acme",
            Self::Unknown => "unknown",
            Self::Silent => "silent",
            Self::NoTls => "no_tls",
            Self::TurnedAway => "turned_away",
            Self::Failed => "failed",
        }
    }
}

/// Connections since the start, by what was made of them.
#[derive(Debug, Default)]
pub struct Counters {
    by_class: [AtomicU64; Class::ALL.len()],
}

impl Counters {
    #[must_use]
    pub fn of(&self, class: Class) -> u64 {
        self.by_class[class as usize].load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, class: Class) {
        self.by_class[class as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_counted_by_itself_and_has_a_name_of_its_own() {
        let counters = Counters::default();
        for (times, class) in Class::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| counters.count(class));
        }
        let counted: Vec<u64> = Class::ALL.iter().map(|class| counters.of(*class)).collect();
        assert_eq!(counted, (0..Class::ALL.len() as u64).collect::<Vec<_>>());
        let names: std::collections::BTreeSet<&str> = Class::ALL.iter().map(|class| class.as_str()).collect();
        assert_eq!(names.len(), Class::ALL.len());
    }
}
