//! Sorts datagrams that wait to be sent into flows, and cuts each flow into runs that leave in one piece.
//!
//! Datagrams of one flow (one socket, one destination, one source) keep their order; flows overtake each other. What a
//! datagram is made of is the business of `output`.

use std::net::{IpAddr, SocketAddr};

use super::output::Exit;
use crate::sys::mmsg::{MAX_PIECE, MAX_SEGMENTS};

/// Datagrams that wait at most.
pub(super) const MAX_DATAGRAMS: usize = 2048;
/// Flows that they are of at most.
const MAX_FLOWS: usize = 512;
/// Twice as many places as flows, so that a free one is near.
const PLACES: usize = 2 * MAX_FLOWS;
/// Marks the end of a list and a free place.
const NONE: u16 = u16::MAX;
/// The longest datagram that is sent together with others: 1500 bytes without the headers of IPv6 and UDP. A longer
/// one is cut into fragments on most paths, which the kernel does not do with pieces.
const MAX_SEGMENT: usize = 1452;

/// Where a flow goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) exit: Exit,
    pub(super) to: SocketAddr,
    pub(super) from: Option<IpAddr>,
}

struct Flow {
    key: Key,
    first: u16,
    last: u16,
}

struct Entry<T> {
    item: T,
    length: u32,
    /// Nothing may be merged with it.
    is_alone: bool,
    next: u16,
}

/// Waiting datagrams. Its memory is used again.
pub(super) struct Flows<T> {
    entries: Vec<Entry<T>>,
    flows: Vec<Flow>,
    places: Box<[u16]>,
    /// Flows by their exits, once they are sorted.
    order: Vec<u16>,
    /// Whoever chooses addresses does not know which of them share a place.
    salt: u64,
}

/// Datagrams of one flow that leave in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) datagrams: usize,
    /// The size of each but the last one, which may be shorter.
    pub(super) segment: usize,
    first: u16,
    next: u16,
}

