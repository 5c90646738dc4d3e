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
    pub(in crate::turn) listeners: &'a [Listener],
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
            let Some(together) = exits.offload(exit, &mut self.offloads).map(|offload| offload.is_on()) else { continue };
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
            Exit::Listener(number) => Some(self.listeners.get(number as usize)?.socket.as_fd()),
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
