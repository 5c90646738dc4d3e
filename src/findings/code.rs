//! The stable names of findings, with what is always the same for each.

use std::time::Duration;

/// What is wrong. The words are for scripts and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    CertificateEnds,
    CertificateExpired,
    CertificateMismatch,
    CertificateMissing,
    ClockJumped,
    ConfigNotApplied,
    ConnectionsTurnedAway,
    DescriptorsAlmostExhausted,
    DiskAlmostFull,
    HttpPortTaken,
    LogNotWritable,
    NotifyFails,
    PortLost,
    ReceiveBufferDrops,
    RelayAcceptsAnyone,
    RelayPortsAlmostExhausted,
    RelayReachesForbidden,
    RelayTcpFails,
    RelayTlsFails,
    RelayUdpFails,
    RestartsStorm,
    RoomsFail,
    SignalingUnanswered,
    StunUnanswered,
    TaskBackoff,
    TaskDegraded,
    TaskHeld,
    TaskHung,
    TaskStopped,
    WebUnanswered,
}

/// What a probe that is repeated at once has to fail for: once may be chance.
const TWICE: Duration = Duration::from_secs(4);
/// How long what changes from second to second has to last.
const STEADY: Duration = Duration::from_secs(20);

impl Code {
    pub const ALL: [Self; 30] = [
        Self::CertificateEnds,
        Self::CertificateExpired,
        Self::CertificateMismatch,
        Self::CertificateMissing,
        Self::ClockJumped,
        Self::ConfigNotApplied,
        Self::ConnectionsTurnedAway,
        Self::DescriptorsAlmostExhausted,
        Self::DiskAlmostFull,
        Self::HttpPortTaken,
        Self::LogNotWritable,
        Self::NotifyFails,
        Self::PortLost,
        Self::ReceiveBufferDrops,
        Self::RelayAcceptsAnyone,
        Self::RelayPortsAlmostExhausted,
        Self::RelayReachesForbidden,
        Self::RelayTcpFails,
        Self::RelayTlsFails,
        Self::RelayUdpFails,
        Self::RestartsStorm,
        Self::RoomsFail,
        Self::SignalingUnanswered,
        Self::StunUnanswered,
        Self::TaskBackoff,
        Self::TaskDegraded,
        Self::TaskHeld,
        Self::TaskHung,
        Self::TaskStopped,
        Self::WebUnanswered,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CertificateEnds => "certificate-ends",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateMismatch => "certificate-mismatch",
            Self::CertificateMissing => "certificate-missing",
            Self::ClockJumped => "clock-jumped",
            Self::ConfigNotApplied => "config-not-applied",
            Self::ConnectionsTurnedAway => "connections-turned-away",
            Self::DescriptorsAlmostExhausted => "descriptors-almost-exhausted",
            Self::DiskAlmostFull => "disk-almost-full",
            Self::HttpPortTaken => "http-port-taken",
            Self::LogNotWritable => "log-not-writable",
            Self::NotifyFails => "notify-fails",
            Self::PortLost => "port-lost",
            Self::ReceiveBufferDrops => "receive-buffer-drops",
            Self::RelayAcceptsAnyone => "relay-accepts-anyone",
            Self::RelayPortsAlmostExhausted => "relay-ports-almost-exhausted",
            Self::RelayReachesForbidden => "relay-reaches-forbidden",
            Self::RelayTcpFails => "relay-tcp-fails",
            Self::RelayTlsFails => "relay-tls-fails",
            Self::RelayUdpFails => "relay-udp-fails",
            Self::RestartsStorm => "restarts-storm",
            Self::RoomsFail => "rooms-fail",
            Self::SignalingUnanswered => "signaling-unanswered",
            Self::StunUnanswered => "stun-unanswered",
            Self::TaskBackoff => "task-backoff",
            Self::TaskDegraded => "task-degraded",
            Self::TaskHeld => "task-held",
            Self::TaskHung => "task-hung",
            Self::TaskStopped => "task-stopped",
            Self::WebUnanswered => "web-unanswered",
        }
    }

    /// How long it has to hold until it is shown.
    #[must_use]
    pub fn shown_after(self) -> Duration {
        match self {
            // What is certain at once, or urgent.
            Self::CertificateEnds
            | Self::CertificateExpired
            | Self::ClockJumped
            | Self::ConfigNotApplied
            | Self::ConnectionsTurnedAway
            | Self::HttpPortTaken
            | Self::LogNotWritable
            | Self::NotifyFails
            | Self::ReceiveBufferDrops
            | Self::RelayAcceptsAnyone
            | Self::RelayReachesForbidden
            | Self::RestartsStorm
            | Self::TaskHeld
            | Self::TaskHung
            | Self::TaskStopped => Duration::ZERO,
            Self::CertificateMismatch
            | Self::PortLost
            | Self::RelayTcpFails
            | Self::RelayTlsFails
            | Self::RelayUdpFails
            | Self::RoomsFail
            | Self::SignalingUnanswered
            | Self::StunUnanswered
            | Self::WebUnanswered
            | Self::CertificateMissing
            | Self::TaskBackoff
            | Self::TaskDegraded => TWICE,
            Self::DescriptorsAlmostExhausted | Self::DiskAlmostFull | Self::RelayPortsAlmostExhausted => STEADY,
        }
    }

    /// How long it has to be over until it is gone: what comes and goes is one finding, not many.
    #[must_use]
    pub fn gone_after(self) -> Duration {
        match self {
            Self::DescriptorsAlmostExhausted
            | Self::DiskAlmostFull
            | Self::RelayPortsAlmostExhausted
            | Self::TaskBackoff
            | Self::TaskDegraded => Duration::from_secs(60),
            Self::CertificateMismatch
            | Self::PortLost
            | Self::RelayAcceptsAnyone
            | Self::RelayReachesForbidden
            | Self::RelayTcpFails
            | Self::RelayTlsFails
            | Self::RelayUdpFails
            | Self::RoomsFail
            | Self::SignalingUnanswered
            | Self::StunUnanswered
            | Self::WebUnanswered => Duration::from_secs(5),
            Self::CertificateEnds
            | Self::CertificateExpired
            | Self::CertificateMissing
            | Self::ClockJumped
            | Self::ConfigNotApplied
            | Self::ConnectionsTurnedAway
            | Self::HttpPortTaken
            | Self::LogNotWritable
            | Self::NotifyFails
            | Self::ReceiveBufferDrops
            | Self::RestartsStorm
            | Self::TaskHeld
            | Self::TaskHung
            | Self::TaskStopped => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_a_word_of_its_own_and_is_documented() {
        let mut words: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(words.is_sorted(), "{words:?}");
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
        let is_kebab = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(words.iter().all(|word| is_kebab(word)));
        let table: Vec<&str> =
            include_str!("mod.rs").lines().filter_map(|line| line.strip_prefix("//! | `")?.split('`').next()).collect();
        assert_eq!(table, words, "the table in the front page lists all of them, and nothing else");
    }
}
