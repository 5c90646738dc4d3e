//! Evidence in, findings out: a host that is well, and what each thing that is planted comes to.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::super::evidence::*;
use super::super::outcome::{Report, conclude};
use super::*;
use crate::certs::dns::Answer as Records;
use crate::certs::preflight::NameFacts;
use crate::config::{CertSource, Config, HostFacts, resolve};
use crate::control::protocol::Status;
use crate::setup::cloud::{Cloud, Provider, Told};
use crate::setup::facts::host::{Distribution, HostKind, Init};
use crate::setup::facts::network::{Route, Routes};
use crate::setup::facts::outside::{Outside, Seen};
use crate::setup::firewall::{Drift, Layer, Needs};
use crate::sys::net::Family;
use crate::sys::ports::Transport;
use crate::text;
use crate::words::Lang;

const OWN: &str = "10.0.0.2";
const PUBLIC: &str = "203.0.113.7";
const STRANGER: &str = "198.51.100.99";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn config(more: &str) -> Config {
    let text = format!(
        "version: 1\nreach: domain\nhosts: [call.rtc.dev, {PUBLIC}]\nturn:\n  relay_ips: [{OWN}]\n  public_ips: [{PUBLIC}]\n{more}"
    );
    let facts = HostFacts { relay_ips: vec![ip(OWN)], cores: 2 };
    resolve(&text, &facts).unwrap_or_else(|complaints| panic!("{complaints:?}")).config
}

fn records(list: &[&str]) -> Option<Records> {
    Some(Records { addresses: list.iter().map(|text| ip(text)).collect(), ..Records::default() })
}

fn leaf() -> Leaf {
    Leaf {
        names: vec!["call.rtc.dev".to_owned(), PUBLIC.to_owned()],
        not_before: now() - 10 * DAY,
        not_after: now() + 80 * DAY,
        fingerprint: "ab".repeat(32),
    }
}

fn status() -> Status {
    let task = |name: &str| serde_json::json!({ "name": name, "state": "ready", "uptime_s": 5, "restarts": 0, "last_error": null, "probe": null });
    serde_json::from_value(serde_json::json!({
        "schema_version": 1, "version": env!("CARGO_PKG_VERSION"), "pid": 7, "state": "ready", "uptime_s": 5, "usage": null,
        "tasks": [task("certs"), task("turn"), task("signaling"), task("web")],
        "urls": { "web": "", "ice": [] }, "calls": { "rooms": 0, "peers": 0 },
        "turn": { "allocations": 0, "relayed_bytes": 0, "relayed_packets": 0 },
        "certificate": { "source": "files", "names": [], "not_after": "", "days_left": 80.0,
                         "fingerprint_sha256": "ab".repeat(32) },
        "findings": [],
    }))
    .unwrap()
}

const OPENED: [&str; 2] = ["443/tcp", "49160-51159/udp"];

