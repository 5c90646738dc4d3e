//! Decides what a configuration file means: text and facts in, a [`Config`] or every complaint at once out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::certificate::read_certificate;
use super::clashes;
use super::forms::{parse_port_range, parse_rate};
use super::lines::{self, Complaint};
use super::notify;
use super::raw::{Field, Reader, Section};
use super::{
    Access, Config, Host, Latency, LogConfig, LogFormat, LogLevel, MAX_LISTENERS, Network, PeerMode, Reach,
    SignalingConfig, TurnConfig, WebConfig, any_address,
};
use crate::text;

/// The version of the file's form that this program writes and reads.
pub(super) const FORM_VERSION: u32 = 1;
/// What a host has where the file says nothing.
const DEFAULT_RELAY_PORTS: RangeInclusive<u16> = 49160..=51159;
const DEFAULT_TURN_PORT: u16 = 3478;
const DEFAULT_WEB_PORT: u16 = 443;
const DEFAULT_HTTP_PORT: u16 = 80;
/// A browser with two networks allocates eight for four URLs, twice that while ICE restarts, and has a second tab.
const DEFAULT_USER_QUOTA: u32 = 32;
/// An hour: a page asks anew before each call, and a leaked pair is soon worthless.
const DEFAULT_CREDENTIAL_TTL: u64 = 3600;
const DEFAULT_REALM: &str = "rtcctl";
/// Seconds. A call that ends by itself within them never notices; `stop` and a service manager wait no longer.
const DEFAULT_DRAIN: u64 = 2;
const MAX_DRAIN: u64 = 3;

/// What the meaning of a file depends on besides its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The addresses this host sends from, at most one a family; never empty.
    pub relay_ips: Vec<IpAddr>,
    pub cores: usize,
}

/// A configuration and where each of its values stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub config: Config,
    /// Key path to line, for keys that are written; the others have their default.
    pub lines: BTreeMap<String, usize>,
    /// The file names no relay addresses, so they are those of the default route.
    pub detects_relay_ips: bool,
}

pub(super) const REACHES: &[(&str, Reach)] = &[("lan", Reach::Lan), ("ip", Reach::Ip), ("domain", Reach::Domain)];
pub(super) const ACCESSES: &[(&str, Access)] = &[("open", Access::Open), ("key", Access::Key)];
pub(super) const PEER_MODES: &[(&str, PeerMode)] =
    &[("self", PeerMode::Itself), ("public", PeerMode::Public), ("lan", PeerMode::Lan), ("custom", PeerMode::Custom)];
pub(super) const LOG_LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];
pub(super) const LOG_FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
/// A smaller file is put aside all the time; a larger one nobody opens.
const LOG_SIZES: RangeInclusive<u64> = 64_000..=10_000_000_000;
pub(super) const LATENCIES: &[(&str, Latency)] = &[("auto", Latency::Auto), ("low", Latency::Low)];

/// Which peers the relay sends to where nobody says: callers on a LAN have private addresses.
#[must_use]
pub fn default_peers(reach: Reach) -> PeerMode {
    match reach {
        Reach::Lan => PeerMode::Lan,
        Reach::Ip | Reach::Domain => PeerMode::Public,
    }
}

/// Who may call where nobody says: whoever is on the LAN, but not the whole internet.
#[must_use]
pub fn default_access(reach: Reach) -> Access {
    match reach {
        Reach::Lan => Access::Open,
        Reach::Ip | Reach::Domain => Access::Key,
    }
}

/// Resolves the text of `config.yaml`.
///
/// # Errors
/// Every complaint, in the order of lines.
pub fn resolve(text: &str, facts: &HostFacts) -> Result<Resolved, Vec<Complaint>> {
    read(text, facts).0
}

