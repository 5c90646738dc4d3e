//! Decides which peers the relay may send to.
//!
//! A TURN server is a way into its own network for everyone with a password, so peers are denied by default. Rules in
//! order: the relay's own addresses (a matter of live allocations, decided by the caller), the *hard* table with all
//! forms that hide another address and the broadcasts of this host's networks, which nothing overrides, the operator's
//! allow list, this host's other addresses, the *soft* table that `lan` opens.
//! The tables follow the IANA special-purpose address registries; 6to4 and Teredo are forbidden by RFC 8656,
//! section 21.4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::{Network, PeerMode};

/// Never relayed to, whatever the operator allows.
const HARD_V4: &[([u8; 4], u8)] = &[
    ([0, 0, 0, 0], 8),          // this host
    ([127, 0, 0, 0], 8),        // loopback
    ([169, 254, 0, 0], 16),     // link-local; cloud metadata
    ([100, 100, 100, 200], 32), // cloud metadata
    ([168, 63, 129, 16], 32),   // a cloud's host endpoint, on a public address
    ([192, 0, 0, 0], 24),       // IETF protocol assignments; cloud metadata
    ([192, 88, 99, 0], 24),     // 6to4 relay anycast
    ([224, 0, 0, 0], 4),        // multicast
    ([240, 0, 0, 0], 4),        // reserved; broadcast
];

/// Relayed to where the operator means a LAN, or lists them.
const SOFT_V4: &[([u8; 4], u8)] = &[
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10), // carrier-grade NAT and overlay networks
    ([172, 16, 0, 0], 12),
    ([192, 0, 2, 0], 24), // documentation
    ([192, 31, 196, 0], 24),
    ([192, 52, 193, 0], 24),
    ([192, 168, 0, 0], 16),
    ([192, 175, 48, 0], 24),
    ([198, 18, 0, 0], 15),   // benchmarking
    ([198, 51, 100, 0], 24), // documentation
    ([203, 0, 113, 0], 24),  // documentation
];

const HARD_V6: &[(Ipv6Addr, u8)] = &[
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96), // unspecified, loopback, IPv4-compatible
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96), // IPv4-mapped
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96), // IPv4-translated
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96), // NAT64
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48), // NAT64, local use
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 63), // discard-only, dummy
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // IETF assignments, Teredo among them
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16), // segment routing
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128), // cloud metadata
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128), // cloud metadata
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10), // link-local
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10), // site-local
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8), // multicast
];

const SOFT_V6: &[(Ipv6Addr, u8)] = &[
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),  // unique local
];

/// What the internet uses of IPv6; everything else is special, or not assigned yet.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Ports that belong to services which answer a stray datagram with many, or must not hear one at all.
const DENIED_PORTS: &[u16] = &[1900, 3389, 5060, 5353, 11211];
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// The operator's peer policy.
#[derive(Debug, Clone)]
pub struct PeerPolicy {
    mode: PeerMode,
    allowed: Vec<Network>,
    /// Addresses of this host: what listens there trusts its neighbours.
    host: Vec<IpAddr>,
    /// Broadcast addresses of this host's networks.
    broadcasts: Vec<IpAddr>,
    /// An address that is let through against all rules, to see who notices.
    #[cfg(any(test, feature = "faults"))]
    hole: Option<IpAddr>,
}

impl PeerPolicy {
    /// A policy for a host with the addresses `host`, in networks with these `broadcasts`.
    #[must_use]
    pub fn new(mode: PeerMode, allowed: Vec<Network>, host: Vec<IpAddr>, broadcasts: Vec<IpAddr>) -> Self {
        Self {
            mode,
            allowed,
            host,
            broadcasts,
            #[cfg(any(test, feature = "faults"))]
            hole: None,
        }
    }

    /// The same with a hole in it.
    #[cfg(any(test, feature = "faults"))]
    pub(crate) fn weakened(mut self, hole: IpAddr) -> Self {
        self.hole = Some(hole);
        self
    }