impl<T: Copy> Flows<T> {
    pub(super) fn new(salt: u64) -> Self {
        Self {
            entries: Vec::with_capacity(MAX_DATAGRAMS),
            flows: Vec::with_capacity(MAX_FLOWS),
            places: vec![NONE; PLACES].into(),
            order: Vec::with_capacity(MAX_FLOWS),
            salt,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_DATAGRAMS || self.flows.len() >= MAX_FLOWS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a datagram of `length` bytes to the end of its flow. There must be room.
    pub(super) fn push(&mut self, key: Key, item: T, length: usize, is_alone: bool) {
        let entry = u16::try_from(self.entries.len()).expect("room was asked for before");
        let flow = self.flow(key, entry);
        let last = std::mem::replace(&mut self.flows[flow].last, entry);
        if last != entry {
            self.entries[usize::from(last)].next = entry;
        }
        let length = u32::try_from(length).expect("a datagram is shorter than 64 KiB");
        self.entries.push(Entry { item, length, is_alone, next: NONE });
    }

    /// The number of the flow, which begins with `entry` if it is new.
    fn flow(&mut self, key: Key, entry: u16) -> usize {
        let mut place = self.place(&key);
        loop {
            let number = self.places[place];
            if number == NONE {
                let number = self.flows.len();
                self.places[place] = u16::try_from(number).expect("room was asked for before");
                self.flows.push(Flow { key, first: entry, last: entry });
                return number;
            }
            if self.flows[usize::from(number)].key == key {
                return usize::from(number);
            }
            place = (place + 1) % PLACES;
        }
    }

    /// Where the search for a flow begins.
    fn place(&self, key: &Key) -> usize {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let address = match key.to.ip() {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                (bits as u64) ^ ((bits >> 64) as u64).wrapping_mul(ODD)
            }
        };
        let exit = match key.exit {
            Exit::Listener(number) => u64::from(number) << 32,
            Exit::Relay(relay) => u64::from(relay.0) << 16,
        };
        let mixed = (address ^ self.salt).wrapping_mul(ODD) ^ exit ^ u64::from(key.to.port());
        let mixed = (mixed ^ (mixed >> 29) ^ self.salt.rotate_left(32)).wrapping_mul(ODD);
        (mixed >> 40) as usize % PLACES
    }

    /// Puts the flows in the order of their exits.
    pub(super) fn sort(&mut self) {
        self.order.clear();
        self.order.extend((0..).take(self.flows.len()));
        let flows = &self.flows;
        self.order.sort_unstable_by_key(|number| flows[usize::from(*number)].key.exit);
    }

    /// The flows of each exit, after [`Flows::sort`].
    pub(super) fn exits(&self) -> impl Iterator<Item = (Exit, &[u16])> {
        let exit = |number: u16| self.flows[usize::from(number)].key.exit;
        self.order.chunk_by(move |one, other| exit(*one) == exit(*other)).map(move |flows| (exit(flows[0]), flows))
    }

    pub(super) fn key(&self, flow: u16) -> Key {
        self.flows[usize::from(flow)].key
    }

    /// Cuts a flow into runs: of one datagram each unless `together`.
    pub(super) fn runs(&self, flow: u16, together: bool) -> impl Iterator<Item = Run> {
        let mut next = self.flows[usize::from(flow)].first;
        std::iter::from_fn(move || {
            (next != NONE).then(|| {
                let run = self.run(next, together);
                next = run.next;
                run
            })
        })
    }

    fn run(&self, first: u16, together: bool) -> Run {
        let entry = &self.entries[usize::from(first)];
        let segment = entry.length as usize;
        let mut run = Run { datagrams: 1, segment, first, next: entry.next };
        if !together || entry.is_alone || segment == 0 || segment > MAX_SEGMENT {
            return run;
        }
        let mut bytes = segment;
        while run.next != NONE {
            let entry = &self.entries[usize::from(run.next)];
            let length = entry.length as usize;
            // The kernel has no way to say that an empty datagram follows.
            let fits = (1..=segment).contains(&length) && bytes + length <= MAX_PIECE && run.datagrams < MAX_SEGMENTS;
            if !fits || entry.is_alone {
                break;
            }
            run.datagrams += 1;
            run.next = entry.next;
            bytes += length;
            if length < segment {
                break;
            }
        }
        run
    }

    /// What the datagrams of a run are made of.
    pub(super) fn items(&self, run: Run) -> impl Iterator<Item = T> {
        let mut next = run.first;
        (0..run.datagrams).map(move |_| {
            let entry = &self.entries[usize::from(next)];
            next = entry.next;
            entry.item
        })
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        // A free place costs less to write than to look for.
        if !self.flows.is_empty() {
            self.places.fill(NONE);
        }
        self.flows.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::turn::server::RelayId;

    fn key(exit: Exit, port: u16) -> Key {
        Key { exit, to: SocketAddr::new([203, 0, 113, 7].into(), port), from: None }
    }

    /// Everything in the order it leaves: exit, port, and the items of each run.
    fn leave(flows: &mut Flows<usize>, together: bool) -> Vec<(Exit, u16, Vec<usize>)> {
        flows.sort();
        let mut left = Vec::new();
        for (exit, numbers) in flows.exits() {
            for number in numbers {
                assert_eq!(flows.key(*number).exit, exit);
                let port = flows.key(*number).to.port();
                left.extend(flows.runs(*number, together).map(|run| (exit, port, flows.items(run).collect())));
            }
        }
        flows.clear();
        left
    }

    #[test]
    fn datagrams_of_one_flow_leave_together_however_they_came() {
        let mut flows = Flows::new(7);
        let listener = Exit::Listener(0);
        for item in 0..6 {
            flows.push(key(listener, 1000 + (item % 2) as u16), item, 200, false);
        }
        flows.push(key(Exit::Relay(RelayId(4)), 1000), 6, 200, false);
        let mut left = leave(&mut flows, true);
        left.sort();
        let relay = Exit::Relay(RelayId(4));
        assert_eq!(left, [(listener, 1000, vec![0, 2, 4]), (listener, 1001, vec![1, 3, 5]), (relay, 1000, vec![6]),]);
        assert_eq!(leave(&mut flows, true), []);
    }

    #[test]
    fn a_shorter_datagram_ends_a_run_and_a_longer_one_begins_the_next() {
        let mut flows = Flows::new(7);
        for (item, length) in [100, 100, 40, 100, 120, 0, 120].into_iter().enumerate() {
            flows.push(key(Exit::Listener(0), 9), item, length, false);
        }
        let runs: Vec<Vec<usize>> = leave(&mut flows, true).into_iter().map(|(_, _, items)| items).collect();
        assert_eq!(runs, [vec![0, 1, 2], vec![3], vec![4], vec![5], vec![6]]);
    }

    #[test]
    fn what_must_be_alone_or_is_long_or_cannot_be_cut_leaves_alone() {
        let mut flows = Flows::new(7);
        for (item, (length, is_alone)) in
            [(100, false), (100, true), (100, false), (1453, false), (1453, false)].into_iter().enumerate()
        {
            flows.push(key(Exit::Listener(0), 9), item, length, is_alone);
        }
        assert_eq!(leave(&mut flows, true).len(), 5);
        for item in 0..3 {
            flows.push(key(Exit::Listener(0), 9), item, 100, false);
        }
        assert_eq!(leave(&mut flows, false).len(), 3);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_every_flow_keeps_its_order(
            sent in prop::collection::vec((0_u8..3, 0_u16..20, prop_oneof![0_usize..4, Just(1200), Just(200), 0_usize..2000]), 0..MAX_DATAGRAMS),
            salt: u64,
        ) {
            let mut flows = Flows::new(salt);
            let exit = |number: u8| if number == 0 { Exit::Listener(0) } else { Exit::Relay(RelayId(number.into())) };
            for (item, (number, port, length)) in sent.iter().enumerate() {
                prop_assert!(!flows.is_full());
                flows.push(key(exit(*number), *port), item, *length, false);
            }
            let left = leave(&mut flows, true);
            let mut by_flow = std::collections::BTreeMap::<_, Vec<usize>>::new();
            for (exit, port, items) in &left {
                let lengths: Vec<usize> = items.iter().map(|item| sent[*item].2).collect();
                let (last, others) = lengths.split_last().unwrap();
                prop_assert!(others.iter().all(|length| *length == lengths[0]) && *last <= lengths[0]);
                prop_assert!(items.len() <= MAX_SEGMENTS && lengths.iter().sum::<usize>() <= MAX_PIECE);
                prop_assert!(items.len() == 1 || *last > 0);
                by_flow.entry((*exit, *port)).or_default().extend(items);
            }
            let mut expected = std::collections::BTreeMap::<_, Vec<usize>>::new();
            for (item, (number, port, _)) in sent.iter().enumerate() {
                expected.entry((exit(*number), *port)).or_default().push(item);
            }
            prop_assert_eq!(by_flow, expected);
            let mut exits: Vec<Exit> = left.iter().map(|(exit, ..)| *exit).collect();
            exits.dedup();
            let mut unique = exits.clone();
            unique.sort();
            unique.dedup();
            prop_assert_eq!(exits.len(), unique.len());
        }
    }
}