/// As [`resolve`], with every key path that was looked for.
pub(super) fn read(text: &str, facts: &HostFacts) -> (Result<Resolved, Vec<Complaint>>, Vec<String>) {
    let mut reader = Reader::default();
    let document = match lines::parse(text) {
        Ok(document) => document,
        Err(complaint) => return (Err(vec![complaint]), Vec::new()),
    };
    let mut root = reader.root(&document);
    read_version(&mut reader, &mut root);
    let reach = reader.field(&mut root, "reach").and_then(|field| reader.choice(&field, REACHES)).unwrap_or(Reach::Lan);
    let hosts = read_hosts(&mut reader, &mut root);
    let access = reader
        .field(&mut root, "access")
        .and_then(|field| reader.choice(&field, ACCESSES))
        .unwrap_or_else(|| default_access(reach));
    let certificate = read_certificate(&mut reader, &mut root);
    let web = read_web(&mut reader, &mut root);
    let signaling = read_signaling(&mut reader, &mut root);
    let (turn, detects_relay_ips) = read_turn(&mut reader, &mut root, reach, facts);
    let log = read_log(&mut reader, &mut root);
    let notify = notify::read(&mut reader, &mut root);
    reader.close(root);
    let config = Config { reach, hosts, access, certificate, web, signaling, turn, log, notify };
    clashes::complain(&mut reader, &config);
    let Reader { mut complaints, lines, keys, .. } = reader;
    complaints.sort();
    (if complaints.is_empty() { Ok(Resolved { config, lines, detects_relay_ips }) } else { Err(complaints) }, keys)
}

fn read_version(reader: &mut Reader, root: &mut Section<'_>) {
    let Some(field) = reader.field(root, "version") else { return };
    let version = reader.number(&field, 1..=u64::from(u32::MAX));
    if version.is_some_and(|version| version != u64::from(FORM_VERSION)) {
        reader.complain(
            field.line,
            &field.path,
            text!("this rtcctl reads version {} only; the file is of another rtcctl", FORM_VERSION),
        );
    }
}

fn read_hosts(reader: &mut Reader, root: &mut Section<'_>) -> Vec<Host> {
    let Some(field) = reader.field(root, "hosts") else {
        reader.complain(
            0,
            "hosts",
            text!("is missing; list the names and addresses under which callers know this host"),
        );
        return Vec::new();
    };
    let hosts: Vec<Host> = members(reader, &field);
    if hosts.is_empty() && reader.list(&field).is_empty() {
        reader.complain(field.line, "hosts", text!("must have at least one name or address"));
    }
    hosts
}

pub(super) fn read_absolute(reader: &mut Reader, section: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
    let field = reader.field(section, key)?;
    let path = PathBuf::from(reader.text(&field)?);
    if !path.is_absolute() {
        let text = text!("`{}` must be an absolute path", path.display());
        reader.complain(field.line, &field.path, text);
    }
    Some(path)
}

fn read_web(reader: &mut Reader, root: &mut Section<'_>) -> WebConfig {
    let mut section = reader.section(root, "web");
    let web = WebConfig {
        bind: read_bind(reader, &mut section),
        port: read_port(reader, &mut section, "port", DEFAULT_WEB_PORT),
        http_port: read_port_or_off(reader, &mut section, "http_port", Some(DEFAULT_HTTP_PORT)),
        root: read_absolute(reader, &mut section, "root"),
    };
    reader.close(section);
    web
}

