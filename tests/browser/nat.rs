//! Routers that translate addresses, between the people and the server.

use super::{World, must};

/// How a router chooses the outer port of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nat {
    /// The same for every destination, and who was not sent to may not answer: holes can be punched.
    Cone,
    /// Another one for each destination: what STUN tells is of no use to others.
    Symmetric,
}

impl World {
    /// Puts each of the first two people behind a router of their own, whose outer address is the one they had. They
    /// are in 192.168.1.0/24 and 192.168.2.0/24 from now on, which nobody else has a route to.
    ///
    /// `rule` is what the router lets out, as nftables words.
    pub(super) fn put_behind_routers(&self, nat: Nat, rule: &str) {
        for (number, (person, router)) in self.people().iter().zip(self.routers()).enumerate() {
            let number = number + 1;
            let (outer, gateway) = (format!("10.77.{number}.2/24"), format!("10.77.{number}.1"));
            let (inner, own) = (format!("192.168.{number}.1"), format!("192.168.{number}.2"));
            must("ip", &["netns", "add", &router]);
            must("ip", &["-n", person, "link", "set", "eth0", "netns", &router, "name", "outer"]);
            must(
                "ip",
                &["link", "add", "inner", "netns", &router, "type", "veth", "peer", "name", "eth0", "netns", person],
            );
            must("ip", &["-n", &router, "address", "add", &outer, "dev", "outer"]);
            must("ip", &["-n", &router, "address", "add", &format!("{inner}/24"), "dev", "inner"]);
            must("ip", &["-n", person, "address", "add", &format!("{own}/24"), "dev", "eth0"]);
            for (network, device) in
                [(router.as_str(), "lo"), (&router, "outer"), (&router, "inner"), (person.as_str(), "eth0")]
            {
                must("ip", &["-n", network, "link", "set", device, "up"]);
            }
            must("ip", &["-n", &router, "route", "add", "default", "via", &gateway]);
            must("ip", &["-n", person, "route", "add", "default", "via", &inner]);
            must("ip", &["netns", "exec", &router, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
            let manner = match nat {
                Nat::Cone => "masquerade",
                Nat::Symmetric => "masquerade random,fully-random",
            };
            // What comes unasked is dropped: answered or tracked, it would take the port that a hole needs.
            let rules = format!(
                "table ip nat {{
                    chain out {{ type nat hook postrouting priority srcnat; oif outer {manner}; }}
                }}
                table inet firewall {{
                    chain own {{ type filter hook input priority 0; policy drop; ct state established,related accept; }}
                    chain through {{ type filter hook forward priority 0; policy drop;
                        ct state established,related accept; iif inner oif outer {rule}; }}
                }}"
            );
            must("ip", &["netns", "exec", &router, "nft", &rules]);
        }
    }
}