fn healthy() -> Evidence {
    let seen = |server: &str| Seen { server: server.to_owned(), family: Family::V4, address: Ok(ip(PUBLIC)) };
    let route = Route { interface: "eth0".to_owned(), gateway: Some(ip("10.0.0.1")), source: Some(ip(OWN)) };
    let answer = |what, port: u16, leaf| Answer { what, at: (ip("127.0.0.1"), port).into(), outcome: Ok(()), leaf };
    let passage = |purpose, port: u16| Passage { purpose, to: (ip(OWN), port).into(), fate: Fate::Passed };
    Evidence {
        home_flag: " --home /srv/box".to_owned(),
        is_root: true,
        config: Some(ConfigFile::Good(Box::new(config("")))),
        home: Some(Home {
            secrets: Some(Secrets::Good),
            files: vec![PrivateFile { path: PathBuf::from("/srv/box/secrets.yaml"), mode: 0o600 }],
            unwritable: Vec::new(),
            disks: vec![Disk { path: PathBuf::from("/srv/box"), free_bytes: 9 << 30, total_bytes: 10 << 30 }],
            stale_socket: None,
        }),
        host: Some(Host {
            kind: HostKind { distribution: Distribution::default(), init: Init::Systemd, container: None },
            open_files: 1 << 20,
            receive_buffer: Some(212_992),
            send_buffer: Some(212_992),
            may_force_buffers: true,
            conntrack: Some(Conntrack { entries: 5, limit: 262_144 }),
            memory_bytes: Some(1 << 30),
            link: Some(("eth0".to_owned(), Some(10_000))),
        }),
        network: Some(Network {
            routes: Routes { v4: Some(route), v6: None },
            local_addresses: vec![ip(OWN)],
            outside: Outside { cloud: Cloud::default(), seen: vec![seen("s1"), seen("s2"), seen("s3")] },
            is_offline: false,
        }),
        ports: vec![
            Port { key: "web.port", transport: Transport::Tcp, port: 443, state: PortState::Ours },
            Port { key: "turn.port", transport: Transport::Udp, port: 3478, state: PortState::Ours },
        ],
        relay_range: Some(RelayRange { ports: 2000, bound: 3, ours: 0 }),
        certificate: Some(Certificate { source: "files", leaf: Ok(leaf()), is_hidden: false }),
        service: Some(Service::Answers(Box::new(status()))),
        answers: vec![
            answer(Asked::Web, 443, Some(leaf())),
            answer(Asked::Signaling, 443, None),
            answer(Asked::Http, 80, None),
            answer(Asked::Stun, 3478, None),
            answer(Asked::TurnTcp, 3478, None),
        ],
        relay: Some(Relay { packets: Some((100, 100)), ..Relay::default() }),
        speed: Some(Ok(900.0)),
        names: Some(Names {
            names: vec![NameFacts {
                name: "call.rtc.dev".to_owned(),
                v4: records(&[PUBLIC]),
                v6: records(&[]),
                caa: Some(Records::default()),
                here: vec![ip(PUBLIC)],
            }],
            has_resolver: true,
            issuer: Some("letsencrypt.org".to_owned()),
        }),
        passages: Some(Ok(Passages {
            tried: vec![
                passage(Purpose::Web, 443),
                passage(Purpose::Http, 80),
                passage(Purpose::TurnUdp, 3478),
                passage(Purpose::TurnTcp, 3478),
                passage(Purpose::Relay, 49160),
            ],
            by_interface: false,
        })),
        rules: Some(Ok(Rules { opened: Needs::of_words(OPENED), filters: true, ..Rules::default() })),
        trust: Some(Ok(Ok(()))),
        hairpin: Some(vec![Hairpin { address: ip(PUBLIC), stun: Ok(()), web: Ok(()) }]),
        clock: Some(Ok(Skew { seconds: 0.2, by: vec!["t1".to_owned()] })),
        outside_view: Some(OutsideView {
            age: Duration::from_secs(60),
            from: "198.51.100.9".to_owned(),
            steps: [("web".to_owned(), (true, String::new()))].into(),
        }),
    }
}

fn report(evidence: &Evidence) -> Report {
    let all: Vec<Check> = Check::all().collect();
    conclude(judge(&all, evidence, now()))
}

/// The codes that are told, each with those that it hides.
fn codes(change: impl FnOnce(&mut Evidence)) -> Vec<String> {
    let mut evidence = healthy();
    change(&mut evidence);
    let report = report(&evidence);
    for one in &report.diagnoses {
        let problem = &one.problem;
        assert!(!problem.title.is_empty() && !problem.evidence.is_empty() && !problem.fix.is_empty(), "{problem:?}");
        for text in [&problem.title, &problem.fix].into_iter().filter(|text| !text.is_verbatim()) {
            assert!(text.say(Lang::Zh).chars().any(|symbol| ('\u{4e00}'..='\u{9fff}').contains(&symbol)), "{text:?}");
        }
    }
    report.diagnoses.iter().map(|one| one.problem.code.clone()).collect()
}

#[test]
fn a_host_that_is_well_has_no_finding_and_nothing_unknown() {
    let report = report(&healthy());
    assert_eq!(report.diagnoses, []);
    assert_eq!(report.unknown, []);
    assert_eq!(report.fine.len() + report.idle.len(), Check::all().count());
    assert!(report.fine.len() > 40, "{:?}", report.idle);
}

#[test]
fn without_any_evidence_nothing_is_claimed() {
    let report = report(&Evidence::default());
    assert_eq!(report.diagnoses, []);
    assert_eq!(report.fine, []);
}