fn read_signaling(reader: &mut Reader, root: &mut Section<'_>) -> SignalingConfig {
    let default = SignalingConfig::default();
    let mut section = reader.section(root, "signaling");
    let mut size = |key, range, default: usize| {
        let field = reader.field(&mut section, key);
        let number = field.and_then(|field| reader.number(&field, range));
        number.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
    };
    let signaling = SignalingConfig {
        max_rooms: size("max_rooms", 1..=1_000_000, default.max_rooms),
        max_sockets: size("max_sockets", 2..=1_000_000, default.max_sockets),
        // Below 4 KiB an SDP offer does not fit; above 1 MiB a few callers fill the memory.
        max_message: size("max_message", 4096..=1_048_576, default.max_message),
        max_sockets_per_address: size("max_sockets_per_address", 2..=1_000_000, default.max_sockets_per_address),
        max_rooms_per_socket: size("max_rooms_per_socket", 1..=1_000, default.max_rooms_per_socket),
        max_queue: size("max_queue", 262_144..=67_108_864, default.max_queue),
        max_rate: read_u32(reader, &mut section, "max_rate", 1..=10_000).unwrap_or(default.max_rate),
        max_joins_per_address: read_u32(reader, &mut section, "max_joins_per_address", 1..=10_000)
            .unwrap_or(default.max_joins_per_address),
    };
    reader.close(section);
    signaling
}

fn read_log(reader: &mut Reader, root: &mut Section<'_>) -> LogConfig {
    let default = LogConfig::default();
    let mut section = reader.section(root, "log");
    let level = reader.field(&mut section, "level").and_then(|field| reader.choice(&field, LOG_LEVELS));
    let format = reader.field(&mut section, "format").and_then(|field| reader.choice(&field, LOG_FORMATS));
    let max_size = reader.field(&mut section, "max_size").and_then(|field| {
        let size = parse_rate(reader.text(&field)?).ok().filter(|size| LOG_SIZES.contains(size));
        if size.is_none() {
            reader.complain(field.line, &field.path, text!("must be a number of bytes from 64k to 10G, like 10M"));
        }
        size
    });
    let max_age = match reader.field(&mut section, "max_age") {
        Some(field) if is_off(&field) => None,
        Some(field) => reader.number(&field, 1..=3650).and_then(|days| u32::try_from(days).ok()),
        None => default.max_age,
    };
    let keep = read_u32(reader, &mut section, "keep", 0..=100);
    reader.close(section);
    LogConfig {
        level: level.unwrap_or(default.level),
        format: format.unwrap_or(default.format),
        max_size: max_size.unwrap_or(default.max_size),
        max_age,
        keep: keep.unwrap_or(default.keep),
    }
}

