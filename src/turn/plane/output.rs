//! What waits to be sent: collected during a batch, sorted by socket and destination, sent with few system calls.
//!
//! A worker hands in datagrams with [`Output::push_received`] (the payload stays where it was received) or
//! [`Output::push_copied`], after [`Output::is_full`] has said that there is room, and calls [`Output::flush`] when
//! there is none and at the end of its batch: before the receive buffers are used again, and before a socket is
//! closed that may have something waiting.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd};

use super::flows::{Flows, Key};
use super::offload::Offload;
use super::relays::Relays;
use crate::sys::mmsg::{Fragments, Sender, Sent};
use crate::turn::Counts;
use crate::turn::Dropped;
use crate::turn::server::RelayId;
use crate::turn::sockets::Listener;

/// Bytes of headers and copies that are kept before they are sent.
const ARENA: usize = 128 << 10;
/// The arena begins with these: padding of an indication is at most three bytes.
const ZEROS: usize = 4;

/// A socket of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::turn) enum Exit {
    Listener(u32),
    Relay(RelayId),
}

/// The sockets that exits stand for.
pub(in crate::turn) struct Exits<'a> {
    pub(in crate::turn) listeners: &'a [Option<Listener>],
    pub(in crate::turn) relays: &'a mut Relays,
}

/// Where a datagram goes.
#[derive(Debug, Clone, Copy)]
pub(in crate::turn) struct Way {
    pub(in crate::turn) exit: Exit,
    pub(in crate::turn) to: SocketAddr,
    /// The address of ours to send from; `None`: the socket's own.
    pub(in crate::turn) from: Option<IpAddr>,
    /// RFC 8656, section 14.
    pub(in crate::turn) dont_fragment: bool,
}

/// Waiting datagrams of one worker. Its memory is used again.
pub(in crate::turn) struct Output {
    flows: Flows<Item>,
    arena: Vec<u8>,
    sender: Sender,
    /// Whether the kernel takes several datagrams in one piece.
    gso: bool,
    /// By number of the listener.
    offloads: Vec<Offload>,
}

/// A datagram: a header from the arena, a payload, zeros.
#[derive(Debug, Clone, Copy)]
struct Item {
    header_at: u32,
    payload_at: u32,
    payload_length: u32,
    header_length: u8,
    padding: u8,
    is_received: bool,
    dont_fragment: bool,
}

impl Output {
    /// `salt` must not be predictable.
    pub(in crate::turn) fn new(gso: bool, listeners: usize, salt: u64) -> Self {
        let mut arena = Vec::with_capacity(ARENA);
        arena.resize(ZEROS, 0);
        Self {
            flows: Flows::new(salt),
            arena,
            sender: Sender::default(),
            gso,
            offloads: vec![Offload::default(); listeners],
        }
    }

    /// There are listeners up to this number.
    pub(in crate::turn) fn set_listeners(&mut self, listeners: usize) {
        self.offloads.resize(listeners, Offload::default());
    }

    /// Whether it has to be flushed before the next datagram.
    pub(in crate::turn) fn is_full(&self) -> bool {
        self.flows.is_full() || self.arena.len() >= ARENA
    }

    /// Adds a datagram of `header`, the bytes at `payload` of the memory given to [`Output::flush`], and `padding`
    /// zeros, at most three.
    pub(in crate::turn) fn push_received(&mut self, way: Way, header: &[u8], payload: Range<usize>, padding: usize) {
        let header_at = self.arena.len();
        self.arena.extend_from_slice(header);
        let item = Item {
            header_at: offset(header_at),
            header_length: u8::try_from(header.len()).expect("a header is short"),
            payload_at: offset(payload.start),
            payload_length: offset(payload.len()),
            padding: u8::try_from(padding.min(ZEROS)).expect("padding is short"),
            is_received: true,
            dont_fragment: way.dont_fragment,
        };
        self.push(way, item);
    }

    /// Adds a datagram whose bytes are copied.
    pub(in crate::turn) fn push_copied(&mut self, way: Way, parts: &[&[u8]]) {
        let start = self.arena.len();
        parts.iter().for_each(|part| self.arena.extend_from_slice(part));
        let item = Item {
            header_at: 0,
            header_length: 0,
            payload_at: offset(start),
            payload_length: offset(self.arena.len() - start),
            padding: 0,
            is_received: false,
            dont_fragment: way.dont_fragment,
        };
        self.push(way, item);
    }

    fn push(&mut self, way: Way, item: Item) {
        let key = Key { exit: way.exit, to: way.to, from: way.from };
        let length = usize::from(item.header_length) + item.payload_length as usize + usize::from(item.padding);
        self.flows.push(key, item, length, item.dont_fragment);
    }