    /// Whether the relay may send to `address`, which is none of its own.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        #[cfg(any(test, feature = "faults"))]
        if self.hole == Some(address) {
            return true;
        }
        if self.broadcasts.contains(&address) {
            return false;
        }
        match address {
            IpAddr::V4(v4) => self.allows_v4(v4),
            IpAddr::V6(v6) => self.allows_v6(v6),
        }
    }

    /// Whether the relay may send to this port of an allowed address.
    #[must_use]
    pub fn allows_port(port: u16) -> bool {
        port >= FIRST_UNPRIVILEGED_PORT && !DENIED_PORTS.contains(&port)
    }

    fn allows_v4(&self, address: Ipv4Addr) -> bool {
        let number = u32::from(address);
        let within = |table: &[([u8; 4], u8)]| {
            table.iter().any(|(prefix, bits)| same_v4(number, u32::from(Ipv4Addr::from(*prefix)), *bits))
        };
        if within(HARD_V4) {
            return false;
        }
        self.is_listed(IpAddr::V4(address)) || self.mode_allows(IpAddr::V4(address), within(SOFT_V4))
    }

    fn allows_v6(&self, address: Ipv6Addr) -> bool {
        let number = u128::from(address);
        let within =
            |table: &[(Ipv6Addr, u8)]| table.iter().any(|(prefix, bits)| same_v6(number, u128::from(*prefix), *bits));
        // ISATAP hides an IPv4 address in the interface identifier.
        let hides_denied = isatap(address).is_some_and(|hidden| !self.allows(hidden.into()));
        if within(HARD_V6) || hides_denied {
            return false;
        }
        let is_soft = within(SOFT_V6);
        let is_global = same_v6(number, u128::from(GLOBAL_V6.0), GLOBAL_V6.1);
        self.is_listed(IpAddr::V6(address))
            || ((is_soft || is_global) && self.mode_allows(IpAddr::V6(address), is_soft))
    }

    fn mode_allows(&self, address: IpAddr, is_soft: bool) -> bool {
        // A LAN is for its other hosts: this one's services are opened by an operator who lists them.
        if self.host.contains(&address) {
            return false;
        }
        match self.mode {
            PeerMode::Itself | PeerMode::Custom => false,
            PeerMode::Public => !is_soft,
            PeerMode::Lan => true,
        }
    }

    fn is_listed(&self, address: IpAddr) -> bool {
        // `self` is a promise that nothing but the own clients is reached.
        self.mode != PeerMode::Itself && self.allowed.iter().any(|network| contains(network, address))
    }
}