fn read_turn(reader: &mut Reader, root: &mut Section<'_>, reach: Reach, facts: &HostFacts) -> (TurnConfig, bool) {
    let mut section = reader.section(root, "turn");
    let bind = read_bind(reader, &mut section);
    let port = read_port(reader, &mut section, "port", DEFAULT_TURN_PORT);
    let relay_ports = reader
        .field(&mut section, "relay_ports")
        .and_then(|field| {
            let range = parse_port_range(reader.text(&field)?);
            range.map_err(|malformed| reader.complain(field.line, &field.path, malformed.0)).ok()
        })
        .unwrap_or(DEFAULT_RELAY_PORTS);
    let mut relay_ips = read_addresses(reader, &mut section, "relay_ips");
    let detects_relay_ips = relay_ips.is_empty();
    if detects_relay_ips {
        relay_ips.clone_from(&facts.relay_ips);
    }
    let public_ips = read_addresses(reader, &mut section, "public_ips");
    let peers = reader
        .field(&mut section, "peers")
        .and_then(|field| reader.choice(&field, PEER_MODES))
        .unwrap_or_else(|| default_peers(reach));
    let allow_peers: Vec<Network> =
        reader.field(&mut section, "allow_peers").map(|field| members(reader, &field)).unwrap_or_default();
    let realm = reader.field(&mut section, "realm").and_then(|field| {
        let realm = reader.text(&field)?.to_owned();
        // RFC 8489, section 14.9, allows a quoted string of 127 characters; every challenge repeats it, and beyond
        // 32 bytes a challenge would be more than three times as long as what asked for it.
        let fits = (1..=32).contains(&realm.len())
            && realm.chars().all(|symbol| !symbol.is_control() && symbol != '"' && symbol != '\\');
        if !fits {
            reader.complain(field.line, &field.path, text!("must be 1 to 32 bytes without quotes and backslashes"));
        }
        Some(realm)
    });
    // Half of what may be listened on, so that a host with many cores needs no word on it.
    let most_workers = MAX_LISTENERS / 2 / bind.len().max(1);
    let workers = match reader.field(&mut section, "workers") {
        Some(field) if !field.is_word("auto") => reader.number(&field, 1..=256).and_then(|n| usize::try_from(n).ok()),
        _ => None,
    };
    let user_quota = read_u32(reader, &mut section, "user_quota", 1..=1_000_000);
    let total_quota = match reader.field(&mut section, "total_quota") {
        Some(field) if !field.is_word("auto") => {
            reader.number(&field, 1..=1_000_000).and_then(|n| u32::try_from(n).ok())
        }
        _ => None,
    };
    let credential_ttl = reader
        .field(&mut section, "credential_ttl")
        // A minute is less than a call's set-up may take; a month is a password that somebody keeps.
        .and_then(|field| reader.number(&field, 60..=2_592_000));
    let tcp = read_switch(reader, &mut section, "tcp").unwrap_or(true);
    let tls_port = read_port_or_off(reader, &mut section, "tls_port", None);
    let icmp = read_switch(reader, &mut section, "icmp").unwrap_or(true);
    let latency = reader
        .field(&mut section, "latency")
        .and_then(|field| reader.choice(&field, LATENCIES))
        .unwrap_or(Latency::Auto);
    let allocation_bandwidth = read_rate(reader, &mut section, "allocation_bandwidth");
    let total_bandwidth = read_rate(reader, &mut section, "total_bandwidth");
    let drain = reader.field(&mut section, "drain").and_then(|field| reader.number(&field, 0..=MAX_DRAIN));
    reader.close(section);
    let ports = u32::from(relay_ports.end() - relay_ports.start()) + 1;
    let turn = TurnConfig {
        bind,
        port,
        relay_ports,
        relay_ips,
        public_ips,
        peers,
        allow_peers,
        realm: realm.unwrap_or_else(|| DEFAULT_REALM.to_owned()),
        workers: workers.unwrap_or(facts.cores.min(most_workers).max(1)),
        user_quota: user_quota.unwrap_or(DEFAULT_USER_QUOTA),
        total_quota: total_quota.unwrap_or(ports),
        credential_ttl: credential_ttl.unwrap_or(DEFAULT_CREDENTIAL_TTL),
        tcp,
        tls_port,
        latency,
        icmp,
        allocation_bandwidth,
        total_bandwidth,
        drain: Duration::from_secs(drain.unwrap_or(DEFAULT_DRAIN)),
    };
    (turn, detects_relay_ips)
}

fn read_port(reader: &mut Reader, section: &mut Section<'_>, key: &'static str, default: u16) -> u16 {
    let field = reader.field(section, key);
    let port = field.and_then(|field| reader.number(&field, 1..=65535));
    port.and_then(|port| u16::try_from(port).ok()).unwrap_or(default)
}

/// YAML 1.1 reads `off` as a truth value, and tools write it back as one; here it is the word.
pub(super) fn is_off(field: &Field<'_>) -> bool {
    field.is_word("off") || field.is_word("false")
}

fn read_port_or_off(
    reader: &mut Reader,
    section: &mut Section<'_>,
    key: &'static str,
    default: Option<u16>,
) -> Option<u16> {
    match reader.field(section, key) {
        None => default,
        Some(field) if is_off(&field) => None,
        Some(field) => reader.number(&field, 1..=65535).and_then(|port| u16::try_from(port).ok()),
    }
}

fn read_switch(reader: &mut Reader, section: &mut Section<'_>, key: &'static str) -> Option<bool> {
    let field = reader.field(section, key)?;
    if is_off(&field) {
        return Some(false);
    }
    if field.is_word("true") {
        return Some(true);
    }
    reader.choice(&field, &[("on", true), ("off", false)])
}

