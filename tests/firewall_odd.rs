//! Firewalls of odd shapes, each really filtering: several tables at once, rules beyond what iptables can say, chains that
//! are gone to, containers' and fail2ban's chains, zones by source, policies, families that are left out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[path = "common/firewalls.rs"]
#[allow(dead_code, reason = "not every test uses every helper")]
mod firewalls;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/host.rs"]
mod host;

use firewalls::{FIREWALLD, UFW, everything, host, ssh};
use host::{Host, assert_same};

fn changes(told: &str) -> &str {
    told.lines().find(|line| line.ends_with("change") || line.ends_with("changes")).unwrap_or(told)
}

/// Opened, every port gets through; a second time nothing is done; closed, all is as it was.
#[track_caller]
fn opens_and_closes(host: &Host) -> String {
    // Of a zone's file that is the operator's own, firewalld itself keeps the version before the last change beside it.
    let dump = || host.dump().lines().filter(|line| !line.ends_with(".xml.old")).collect::<Vec<_>>().join("\n");
    let before = dump();
    let reached = host.reached();
    let (code, opened) = host.rtcctl(&["firewall", "open"]);
    assert_eq!(code, 0, "{opened}");
    assert_eq!(host.reached(), everything(), "{opened}");
    let (code, told) = host.rtcctl(&["firewall", "status"]);
    assert!(code == 0 && told.contains("closed       -"), "{told}");
    let (code, again) = host.rtcctl(&["firewall", "open"]);
    assert_eq!((code, changes(&again)), (0, "0 changes"), "{again}");
    let (code, told) = host.rtcctl(&["firewall", "close"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(host.reached(), reached);
    assert_same(&dump(), &before);
    opened
}

/// Tables called as iptables would call them, with rules that it has no words for; a chain before them; one of a device.
const TABLES: &str = "
nft -f - <<'END'
table ip filter {
    chain INPUT {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iif lo accept
        icmp type echo-request accept
        tcp dport vmap { 22 : accept, 1000-2000 : drop }
        meta l4proto udp drop
    }
}
table ip6 filter {
    chain INPUT {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
        tcp dport vmap { 22 : accept }
    }
}
table inet before {
    chain early {
        type filter hook input priority -5; policy accept;
        ct state new tcp dport != 22 drop
        ct state new udp dport != { 53, 123 } counter reject
    }
}
table netdev card {
    chain in {
        type filter hook ingress device \"wire\" priority 0; policy accept;
        udp dport { 3478, 50000-60000 } drop
    }
}
table inet f2b-table {
    set addr-set-sshd { type ipv4_addr; elements = { 203.0.113.9 } }
    chain f2b-chain {
        type filter hook input priority -1; policy accept;
        tcp dport 22 ip saddr @addr-set-sshd reject
    }
}
END
";

#[test]
fn every_table_of_nftables_that_decides_lets_callers_in() {
    let Some(host) = host(&[], TABLES) else { return };
    assert_eq!(host.reached(), ssh(), "before");
    let opened = opens_and_closes(&host);
    for chain in ["ip filter INPUT", "ip6 filter INPUT", "inet before early", "netdev card in"] {
        assert!(opened.contains(&format!("rule {chain} ")), "{chain}: {opened}");
    }
    assert!(!opened.contains("f2b"), "it is in nobody's way: {opened}");
}

/// From a chain that was gone to, nothing comes back to the rules after the one that went there.
const GOES: &str = "
for tool in iptables ip6tables; do
    $tool -P INPUT DROP
    $tool -N OUTSIDE
    $tool -N f2b-sshd
    $tool -A f2b-sshd -j RETURN
    $tool -A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd
    $tool -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    $tool -A INPUT ! -i lo -g OUTSIDE
    $tool -A INPUT -j ACCEPT
    $tool -A OUTSIDE -p ipv6-icmp -j ACCEPT
    $tool -A OUTSIDE -p tcp -m tcp --dport 22 -j ACCEPT
    $tool -A OUTSIDE -p tcp --dport 1024: -j RETURN
    $tool -A OUTSIDE -j DROP
    $tool -P FORWARD DROP
    $tool -N DOCKER-USER
    $tool -A DOCKER-USER -j RETURN
    $tool -A FORWARD -j DOCKER-USER
done
";

#[test]
fn iptables_that_goes_to_another_chain_lets_callers_in_before_it_does() {
    let Some(host) = host(&["ip6tables"], GOES) else { return };
    assert_eq!(host.reached(), ssh(), "before");
    let opened = opens_and_closes(&host);
    assert!(!opened.contains("DOCKER") && !opened.contains("f2b"), "{opened}");
}

#[test]
fn chains_of_containers_alone_filter_nothing_of_ours() {
    let script = "for tool in iptables ip6tables; do
            $tool -P FORWARD DROP
            $tool -N DOCKER
            $tool -N DOCKER-USER
            $tool -A FORWARD -j DOCKER-USER
            $tool -A FORWARD -o docker0 -j DOCKER
            $tool -t nat -N DOCKER
            $tool -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
        done";
    let Some(host) = host(&["ip6tables"], script) else { return };
    let before = host.dump();
    let (code, told) = host.rtcctl(&["firewall", "open"]);
    assert_eq!((code, changes(&told)), (0, "0 changes"), "{told}");
    assert_same(&host.dump(), &before);
    assert_eq!(host.rtcctl(&["firewall", "status"]).0, 0);
    assert_eq!(host.reached(), everything());
}

#[test]
#[ignore = "ufw's commands take seconds each"]
fn what_ufw_was_told_to_deny_and_a_family_that_it_drops_are_told() {
    let told_to = format!("{UFW}\nufw default reject incoming >/dev/null; ufw deny 3478/udp >/dev/null");
    let Some(host) = host(&["ufw"], &told_to) else { return };
    let before = host.dump();
    assert_eq!(host.rtcctl(&["firewall", "open"]).0, 0);
    // The operator's own word comes first, and stays.
    let (code, told) = host.rtcctl(&["firewall", "status"]);
    assert!(code == 10 && told.contains("closed       3478/udp") && told.contains("take out your own rule"), "{told}");
    let lost: Vec<String> = everything().into_iter().filter(|one| !host.reached().contains(one)).collect();
    assert_eq!(lost, ["udp 3478 10.99.0.1", "udp 3478 fd99::1"]);
    assert_eq!(host.rtcctl(&["firewall", "close"]).0, 0);
    assert_same(&host.dump(), &before);
    drop(host);

    // It drops that family whole, also what goes out; SSH gets through here only so that this test does.
    let script = format!(
        "sed -i s/^IPV6=.*/IPV6=no/ /etc/default/ufw; {UFW}
         ip6tables -I INPUT -p tcp --dport 22 -j ACCEPT; ip6tables -I INPUT -p ipv6-icmp -j ACCEPT; ip6tables -P OUTPUT ACCEPT"
    );
    let Some(host) = firewalls::host(&["ufw"], &script) else { return };
    let (code, told) = host.rtcctl(&["firewall", "open"]);
    assert!(code == 0 && told.contains("ufw drops all IPv6 on this host"), "{told}");
    let by_ipv4 = |one: &String| one.contains("10.99.0.1");
    assert_eq!(
        host.reached().into_iter().filter(by_ipv4).collect::<Vec<_>>(),
        everything().into_iter().filter(by_ipv4).collect::<Vec<_>>()
    );
}

#[test]
#[ignore = "firewalld's commands take seconds each"]
fn zones_of_firewalld_are_those_that_callers_come_in_by_and_others_are_told() {
    // What is said on the way is not for whoever waits for this to end.
    let quiet = |script: &str| format!("{FIREWALLD}\nexec 3>&1 >/dev/null 2>&1\n{script}\nexec 1>&3");
    let programs = ["firewalld", "firewall-cmd", "dbus-daemon"];
    let other_zone = quiet(
        "firewall-cmd --permanent --zone=external --add-interface=wire
         firewall-cmd --permanent --zone=external --add-interface=none
         firewall-cmd --zone=external --add-interface=wire
         firewall-cmd --set-default-zone=drop",
    );
    let Some(host) = host(&programs, &other_zone) else { return };
    assert_eq!(host.reached(), ssh());
    let opened = opens_and_closes(&host);
    assert!(opened.contains("--zone=external ") && !opened.contains("--zone=drop"), "{opened}");
    drop(host);

    let beside = quiet(
        "firewall-cmd --permanent --zone=work --add-source=198.51.100.0/24
         firewall-cmd --permanent --new-policy=first
         firewall-cmd --permanent --policy=first --set-priority=-5
         firewall-cmd --permanent --policy=first --add-ingress-zone=ANY
         firewall-cmd --permanent --policy=first --add-egress-zone=HOST
         firewall-cmd --permanent --policy=first --add-rich-rule='rule port port=3478 protocol=udp drop'
         firewall-cmd --reload",
    );
    let Some(host) = firewalls::host(&programs, &beside) else { return };
    let (code, told) = host.rtcctl(&["firewall", "open"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("callers from 198.51.100.0/24 come in by zone work"), "{told}");
    assert!(told.contains("policy first may drop some callers: rule port"), "{told}");
    assert!(!host.reached().contains(&"udp 3478 10.99.0.1".to_owned()));
}