fn contains(network: &Network, address: IpAddr) -> bool {
    match (network.address, address) {
        (IpAddr::V4(prefix), IpAddr::V4(v4)) => same_v4(v4.into(), prefix.into(), network.prefix),
        (IpAddr::V6(prefix), IpAddr::V6(v6)) => same_v6(v6.into(), prefix.into(), network.prefix),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

fn same_v4(one: u32, other: u32, bits: u8) -> bool {
    (one ^ other).checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
}

fn same_v6(one: u128, other: u128, bits: u8) -> bool {
    (one ^ other).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
}

/// The address inside an ISATAP interface identifier, see RFC 5214, section 6.1.
fn isatap(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let is_isatap = matches!(octets[8], 0 | 2) && octets[9..12] == [0, 0x5e, 0xfe];
    is_isatap.then(|| Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MODES: [PeerMode; 4] = [PeerMode::Itself, PeerMode::Public, PeerMode::Lan, PeerMode::Custom];

    fn policy(mode: PeerMode, allowed: &[&str]) -> PeerPolicy {
        let network = |text: &&str| {
            let (address, prefix) = text.split_once('/').unwrap();
            Network { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
        };
        PeerPolicy::new(
            mode,
            allowed.iter().map(network).collect(),
            vec!["192.168.7.3".parse().unwrap(), "127.0.0.1".parse().unwrap(), "8.8.4.4".parse().unwrap()],
            vec!["192.168.7.255".parse().unwrap()],
        )
    }

    fn allows(policy: &PeerPolicy, address: &str) -> bool {
        policy.allows(address.parse().unwrap())
    }

    #[test]
    fn what_is_hard_is_denied_in_every_mode_even_if_it_is_listed() {
        for mode in MODES {
            let policy = policy(mode, &["0.0.0.0/0", "::/0"]);
            for address in [
                "0.0.0.0",
                "127.0.0.1",
                "127.8.8.8",
                "169.254.169.254",
                "100.100.100.200",
                "168.63.129.16",
                "192.0.0.192",
                "192.88.99.1",
                "224.0.0.1",
                "255.255.255.255",
                "192.168.7.255",
                "::",
                "::1",
                "::127.0.0.1",
                "::ffff:127.0.0.1",
                "::ffff:8.8.8.8",
                "::ffff:0:8.8.8.8",
                "64:ff9b::7f00:1",
                "64:ff9b:1::1",
                "100::1",
                "2001:0:1::1",
                "2002:7f00:1::",
                "5f00::1",
                "fd00:ec2::254",
                "fe80::1",
                "fec0::1",
                "ff02::1",
                "2600::5efe:7f00:1",
            ] {
                assert!(!allows(&policy, address), "{address} in {mode:?}");
            }
        }
    }

    #[test]
    fn private_networks_are_for_lan_or_the_list() {
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.254",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.2.2",
            "fd00::1",
            "2001:db8::1",
        ] {
            assert!(!allows(&policy(PeerMode::Public, &[]), address), "{address}");
            assert!(allows(&policy(PeerMode::Lan, &[]), address), "{address}");
            assert!(allows(&policy(PeerMode::Public, &["0.0.0.0/0", "::/0"]), address), "{address}");
        }
        assert!(allows(&policy(PeerMode::Custom, &["192.168.9.0/24"]), "192.168.9.4"));
        assert!(!allows(&policy(PeerMode::Custom, &["192.168.9.0/24"]), "192.168.8.4"));
    }

    #[test]
    fn another_address_of_this_host_is_for_the_list_alone() {
        for address in ["192.168.7.3", "8.8.4.4"] {
            for mode in MODES {
                assert!(!allows(&policy(mode, &[]), address), "{address} in {mode:?}");
                let is_listed = allows(&policy(mode, &["192.168.7.0/24", "8.8.4.4/32"]), address);
                assert_eq!(is_listed, mode != PeerMode::Itself, "{address} in {mode:?}");
            }
        }
        assert!(allows(&policy(PeerMode::Lan, &[]), "192.168.7.4"));
    }

    #[test]
    fn the_internet_is_for_public_and_lan() {
        for address in ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "203.0.114.1"] {
            let allowed: Vec<bool> = MODES.iter().map(|mode| allows(&policy(*mode, &[]), address)).collect();
            assert_eq!(allowed, [false, true, true, false], "{address}");
        }
        // Not assigned: nothing of the internet is there.
        assert!(!allows(&policy(PeerMode::Public, &[]), "4000::1"));
    }

    #[test]
    fn ports_of_other_services_are_denied() {
        let denied: Vec<u16> = [0, 53, 123, 1023, 1900, 11211].to_vec();
        assert!(denied.into_iter().all(|port| !PeerPolicy::allows_port(port)));
        assert!([1024, 3478, 49160, 65535].into_iter().all(PeerPolicy::allows_port));
    }

    proptest! {
        #[test]
        fn no_encoding_of_a_hard_address_gets_through(index in 0..HARD_V4.len(), host in any::<u32>()) {
            let (prefix, bits) = HARD_V4[index];
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            let v4 = Ipv4Addr::from((u32::from(Ipv4Addr::from(prefix)) & mask) | (host & !mask));
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let forms = [
                v4.to_ipv6_mapped(),
                v4.to_ipv6_compatible(),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !high, !low),
                Ipv6Addr::new(0x2606, 0, 0, 0, 0, 0x5efe, high, low),
            ];
            for mode in MODES {
                let policy = policy(mode, &["0.0.0.0/0", "::/0"]);
                prop_assert!(!policy.allows(v4.into()));
                for form in forms {
                    prop_assert!(!policy.allows(form.into()), "{form} in {mode:?}");
                }
            }
        }
    }
}
