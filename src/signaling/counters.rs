//! What the signaling server counts, for as long as the process lives.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A bound that a client has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `signaling.max_sockets`.
    Sockets,
    /// `signaling.max_sockets_per_address`.
    SocketsOfAddress,
    /// `signaling.max_rooms`.
    Rooms,
    /// `signaling.max_rooms_per_socket`.
    RoomsOfSocket,
    /// `signaling.max_joins_per_address`.
    JoinsOfAddress,
    /// `signaling.max_message`.
    MessageSize,
    /// `signaling.max_rate`; the message was dropped.
    MessageRate,
    /// So far beyond `signaling.max_rate` that the socket was cut.
    Flood,
    /// `signaling.max_queue`; the socket was cut.
    Queue,
    /// What no page sends: JSON that cannot be read or is too deep, binary, no packet at all.
    Unreadable,
    /// It joined no namespace in time.
    Silent,
}

impl Limit {
    pub const ALL: [Self; 11] = [
        Self::Sockets,
        Self::SocketsOfAddress,
        Self::Rooms,
        Self::RoomsOfSocket,
        Self::JoinsOfAddress,
        Self::MessageSize,
        Self::MessageRate,
        Self::Flood,
        Self::Queue,
        Self::Unreadable,
        Self::Silent,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sockets => "sockets",
            Self::SocketsOfAddress => "sockets_of_address",
            Self::Rooms => "rooms",
            Self::RoomsOfSocket => "rooms_of_socket",
            Self::JoinsOfAddress => "joins_of_address",
            Self::MessageSize => "message_size",
            Self::MessageRate => "message_rate",
            Self::Flood => "flood",
            Self::Queue => "queue",
            Self::Unreadable => "unreadable",
            Self::Silent => "silent",
        }
    }
}

/// How a socket has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By a goodbye, or since the service ended.
    Closed,
    /// The connection broke, or brought what the transport does not allow: a frame beyond all bounds, no WebSocket.
    Transport,
    /// It did not answer a ping.
    Ping,
    /// It sent what is no packet.
    Packet,
}

impl End {
    pub const ALL: [Self; 4] = [Self::Closed, Self::Transport, Self::Ping, Self::Packet];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Transport => "transport",
            Self::Ping => "ping",
            Self::Packet => "packet",
        }
    }

    /// Whether it was no accident: whoever has a session then has no place to come back to.
    pub(super) fn is_clean(self) -> bool {
        match self {
            Self::Closed | Self::Packet => true,
            Self::Transport | Self::Ping => false,
        }
    }
}

/// Counted by signaling, read by anyone; outlives the task's instances.
#[derive(Debug, Default)]
pub struct Counters {
    /// Rooms with somebody in them.
    pub rooms: AtomicU64,
    /// Sockets that are in a room.
    pub peers: AtomicU64,
    /// Sockets, in a room or not.
    pub sockets: AtomicU64,
    /// Messages that were relayed.
    pub messages: AtomicU64,
    /// Bytes that wait for their receivers.
    pub queued_bytes: AtomicU64,
    limits: [AtomicU64; Limit::ALL.len()],
    ends: [AtomicU64; End::ALL.len()],
}

impl Counters {
    /// How often a bound was met.
    #[must_use]
    pub fn met(&self, limit: Limit) -> u64 {
        self.limits[limit as usize].load(Relaxed)
    }

    /// How many sockets have ended so.
    #[must_use]
    pub fn ended(&self, end: End) -> u64 {
        self.ends[end as usize].load(Relaxed)
    }

    pub(super) fn count(&self, limit: Limit) {
        self.limits[limit as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn count_end(&self, end: End) {
        self.ends[end as usize].fetch_add(1, Relaxed);
    }

    /// Nobody is there any more.
    pub(super) fn clear(&self) {
        [&self.rooms, &self.peers, &self.sockets].into_iter().for_each(|gauge| gauge.store(0, Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_limit_and_every_end_is_counted_by_itself_and_has_a_name_of_its_own() {
        let counters = Counters::default();
        for (times, limit) in Limit::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| counters.count(limit));
        }
        for (times, end) in End::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| counters.count_end(end));
        }
        let counted: Vec<u64> = Limit::ALL.iter().map(|limit| counters.met(*limit)).collect();
        assert_eq!(counted, (0..Limit::ALL.len() as u64).collect::<Vec<_>>());
        let counted: Vec<u64> = End::ALL.iter().map(|end| counters.ended(*end)).collect();
        assert_eq!(counted, (0..End::ALL.len() as u64).collect::<Vec<_>>());
        let names: BTreeSet<&str> = Limit::ALL.iter().map(|limit| limit.as_str()).collect();
        assert_eq!(names.len(), Limit::ALL.len());
        let names: BTreeSet<&str> = End::ALL.iter().map(|end| end.as_str()).collect();
        assert_eq!(names.len(), End::ALL.len());
    }
}
