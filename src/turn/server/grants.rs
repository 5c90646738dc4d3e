//! What one allocation may reach: its permissions and channels, in short sorted lists.
//!
//! There are at most 128 of each and most often one, so a list costs less than a tree, in memory and in time. What has
//! expired is passed over when it is looked for, and leaves when something new comes.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::settings::Reach;

/// Lists grow one by one up to here, and by doubling then: most allocations have a permission or two.
const GROWS_SLOWLY: usize = 4;

/// That an allocation may exchange data with an address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permission {
    pub(super) peer: IpAddr,
    pub(super) reach: Reach,
    pub(super) expires_at: Instant,
}

/// The permissions of an allocation, sorted by peer.
#[derive(Default)]
pub(super) struct Permissions(Vec<Permission>);

impl Permissions {
    pub(super) fn find(&self, peer: IpAddr, now: Instant) -> Option<&Permission> {
        let place = self.place(peer).ok()?;
        self.0.get(place).filter(|permission| permission.expires_at > now)
    }

    /// Installs a permission, or extends it.
    pub(super) fn insert(&mut self, permission: Permission) {
        match self.place(permission.peer) {
            Ok(place) => self.0[place] = permission,
            Err(place) => {
                make_room(&mut self.0);
                self.0.insert(place, permission);
            }
        }
    }

    /// How many there would be with these.
    pub(super) fn count_with(&self, peers: &[IpAddr]) -> usize {
        self.0.len() + peers.iter().filter(|peer| self.place(**peer).is_err()).count()
    }

    /// Keeps those that `judge` keeps; it may change what they reach.
    pub(super) fn retain(&mut self, judge: impl FnMut(&mut Permission) -> bool) {
        self.0.retain_mut(judge);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Permission> {
        self.0.iter()
    }

    fn place(&self, peer: IpAddr) -> Result<usize, usize> {
        self.0.binary_search_by(|permission| permission.peer.cmp(&peer))
    }
}

/// A number that stands for a peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    pub(super) number: u16,
    pub(super) peer: SocketAddr,
    pub(super) expires_at: Instant,
}

/// The channels of an allocation: sorted by number, and their places sorted by peer.
#[derive(Default)]
pub(super) struct Channels {
    by_number: Vec<Channel>,
    by_peer: Vec<u8>,
}

impl Channels {
    pub(super) fn find(&self, number: u16, now: Instant) -> Option<&Channel> {
        let place = self.place(number).ok()?;
        self.by_number.get(place).filter(|channel| channel.expires_at > now)
    }

    /// The channel that `peer` is bound to.
    pub(super) fn to(&self, peer: SocketAddr, now: Instant) -> Option<&Channel> {
        let channel = |place: &u8| &self.by_number[usize::from(*place)];
        let place = self.by_peer.binary_search_by(|place| channel(place).peer.cmp(&peer)).ok()?;
        Some(channel(&self.by_peer[place])).filter(|channel| channel.expires_at > now)
    }

    /// Binds a channel, or extends it. No other number may be bound to its peer.
    pub(super) fn insert(&mut self, channel: Channel) {
        match self.place(channel.number) {
            Ok(place) => self.by_number[place] = channel,
            Err(place) => {
                make_room(&mut self.by_number);
                self.by_number.insert(place, channel);
            }
        }
        self.sort_peers();
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(super) fn retain(&mut self, is_kept: impl FnMut(&Channel) -> bool) {
        let before = self.by_number.len();
        self.by_number.retain(is_kept);
        if self.by_number.len() != before {
            self.sort_peers();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.by_number.iter()
    }

    fn place(&self, number: u16) -> Result<usize, usize> {
        self.by_number.binary_search_by_key(&number, |channel| channel.number)
    }

    fn sort_peers(&mut self) {
        let count = u8::try_from(self.by_number.len()).expect("an allocation has at most 128 channels");
        self.by_peer.clear();
        self.by_peer.reserve_exact(self.by_number.len());
        self.by_peer.extend(0..count);
        self.by_peer.sort_unstable_by_key(|place| self.by_number[usize::from(*place)].peer);
    }
}

fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() && list.len() < GROWS_SLOWLY {
        list.reserve_exact(1);
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
            let (mut permissions, mut channels) = (Permissions::default(), Channels::default());
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
