//! Hosts on which each firewall really filters: SSH gets through, and nothing else.

use super::common::{has_program, skip};
use super::host::{HOST, Host, TCP, UDP};

/// A host that `script` has set up; `None` where that cannot be.
pub(crate) fn host(programs: &[&str], script: &str) -> Option<Host> {
    let needed = ["ip", "nft", "iptables", "unshare", "nsenter"];
    if !needed.iter().chain(programs).all(|program| has_program(program)) {
        return None;
    }
    let host = nix::unistd::geteuid().is_root().then(|| Host::new(script)).flatten();
    if host.is_none() {
        skip("a host of its own needs root and namespaces");
    }
    host
}

/// What gets through from the start.
pub(crate) fn ssh() -> Vec<String> {
    HOST.iter().map(|address| format!("tcp 22 {address}")).collect()
}

/// What gets through to an open service.
pub(crate) fn everything() -> Vec<String> {
    let each = |address: &str| {
        let tcp = TCP.map(|port| format!("tcp {port} {address}"));
        tcp.into_iter().chain(UDP.map(|port| format!("udp {port} {address}"))).collect::<Vec<_>>()
    };
    HOST.iter().flat_map(|address| each(address)).collect()
}

/// As many do it: states first, loopback, pings, SSH; the rest falls to the policy of a chain of its own.
pub(crate) const NFTABLES: &str = r#"
mkdir -p /etc/nftables.d
cat >/etc/nftables.conf <<'END'
flush ruleset
table inet filter {
    set blocked { type ipv4_addr; flags interval; elements = { 203.0.113.0/24 } }
    chain outside {
        ip saddr @blocked drop
        tcp dport 22 accept
        counter drop
    }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state vmap { established : accept, related : accept, invalid : drop }
        iifname "lo" accept
        meta l4proto { icmp, ipv6-icmp } accept
        iifname "wire" jump outside
    }
}
table inet mine {
    chain second { type filter hook input priority 10; policy accept; ct state established accept; meta l4proto udp udp dport 40000-60000 reject; }
}
include "/etc/nftables.d/*.nft"
END
nft -f /etc/nftables.conf
"#;

/// As Oracle's images have it for IPv4, and a policy that drops for IPv6.
pub(crate) const IPTABLES: &str = r"
mkdir -p /etc/iptables
for tool in iptables ip6tables; do
    $tool -A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
    $tool -A INPUT -i lo -j ACCEPT
    $tool -A INPUT -p icmp -j ACCEPT
    $tool -A INPUT -p ipv6-icmp -j ACCEPT
    $tool -A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT
done
iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited
ip6tables -P INPUT DROP
iptables-save >/etc/iptables/rules.v4
ip6tables-save >/etc/iptables/rules.v6
chmod 640 /etc/iptables/rules.v4
# As after a start of the machine, which makes chains that rules alone do not.
iptables-restore </etc/iptables/rules.v4
ip6tables-restore </etc/iptables/rules.v6
";

/// The files that ufw comes with lack rules that it writes itself; a reload has them all.
pub(crate) const UFW: &str =
    "ufw --force enable >/dev/null; ufw allow 22/tcp >/dev/null; ufw deny 9999/udp >/dev/null; ufw reload >/dev/null";

/// A bus of its own that starts no services, and firewalld on it.
pub(crate) const FIREWALLD: &str = r#"
mkdir -p /run/dbus
cat >/run/bus.conf <<'END'
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow send_type="method_call"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/>
    <allow receive_type="error"/><allow receive_type="signal"/>
  </policy>
</busconfig>
END
dbus-daemon --config-file=/run/bus.conf --nofork --nopidfile >/dev/null 2>&1 &
until [ -S /run/dbus/system_bus_socket ]; do read -r -t 0.1 _ <> <(:) || true; done
firewalld --nofork --nopid >/dev/null 2>&1 &
echo $! >/run/firewalld.number
tries=0
until firewall-cmd --state >/dev/null 2>&1; do tries=$((tries + 1)); [ $tries -lt 100 ]; done
firewall-cmd --zone=public --add-port=50000-50010/udp >/dev/null
"#;
