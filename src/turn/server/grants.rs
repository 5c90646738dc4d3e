//! What one allocation may reach: its permissions and channels, in short sorted lists.
//!
//! There are at most 128 of each and most often one, which is kept in place: with ten thousand allocations every piece of
//! memory that a packet needs is a wait for it. What has expired is passed over when it is looked for, and leaves when
//! something new comes.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::settings::Reach;

/// Up to so many channels, looking through all of them is as fast as knowing their order by peer.
const FEW: usize = 8;

/// A list that needs no memory of its own for one member.
enum List<T> {
    Empty,
    One(T),
    Many(Vec<T>),
}

impl<T> List<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            Self::Empty => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::Empty => &mut [],
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => many,
        }
    }

    fn insert(&mut self, place: usize, member: T) {
        *self = match std::mem::replace(self, Self::Empty) {
            Self::Empty => Self::One(member),
            Self::One(one) => Self::Many(if place == 0 { vec![member, one] } else { vec![one, member] }),
            Self::Many(mut many) => {
                many.insert(place, member);
                Self::Many(many)
            }
        };
    }

    fn retain(&mut self, mut is_kept: impl FnMut(&mut T) -> bool) {
        match self {
            Self::Empty => {}
            Self::One(one) => {
                if !is_kept(one) {
                    *self = Self::Empty;
                }
            }
            Self::Many(many) => many.retain_mut(is_kept),
        }
    }
}

/// That an allocation may exchange data with an address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permission {
    pub(super) peer: IpAddr,
    pub(super) reach: Reach,
    pub(super) expires_at: Instant,
}

/// The permissions of an allocation, sorted by peer.
pub(super) struct Permissions(List<Permission>);

impl Permissions {
    pub(super) fn new() -> Self {
        Self(List::Empty)
    }

    pub(super) fn find(&self, peer: IpAddr, now: Instant) -> Option<&Permission> {
        let place = self.place(peer).ok()?;
        self.0.as_slice().get(place).filter(|permission| permission.expires_at > now)
    }

    /// Installs a permission, or extends it.
    pub(super) fn insert(&mut self, permission: Permission) {
        match self.place(permission.peer) {
            Ok(place) => self.0.as_mut_slice()[place] = permission,
            Err(place) => self.0.insert(place, permission),
        }
    }

    /// How many there would be with these.
    pub(super) fn count_with(&self, peers: &[IpAddr]) -> usize {
        self.0.as_slice().len() + peers.iter().filter(|peer| self.place(**peer).is_err()).count()
    }

    /// Keeps those that `judge` keeps; it may change what they reach.
    pub(super) fn retain(&mut self, judge: impl FnMut(&mut Permission) -> bool) {
        self.0.retain(judge);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Permission> {
        self.0.as_slice().iter()
    }

    fn place(&self, peer: IpAddr) -> Result<usize, usize> {
        self.0.as_slice().binary_search_by(|permission| permission.peer.cmp(&peer))
    }
}

/// A number that stands for a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) peer: SocketAddr,
    pub(super) expires_at: Instant,
}

/// The channels of an allocation: sorted by number, and, unless they are few, their places sorted by peer.
pub(super) struct Channels {
    by_number: List<Channel>,
    by_peer: Box<[u8]>,
}

impl Channels {
    pub(super) fn new() -> Self {
        Self { by_number: List::Empty, by_peer: Box::default() }
    }

    pub(super) fn find(&self, number: u16, now: Instant) -> Option<&Channel> {
        let place = self.place(number).ok()?;
        self.by_number.as_slice().get(place).filter(|channel| channel.expires_at > now)
    }

    /// The channel that `peer` is bound to.
    pub(super) fn to(&self, peer: SocketAddr, now: Instant) -> Option<&Channel> {
        let channels = self.by_number.as_slice();
        let found = if self.by_peer.is_empty() {
            channels.iter().find(|channel| channel.peer == peer)
        } else {
            let channel = |place: &u8| &channels[usize::from(*place)];
            let place = self.by_peer.binary_search_by(|place| channel(place).peer.cmp(&peer)).ok()?;
            Some(channel(&self.by_peer[place]))
        };
        found.filter(|channel| channel.expires_at > now)
    }

    /// Binds a channel, or extends it. No other number may be bound to its peer.
    pub(super) fn insert(&mut self, channel: Channel) {
        match self.place(channel.number) {
            Ok(place) => self.by_number.as_mut_slice()[place] = channel,
            Err(place) => self.by_number.insert(place, channel),
        }
        self.sort_peers();
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.as_slice().len()
    }

    pub(super) fn retain(&mut self, is_kept: impl Fn(&Channel) -> bool) {
        let before = self.len();
        self.by_number.retain(|channel| is_kept(channel));
        if self.len() != before {
            self.sort_peers();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.by_number.as_slice().iter()
    }

    fn place(&self, number: u16) -> Result<usize, usize> {
        self.by_number.as_slice().binary_search_by_key(&number, |channel| channel.number)
    }

    fn sort_peers(&mut self) {
        let channels = self.by_number.as_slice();
        let count = u8::try_from(channels.len()).expect("an allocation has at most 128 channels");
        let mut places: Vec<u8> = if channels.len() > FEW { (0..count).collect() } else { Vec::new() };
        places.sort_unstable_by_key(|place| channels[usize::from(*place)].peer);
        self.by_peer = places.into();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::sys::clock;

    fn peer(number: u8) -> SocketAddr {
        SocketAddr::new([9, 9, 9, number / 2].into(), 5000 + u16::from(number % 2))
    }

    proptest! {
        #[test]
        fn lists_find_what_a_map_finds(steps in proptest::collection::vec((0_u8..40, 0_u8..40, 1_u64..20), 1..200)) {
            let start = clock::now().mono;
            let (mut permissions, mut channels) = (Permissions::new(), Channels::new());
            let (mut permitted, mut bound) = (BTreeMap::new(), BTreeMap::<u16, (SocketAddr, Instant)>::new());
            for (step, (one, other, lasts)) in (0..).zip(steps) {
                let now = start + Duration::from_secs(step);
                let expires_at = now + Duration::from_secs(lasts);
                let address = peer(one).ip();
                permissions.insert(Permission { peer: address, reach: Reach::Peer, expires_at });
                permitted.insert(address, expires_at);
                let number = 0x4000 + u16::from(other);
                bound.retain(|_, (_, until)| *until > now);
                channels.retain(|channel| channel.expires_at > now);
                let is_other = |(bound, (to, _)): (&u16, &(SocketAddr, Instant))| (*to == peer(one)) != (*bound == number);
                if !bound.iter().any(is_other) || bound.is_empty() {
                    channels.insert(Channel { number, peer: peer(one), expires_at });
                    bound.insert(number, (peer(one), expires_at));
                }
                for number in 0..40 {
                    let address = peer(number).ip();
                    let wanted = permitted.get(&address).is_some_and(|until| *until > now);
                    prop_assert_eq!(permissions.find(address, now).is_some(), wanted);
                    let by_peer = bound.iter().find(|(_, (to, _))| *to == peer(number)).map(|(number, _)| *number);
                    prop_assert_eq!(channels.to(peer(number), now).map(|channel| channel.number), by_peer);
                    let by_number = bound.get(&(0x4000 + u16::from(number))).map(|(to, _)| *to);
                    let found = channels.find(0x4000 + u16::from(number), now).map(|channel| channel.peer);
                    prop_assert_eq!(found, by_number);
                }
            }
        }
    }
}