/// Bytes a second, `None` when off.
fn read_rate(reader: &mut Reader, section: &mut Section<'_>, key: &'static str) -> Option<u64> {
    let field = reader.field(section, key)?;
    if is_off(&field) {
        return None;
    }
    let rate = parse_rate(reader.text(&field)?);
    rate.map_err(|malformed| reader.complain(field.line, &field.path, malformed.0)).ok()
}

fn read_u32(
    reader: &mut Reader,
    section: &mut Section<'_>,
    key: &'static str,
    range: RangeInclusive<u64>,
) -> Option<u32> {
    let field = reader.field(section, key)?;
    u32::try_from(reader.number(&field, range)?).ok()
}

fn read_bind(reader: &mut Reader, section: &mut Section<'_>) -> Vec<IpAddr> {
    let Some(field) = reader.field(section, "bind") else { return any_address() };
    let mut found = Vec::new();
    for member in reader.list(&field) {
        let Some(address) = reader.parsed::<IpAddr>(&member, &text!("an IP address")) else { continue };
        if !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() { any_address() } else { found }
}

/// Addresses of one host each, at most one a family.
fn read_addresses(reader: &mut Reader, section: &mut Section<'_>, key: &'static str) -> Vec<IpAddr> {
    let Some(field) = reader.field(section, key) else { return Vec::new() };
    let mut found: Vec<IpAddr> = Vec::new();
    for member in reader.list(&field) {
        let Some(address) = reader.parsed::<IpAddr>(&member, &text!("an IP address")) else { continue };
        if address.is_unspecified() || address.is_multicast() {
            reader.complain(member.line, &member.path, text!("`{}` is not the address of one host", address));
        } else if found.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
            let family = if address.is_ipv4() { text!("IPv4") } else { text!("IPv6") };
            reader.complain(
                member.line,
                &member.path,
                text!("`{}` is a second {} address; one is the limit", address, family),
            );
        } else {
            found.push(address);
        }
    }
    found
}