    /// Sends everything. `received` is the memory that [`Output::push_received`] spoke of.
    ///
    /// What the kernel does not take is counted; what goes to a socket that is closed is dropped with it.
    pub(in crate::turn) fn flush(&mut self, received: &[u8], exits: &mut Exits<'_>, counts: &mut Counts) {
        if self.flows.is_empty() {
            return;
        }
        self.flows.sort();
        let mut batch = self.sender.batch();
        for (exit, flows) in self.flows.exits() {
            let Some(together) = exits.offload(exit, &mut self.offloads).map(|offload| offload.is_on()) else {
                continue;
            };
            let Some(socket) = exits.socket(exit) else { continue };
            let mut sent = Sent::default();
            for flow in flows {
                let key = self.flows.key(*flow);
                for run in self.flows.runs(*flow, together && self.gso) {
                    let forbidden = match exit {
                        Exit::Relay(relay) => self.flows.items(run).any(|item| item.dont_fragment).then_some(relay),
                        Exit::Listener(_) => None,
                    };
                    if forbidden.is_some() || !batch.has_room(run.datagrams) {
                        sent.add(batch.transmit(socket));
                    }
                    batch.begin(key.to, key.from, run.datagrams, run.segment);
                    for item in self.flows.items(run) {
                        let memory = if item.is_received { received } else { &self.arena };
                        if item.header_length > 0 {
                            batch.part(slice(&self.arena, item.header_at, item.header_length.into()));
                        }
                        batch.part(slice(memory, item.payload_at, item.payload_length));
                        if item.padding > 0 {
                            batch.part(&self.arena[..item.padding.into()]);
                        }
                    }
                    if let Some(relay) = forbidden {
                        exits.relays.set_fragments(relay, Fragments::Forbidden);
                        sent.add(batch.transmit(socket));
                        exits.relays.set_fragments(relay, Fragments::Allowed);
                    }
                }
            }
            sent.add(batch.transmit(socket));
            counts.drop_many(Dropped::SendFailed, sent.failed);
            counts.drop_many(Dropped::TooLong, sent.too_long);
            if let Some(offload) = exits.offload(exit, &mut self.offloads) {
                offload.learn(sent.pieces, sent.refused);
            }
        }
        self.flows.clear();
        self.arena.truncate(ZEROS);
    }

    /// Whether several datagrams leave in one piece: the kernel can, and no listener rests from refusals.
    pub(in crate::turn) fn is_gso_on(&self) -> bool {
        self.gso && self.offloads.iter().all(|offload| offload.is_on())
    }
}

impl Exits<'_> {
    fn socket(&self, exit: Exit) -> Option<BorrowedFd<'_>> {
        match exit {
            Exit::Listener(number) => Some(self.listeners.get(number as usize)?.as_ref()?.socket.as_fd()),
            Exit::Relay(relay) => self.relays.socket(relay),
        }
    }

    fn offload<'a>(&'a mut self, exit: Exit, listeners: &'a mut [Offload]) -> Option<&'a mut Offload> {
        match exit {
            Exit::Listener(number) => listeners.get_mut(number as usize),
            Exit::Relay(relay) => self.relays.offload(relay),
        }
    }
}

fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("buffers are shorter than 4 GiB")
}