#[test]
fn each_thing_that_is_wrong_is_found_by_its_check_alone() {
    type Change = fn(&mut Evidence);
    fn host(evidence: &mut Evidence) -> &mut Host {
        evidence.host.as_mut().unwrap()
    }
    fn home(evidence: &mut Evidence) -> &mut Home {
        evidence.home.as_mut().unwrap()
    }
    fn names(evidence: &mut Evidence) -> &mut NameFacts {
        &mut evidence.names.as_mut().unwrap().names[0]
    }
    fn close(evidence: &mut Evidence, purpose: Purpose, fate: Fate) {
        let Some(Ok(passages)) = &mut evidence.passages else { panic!("no passages") };
        passages.tried.iter_mut().filter(|one| one.purpose == purpose).for_each(|one| one.fate = fate.clone());
    }
    fn rules(evidence: &mut Evidence) -> &mut Rules {
        evidence.rules.as_mut().unwrap().as_mut().unwrap()
    }
    fn drifted(evidence: &mut Evidence, ports: &str, closed: bool) {
        let (layer, ports) = (Layer::Nftables, Needs::of_words([ports]));
        let drift = if closed { Drift::Closed { layer, ports } } else { Drift::Leftover { layer, ports } };
        rules(evidence).drifts.push(drift);
    }
    fn fail(evidence: &mut Evidence, what: Asked) {
        let answers = evidence.answers.iter_mut().filter(|one| one.what == what);
        answers.for_each(|one| one.outcome = Err("no answer in time".into()));
    }
    fn seen(evidence: &mut Evidence, list: &[&str]) {
        let outside = &mut evidence.network.as_mut().unwrap().outside;
        for (one, text) in outside.seen.iter_mut().zip(list) {
            one.address = Ok(ip(text));
        }
    }
    let table: Vec<(&str, Change)> = vec![
        ("config", |e| e.config = Some(ConfigFile::Bad { told: "no".into(), hint: None })),
        ("config", |e| e.config = Some(ConfigFile::Absent(PathBuf::from("/x")))),
        ("secrets", |e| home(e).secrets = Some(Secrets::Absent)),
        ("home-permissions", |e| home(e).files[0].mode = 0o640),
        ("home-writable", |e| home(e).unwritable.push((PathBuf::from("/x"), "read-only".into()))),
        ("disk", |e| home(e).disks[0].free_bytes = 5 << 20),
        ("stale-socket", |e| home(e).stale_socket = Some(PathBuf::from("/x"))),
        ("clock", |e| e.clock = Some(Ok(Skew { seconds: -3600.0, by: vec!["t".to_owned()] }))),
        ("open-files", |e| host(e).open_files = 1024),
        ("udp-buffers", |e| {
            host(e).may_force_buffers = false;
            host(e).receive_buffer = Some(100_000);
        }),
        ("conntrack", |e| host(e).conntrack = Some(Conntrack { entries: 990, limit: 1000 })),
        ("conntrack", |e| host(e).conntrack = Some(Conntrack { entries: 1, limit: 1000 })),
        ("memory", |e| host(e).memory_bytes = Some(10 << 20)),
        ("container", |e| host(e).kind.container = Some("docker".to_owned())),
        ("bandwidth", |e| host(e).link = Some(("eth0".to_owned(), Some(10)))),
        ("bandwidth", |e| e.speed = Some(Ok(40.0))),
        ("default-route", |e| e.network.as_mut().unwrap().routes = Routes::default()),
        ("stun-agreement", |e| seen(e, &[PUBLIC, STRANGER, "198.51.100.98"])),
        ("stun-agreement", |e| seen(e, &[PUBLIC, STRANGER])),
        ("public-address", |e| seen(e, &[STRANGER, STRANGER, STRANGER])),
        ("relay-address", |e| {
            e.config = Some(ConfigFile::Good(Box::new(Config {
                turn: crate::config::TurnConfig { public_ips: Vec::new(), ..config("").turn },
                ..config("")
            })))
        }),
        ("port-taken", |e| e.ports[0].state = PortState::Taken(Some("nginx (pid 7)".to_owned()))),
        ("port-privilege", |e| e.ports[0].state = PortState::Forbidden),
        ("relay-range", |e| e.relay_range = Some(RelayRange { ports: 2000, bound: 1500, ours: 2 })),
        ("certificate-files", |e| {
            e.certificate.as_mut().unwrap().leaf = Err("damaged".into());
        }),
        ("certificate-dates", |e| e.answers[0].leaf.as_mut().unwrap().not_after = now() - DAY),
        ("certificate-dates", |e| e.answers[0].leaf.as_mut().unwrap().not_before = now() + DAY),
        ("certificate-dates", |e| e.answers[0].leaf.as_mut().unwrap().not_after = now() + DAY),
        ("certificate-names", |e| drop(e.answers[0].leaf.as_mut().unwrap().names.remove(0))),
        ("certificate-served", |e| e.answers[0].leaf.as_mut().unwrap().fingerprint = "cd".repeat(32)),
        ("running", |e| e.service = Some(Service::Absent)),
        ("running", |e| e.service = Some(Service::Silent("it hangs".into()))),
        ("web-answers", |e| fail(e, Asked::Web)),
        ("http-answers", |e| fail(e, Asked::Http)),
        ("signaling-answers", |e| fail(e, Asked::Signaling)),
        ("stun-answers", |e| fail(e, Asked::Stun)),
        ("turn-answers", |e| fail(e, Asked::TurnTcp)),
        ("relay-works", |e| {
            e.relay.as_mut().unwrap().failing = Some(("data".into(), "nothing came".into(), None, None));
        }),
        ("relay-refuses", |e| e.relay.as_mut().unwrap().attack = Some("loopback is granted".into())),
        ("dns-name", |e| names(e).v4 = records(&[])),
        ("dns-name", |e| names(e).v4.as_mut().unwrap().fails = true),
        ("dns-v4", |e| {
            names(e).v4 = records(&[STRANGER]);
            names(e).here = vec![ip(STRANGER)];
        }),
        ("dns-v6", |e| names(e).v6 = records(&["2001:db8::9"])),
        ("dns-hosts", |e| names(e).here = vec![ip("127.0.1.1")]),
        ("dns-caa", |e| names(e).caa.as_mut().unwrap().issuers = vec!["other.example".to_owned()]),
        ("certificate-trusted", |e| {
            let mut acme = config("");
            acme.certificate.source = CertSource::Acme;
            e.config = Some(ConfigFile::Good(Box::new(acme)));
            e.trust = Some(Ok(Err("nobody has issued it".into())));
        }),
        ("firewall-drift", |e| drifted(e, "443/tcp", true)),
        ("firewall-drift", |e| drifted(e, "8443/tcp", true)),
        ("firewall-drift", |e| drifted(e, "9/udp", false)),
        ("firewall-drift", |e| {
            rules(e).drifts.push(Drift::NotKept { layer: Layer::Ufw, why: text!("there is no `{}`", "x") })
        }),
        // What follows from it is no finding of its own.
        ("firewall-drift", |e| {
            drifted(e, "443/tcp", true);
            close(e, Purpose::Web, Fate::Lost);
        }),
        ("firewall-range", |e| rules(e).relay_closed = std::iter::once(50_001..=51_159).collect()),
        ("firewall-web", |e| close(e, Purpose::Web, Fate::Lost)),
        ("firewall-http", |e| close(e, Purpose::Http, Fate::Rejected)),
        ("firewall-turn-udp", |e| close(e, Purpose::TurnUdp, Fate::Lost)),
        ("firewall-turn-tcp", |e| close(e, Purpose::TurnTcp, Fate::Lost)),
        ("firewall-relay", |e| close(e, Purpose::Relay, Fate::Lost)),
        ("hairpin", |e| e.hairpin.as_mut().unwrap()[0].stun = Err("no answer".into())),
        ("outside-view", |e| {
            e.outside_view.as_mut().unwrap().steps.insert("turn udp".to_owned(), (false, "silence".to_owned()));
        }),
    ];
    for (code, change) in table {
        assert_eq!(codes(change), [code], "planted: {code}");
    }
}

