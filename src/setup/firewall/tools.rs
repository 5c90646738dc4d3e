//! Decides the commands that open the ports on each firewall a host may have. They are shown, never run.

use crate::setup::ports::PortUse;
use crate::sys::ports::Transport;

/// A tool that manages a firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    Ufw,
    Firewalld,
    Nft,
}

impl Tool {
    pub const ALL: [Self; 3] = [Self::Ufw, Self::Firewalld, Self::Nft];

    /// The program that is on the host if the tool is installed.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Ufw => "ufw",
            Self::Firewalld => "firewall-cmd",
            Self::Nft => "nft",
        }
    }

    /// The commands that open `ports`, in order.
    #[must_use]
    pub fn commands(self, ports: &[PortUse]) -> Vec<String> {
        match self {
            Self::Ufw => {
                ports.iter().map(|port| format!("ufw allow {}/{}", range(port, ':'), port.transport)).collect()
            }
            Self::Firewalld => {
                let flags: Vec<String> =
                    ports.iter().map(|port| format!("--add-port={}/{}", range(port, '-'), port.transport)).collect();
                // For good, and at once: a reload would lose what is in the running configuration only.
                ["--permanent ", ""].iter().map(|scope| format!("firewall-cmd {scope}{}", flags.join(" "))).collect()
            }
            Self::Nft => [Transport::Tcp, Transport::Udp]
                .into_iter()
                .filter_map(|transport| {
                    let members: Vec<String> =
                        ports.iter().filter(|port| port.transport == transport).map(|port| range(port, '-')).collect();
                    let set = members.join(", ");
                    (!members.is_empty())
                        .then(|| format!("nft insert rule inet filter input {transport} dport '{{ {set} }}' accept"))
                })
                .collect(),
        }
    }
}

fn range(port: &PortUse, between: char) -> String {
    let (first, last) = (port.ports.start(), port.ports.end());
    if first == last { first.to_string() } else { format!("{first}{between}{last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_opens_every_port() {
        let port = |transport, ports| PortUse { transport, ports, why: "" };
        let ports = [port(Transport::Tcp, 443..=443), port(Transport::Tcp, 80..=80), port(Transport::Udp, 1..=9)];
        assert_eq!(Tool::Ufw.commands(&ports), ["ufw allow 443/tcp", "ufw allow 80/tcp", "ufw allow 1:9/udp"]);
        assert_eq!(
            Tool::Firewalld.commands(&ports),
            [
                "firewall-cmd --permanent --add-port=443/tcp --add-port=80/tcp --add-port=1-9/udp",
                "firewall-cmd --add-port=443/tcp --add-port=80/tcp --add-port=1-9/udp"
            ]
        );
        assert_eq!(
            Tool::Nft.commands(&ports),
            [
                "nft insert rule inet filter input tcp dport '{ 443, 80 }' accept",
                "nft insert rule inet filter input udp dport '{ 1-9 }' accept"
            ]
        );
    }
}