fn slice(memory: &[u8], at: u32, length: u32) -> &[u8] {
    &memory[at as usize..][..length as usize]
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::sync::Arc;

    use nix::sys::epoll::{Epoll, EpollCreateFlags};

    use super::*;
    use crate::sys::mmsg::Receiver;
    use crate::sys::net::Family;
    use crate::sys::udp::{Purpose, open};
    use crate::sys::{clock, udp};
    use crate::turn::relay_ports::RelayPorts;
    use crate::turn::server::Wanted;

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 78));

    struct Bench {
        listeners: Vec<Option<Listener>>,
        relays: Relays,
        counts: Counts,
        _epoll: Epoll,
    }

    impl Bench {
        /// One listener, and one relay socket that is number 0.
        fn new() -> Self {
            let socket = open((ADDRESS, 0).into(), Purpose::Listener).unwrap();
            let address = socket.local_addr().unwrap();
            let listeners = vec![Some(Listener::new(socket, address))];
            let epoll = Epoll::new(EpollCreateFlags::empty()).unwrap();
            let mut relays = Relays::new(Arc::new(RelayPorts::new(vec![ADDRESS], 42_100..=42_199)));
            relays.open(RelayId(0), Family::V4, Wanted::Any, &epoll, clock::now().mono).unwrap();
            Self { listeners, relays, counts: Counts::default(), _epoll: epoll }
        }

        fn flush(&mut self, output: &mut Output, received: &[u8]) {
            let mut exits = Exits { listeners: &self.listeners, relays: &mut self.relays };
            output.flush(received, &mut exits, &mut self.counts);
        }
    }

    fn way(exit: Exit, to: &UdpSocket) -> Way {
        Way { exit, to: to.local_addr().unwrap(), from: None, dont_fragment: false }
    }

    fn receive(socket: &UdpSocket) -> (usize, Vec<Vec<u8>>) {
        let mut receiver = Receiver::default();
        let slots = receiver.receive(socket.as_fd()).unwrap_or(0..0);
        let pieces = slots.len();
        let places = slots.flat_map(|slot| receiver.arrival(slot).unwrap().segments());
        (pieces, places.map(|place| receiver.memory()[place].to_vec()).collect())
    }

    #[test]
    fn what_is_interleaved_arrives_in_order_and_in_one_piece_a_flow() {
        let mut bench = Bench::new();
        let peers: Vec<UdpSocket> = (0..3).map(|_| open((ADDRESS, 0).into(), Purpose::Relay).unwrap()).collect();
        let received: Vec<u8> = (0..100).collect();
        let mut output = Output::new(udp::offloads().gso, 1, 1);
        let exits = [Exit::Listener(0), Exit::Listener(0), Exit::Relay(RelayId(0))];
        for round in 0..4 {
            for (peer, exit) in peers.iter().zip(exits) {
                output.push_received(way(exit, peer), b"head", round * 10..round * 10 + 5, 3);
            }
        }
        output.push_copied(way(Exit::Listener(0), &peers[0]), &[b"an ", b"answer"]);
        bench.flush(&mut output, &received);
        for (number, peer) in peers.iter().enumerate() {
            let (pieces, datagrams) = receive(peer);
            let mut expected: Vec<Vec<u8>> =
                (0..4).map(|round| [b"head", &received[round * 10..round * 10 + 5], &[0; 3]].concat()).collect();
            if number == 0 {
                expected.push(b"an answer".to_vec());
            }
            assert_eq!(datagrams, expected);
            assert!(pieces == 1 || udp::offloads() != udp::Offloads { gro: true, gso: true }, "{pieces}");
        }
        assert_eq!(bench.counts, Counts::default());
    }

    #[test]
    fn without_the_kernels_help_everything_arrives_all_the_same() {
        let mut bench = Bench::new();
        let peer = open((ADDRESS, 0).into(), Purpose::Relay).unwrap();
        let mut output = Output::new(false, 1, 1);
        for round in 0..70 {
            output.push_received(way(Exit::Listener(0), &peer), b"head", round..round + 5, 0);
        }
        bench.flush(&mut output, &(0..100).collect::<Vec<u8>>());
        let (pieces, datagrams) = receive(&peer);
        assert_eq!((pieces, datagrams.len()), (64, 64));
        assert_eq!(receive(&peer).1.len(), 6);
        assert!(!output.is_gso_on());
    }

    #[test]
    fn more_than_fits_one_call_is_sent_by_several() {
        let mut bench = Bench::new();
        let peer = open((ADDRESS, 0).into(), Purpose::Listener).unwrap();
        let mut output = Output::new(udp::offloads().gso, 1, 1);
        let mut count = 0;
        while !output.is_full() {
            output.push_received(way(Exit::Relay(RelayId(0)), &peer), b"head", 0..5, 3);
            count += 1;
        }
        bench.flush(&mut output, &[7; 5]);
        assert!(!output.is_full());
        let mut arrived = 0;
        while let (1.., datagrams) = receive(&peer) {
            arrived += datagrams.len();
        }
        assert_eq!(arrived, count);
    }

    /// Row T34.
    /// Case 78.
    #[test]
    fn only_the_datagram_that_must_not_be_fragmented_is_sent_as_such() {
        let mut bench = Bench::new();
        let peer = open((ADDRESS, 0).into(), Purpose::Relay).unwrap();
        let mut output = Output::new(true, 1, 1);
        let exit = Exit::Relay(RelayId(0));
        // Loopback takes 64 KiB less the headers in one frame; beyond that it would have to be fragmented.
        let long = vec![9; 65_507];
        for (dont_fragment, bytes) in [(false, &long[..10]), (true, &long[..10]), (false, &long[..10])] {
            output.push_copied(Way { dont_fragment, ..way(exit, &peer) }, &[bytes]);
        }
        bench.flush(&mut output, &[]);
        assert_eq!(receive(&peer).1, vec![vec![9; 10]; 3]);
        output.push_copied(way(exit, &peer), &[&[9; 65_508]]);
        bench.flush(&mut output, &[]);
        assert_eq!(bench.counts.dropped(Dropped::TooLong), 1);
        assert_eq!(bench.counts.dropped(Dropped::SendFailed), 0);
    }

    #[test]
    fn what_goes_to_a_closed_socket_is_dropped() {
        let mut bench = Bench::new();
        let peer = open((ADDRESS, 0).into(), Purpose::Relay).unwrap();
        let mut output = Output::new(true, 1, 1);
        output.push_copied(way(Exit::Relay(RelayId(1)), &peer), &[b"nowhere"]);
        output.push_copied(way(Exit::Listener(9), &peer), &[b"nowhere"]);
        output.push_copied(way(Exit::Relay(RelayId(0)), &peer), &[b"here"]);
        bench.flush(&mut output, &[]);
        assert_eq!(receive(&peer).1, [b"here"]);
    }
}