#[test]
fn what_the_service_found_itself_is_told_by_its_own_code() {
    let found = codes(|e| {
        let Some(Service::Answers(status)) = &mut e.service else { panic!("no service") };
        status.findings = serde_json::from_value(serde_json::json!([
            { "code": "notify-fails", "severity": "warning", "title": "t", "evidence": "e", "hint": "h", "since": "s" },
            { "code": "certificate-expired", "severity": "critical", "title": "t", "evidence": "e", "hint": "h", "since": "s" },
        ]))
        .unwrap();
        e.answers[0].leaf.as_mut().unwrap().not_after = now() - DAY;
    });
    assert_eq!(found, ["certificate-dates", "notify-fails"]);
}

#[test]
fn a_machine_that_goes_out_by_another_of_its_addresses_is_well() {
    let found = codes(|e| {
        let outside = &mut e.network.as_mut().unwrap().outside;
        outside.seen.iter_mut().for_each(|seen| seen.address = Ok(ip(STRANGER)));
        let told = Told::Addresses(vec![ip(PUBLIC), ip(STRANGER)]);
        outside.cloud = Cloud { provider: Some(Provider::Aws), how: Default::default(), told };
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn what_cannot_be_known_is_unknown_and_no_finding() {
    let mut evidence = healthy();
    evidence.passages = Some(Err("only root can try it".into()));
    evidence.clock = Some(Err("nobody was asked".into()));
    evidence.relay.as_mut().unwrap().is_hidden = true;
    evidence.network.as_mut().unwrap().outside.seen.clear();
    evidence.outside_view = None;
    evidence.certificate = Some(Certificate { source: "acme", leaf: Err("denied".into()), is_hidden: true });
    let report = report(&evidence);
    assert_eq!(report.diagnoses, []);
    let unknown: Vec<&str> = report.unknown.iter().map(|(check, _)| check.as_str()).collect();
    for wanted in [
        "firewall-web",
        "firewall-relay",
        "clock",
        "relay-works",
        "relay-refuses",
        "stun-agreement",
        "outside-view",
        "certificate-files",
    ] {
        assert!(unknown.contains(&wanted), "{wanted}: {unknown:?}");
    }
}

#[test]
fn a_packet_that_arrives_refutes_what_the_rules_seem_to_say_and_the_missing_ports_are_told_exactly() {
    let mut evidence = healthy();
    let Some(Ok(rules)) = &mut evidence.rules else { panic!("no rules") };
    rules.relay_closed = [50_001..=50_100, 51_000..=51_159].into_iter().collect();
    rules.relay_closed_by = vec!["nftables"];
    let told = &report(&evidence).diagnoses[0].problem.evidence;
    let wanted = "the relay uses 49160-51159/udp, of which 50001-50100,51000-51159/udp is dropped by nftables";
    assert_eq!(told, wanted);
    let Some(Ok(passages)) = &mut evidence.passages else { panic!("no passages") };
    let mut tried = |fate: Fate| {
        passages.tried.push(Passage { purpose: Purpose::Relay, to: (ip(OWN), 50_001).into(), fate });
    };
    tried(Fate::Untried("x".into()));
    tried(Fate::Passed);
    assert_eq!(report(&evidence).diagnoses, []);
}

#[test]
fn an_own_authority_is_no_finding_and_nothing_opened_has_not_drifted() {
    let mut evidence = healthy();
    let mut own = config("");
    own.certificate.source = CertSource::SelfSigned;
    evidence.config = Some(ConfigFile::Good(Box::new(own)));
    evidence.trust = Some(Ok(Err("nobody has issued it".into())));
    evidence.rules = Some(Ok(Rules::default()));
    let report = report(&evidence);
    assert_eq!(report.diagnoses, []);
    let idle: Vec<Check> = report.idle.iter().map(|(check, _)| *check).collect();
    for check in [Check::CertificateTrusted, Check::FirewallDrift, Check::FirewallRange] {
        assert!(idle.contains(&check), "{idle:?}");
    }
}

#[test]
fn rules_that_name_interfaces_leave_a_lost_packet_open() {
    let mut evidence = healthy();
    let Some(Ok(passages)) = &mut evidence.passages else { panic!("no passages") };
    passages.by_interface = true;
    passages.tried[0].fate = Fate::Lost;
    let report = report(&evidence);
    assert_eq!(report.diagnoses, []);
    assert_eq!(report.unknown[0].0, Check::FirewallWeb);
}

#[test]
fn in_a_network_of_ones_own_nobody_outside_matters() {
    let found = codes(|e| {
        let lan = Config { reach: crate::config::Reach::Lan, ..config("") };
        e.config = Some(ConfigFile::Good(Box::new(lan)));
        e.network.as_mut().unwrap().outside = Outside::default();
        e.hairpin = Some(vec![Hairpin { address: ip(PUBLIC), stun: Err("x".into()), web: Err("x".into()) }]);
    });
    assert_eq!(found, Vec::<String>::new());
}