/// The members of a list that each have a form, without repetition.
fn members<T>(reader: &mut Reader, field: &Field<'_>) -> Vec<T>
where
    T: std::str::FromStr<Err = super::forms::Malformed> + PartialEq,
{
    let mut found = Vec::new();
    for member in reader.list(field) {
        let Some(text) = reader.text(&member) else { continue };
        match text.parse::<T>() {
            Ok(value) if !found.contains(&value) => found.push(value),
            Ok(_) => {}
            Err(malformed) => {
                reader.complain(member.line, &member.path, text!("`{}` {}", text.escape_debug(), malformed.0))
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> HostFacts {
        HostFacts { relay_ips: vec!["192.0.2.1".parse().unwrap()], cores: 3 }
    }

    fn complaints(text: &str) -> Vec<String> {
        resolve(text, &facts()).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_complaint_comes_at_once_with_path_and_line() {
        let text = "\
reach: moon
hosts: [call.example, 256.1.1.1]
web:
  port: 0
  prot: 8443
  root: static
turn:
  port: 3478
  relay_ports: 49152-40000
  relay_ips: [192.0.2.1, 192.0.2.2, \"::\"]
  allow_peers:
    - 10.0.0.0/33
    - 10.1.0.0/8
  port: 3479
  user_quota: many
  workers: [1]
";
        assert_eq!(
            complaints(text),
            [
                "line 1: reach: must be `lan` or `ip` or `domain`, not `moon`",
                "line 2: hosts: `256.1.1.1` is neither an IP address nor a DNS name",
                "line 4: web.port: must be a whole number from 1 to 65535, not `0`",
                "line 5: web.prot: unknown key; did you mean `web.port`?",
                "line 6: web.root: `static` must be an absolute path",
                "line 9: turn.relay_ports: 49152..40000 runs backwards",
                "line 10: turn.relay_ips: `192.0.2.2` is a second IPv4 address; one is the limit",
                "line 10: turn.relay_ips: `::` is not the address of one host",
                "line 12: turn.allow_peers: `10.0.0.0/33` has a prefix that is no number from 0 to 32",
                "line 13: turn.allow_peers: `10.1.0.0/8` has bits set behind its prefix; the network is `10.0.0.0/8`",
                "line 14: turn.port: is already set on line 8",
                "line 15: turn.user_quota: must be a whole number from 1 to 1000000, not `many`",
                "line 16: turn.workers: must be a whole number from 1 to 256, not a list",
            ]
        );
    }

    #[test]
    fn an_empty_file_lacks_its_hosts_only() {
        let missing = "hosts: is missing; list the names and addresses under which callers know this host";
        assert_eq!(complaints(""), [missing]);
        assert_eq!(complaints("# nothing\n"), [missing]);
        assert_eq!(complaints("hosts: []\n"), ["line 1: hosts: must have at least one name or address"]);
    }

    #[test]
    fn a_document_that_is_no_mapping_is_told_so() {
        assert_eq!(complaints("- a\n")[1], "line 1: the file must be keys with values, not a list");
        assert_eq!(complaints("hosts: [a.b]\nweb: 8443\n"), ["line 2: web: must be keys with values, not `8443`"]);
    }

    #[test]
    fn the_keys_of_the_relay_mean_what_they_say() {
        let text = "hosts: [a.b]\nturn: {tcp: false, latency: low, icmp: off, allocation_bandwidth: 500k, \
                    total_bandwidth: 2M, drain: 0}\n";
        let turn = resolve(text, &facts()).unwrap().config.turn;
        let wanted = TurnConfig {
            relay_ips: facts().relay_ips,
            peers: PeerMode::Lan,
            workers: 3,
            tcp: false,
            latency: Latency::Low,
            icmp: false,
            allocation_bandwidth: Some(500_000),
            total_bandwidth: Some(2_000_000),
            drain: Duration::ZERO,
            ..TurnConfig::default()
        };
        assert_eq!(turn, wanted);
        let text = "\
hosts: [a.b]
turn:
  tcp: maybe
  tls_port: 0
  latency: high
  allocation_bandwidth: 2MiB
  total_bandwidth: 12
  drain: 4
";
        assert_eq!(
            complaints(text),
            [
                "line 3: turn.tcp: must be `on` or `off`, not `maybe`",
                "line 4: turn.tls_port: must be a whole number from 1 to 65535, not `0`",
                "line 5: turn.latency: must be `auto` or `low`, not `high`",
                "line 6: turn.allocation_bandwidth: `2MiB` is neither off nor bytes a second like `250000`, `500k` or `2M`",
                "line 7: turn.total_bandwidth: 12 bytes a second carry no call; the least is 1000",
                "line 8: turn.drain: must be a whole number from 0 to 3, not `4`",
            ]
        );
        assert_eq!(
            complaints("hosts: [a.b]\nturn:\n  allocation_bandwidth: 3M\n  total_bandwidth: 2M\n"),
            ["line 3: turn.allocation_bandwidth: 3000000 is more than turn.total_bandwidth, which is 2000000"]
        );
    }

    #[test]
    fn off_is_a_port_that_is_not_there() {
        let web = resolve("hosts: [a.b]\nweb: {http_port: off}\n", &facts()).unwrap().config.web;
        assert_eq!(web.http_port, None);
    }

    #[test]
    fn values_of_another_form_version_are_not_guessed_at() {
        assert_eq!(
            complaints("version: 2\nhosts: [a.b]\n"),
            ["line 1: version: this rtcctl reads version 1 only; the file is of another rtcctl"]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(version|hosts|web|turn|port|bind|peers|[-:{}\\[\\]\", \\n~0-9a-z])*") {
            let _ = resolve(&text, &facts());
        }
    }
}
