//! The running service: what it says of itself, and what it answers to a caller on this host.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Config, Host, load};
use crate::control::client::ask;
use crate::control::protocol::{Request, Response, Status};
use crate::doctor::evidence::{Answer, Asked, Leaf, Relay, Service};
use crate::error::Kind;
use crate::home::Home;
use crate::probe::turn::speed as speed_of;
use crate::probe::turn::{Attempt, Bound, IceUrl, Login, Report, Status as StepStatus, Step, StepName, Trust, test};
use crate::probe::{self, Fault, PresentedLeaf, Secured, local, presented_leaf};
use crate::sys::clock;
use crate::sys::marks::Marks;
use crate::sys::unix::ShortPath;
use crate::text;
use crate::turn::ice::IceIssuer;
use crate::words::Text;

/// A status is answered from what is published, so this is long.
const STATUS_WITHIN: Duration = Duration::from_secs(5);
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);
/// Seconds for which the credentials of a test are good.
const TTL: u64 = 300;

pub(super) fn look(home: &Home) -> Service {
    let reached = ShortPath::to(&home.control_socket()).and_then(|short| UnixStream::connect(short.path));
    if let Err(error) = &reached
        && error.kind() == ErrorKind::PermissionDenied
    {
        return Service::Hidden(Text::of_error(error));
    }
    drop(reached);
    match ask(home, &Request::Status, STATUS_WITHIN) {
        Ok(Response::Status { status }) => Service::Answers(status),
        Ok(_) => Service::Silent(text!("it answers something else than a status")),
        Err(failure) if failure.kind() == Kind::NotRunning => Service::Absent,
        Err(failure) => Service::Silent(failure.told()),
    }
}

/// Asks every listener, all at once.
pub(super) fn answers(config: &Config) -> Vec<Answer> {
    let until = clock::now().mono + ANSWERED_WITHIN;
    let name = config.hosts.iter().find_map(|host| match host {
        Host::Name(name) => Some(name.as_str()),
        Host::Address(_) => None,
    });
    let each = |addresses: &[IpAddr], port: u16| -> Vec<SocketAddr> {
        addresses.iter().map(|address| local((*address, port).into())).filter(|at| has_family(*at)).collect()
    };
    let mut questions: Vec<(Asked, SocketAddr)> = Vec::new();
    for at in each(&config.web.bind, config.web.port) {
        questions.extend([(Asked::Web, at), (Asked::Signaling, at)]);
    }
    if let Some(port) = config.web.http_port {
        questions.extend(each(&config.web.bind, port).into_iter().map(|at| (Asked::Http, at)));
    }
    questions.extend(each(&config.turn.bind, config.turn.port).into_iter().map(|at| (Asked::Stun, at)));
    for (_, port) in super::ports::turn_tcp_ports(config) {
        questions.extend(each(&config.turn.bind, port).into_iter().map(|at| (Asked::TurnTcp, at)));
    }
    thread::scope(|scope| {
        let asking: Vec<_> = questions
            .iter()
            .map(|(what, at)| (*what, *at, scope.spawn(move || answer(*what, *at, name, until))))
            .collect();
        asking
            .into_iter()
            .map(|(what, at, thread)| {
                let (outcome, leaf) = thread.join().unwrap_or_else(|_| (Err(text!("it could not be asked")), None));
                Answer { what, at, outcome, leaf }
            })
            .collect()
    })
}

/// A host without IPv6 cannot listen there, and need not.
fn has_family(at: SocketAddr) -> bool {
    std::net::UdpSocket::bind((at.ip(), 0)).is_ok()
}

fn answer(what: Asked, at: SocketAddr, name: Option<&str>, until: Instant) -> (Result<(), Text>, Option<Leaf>) {
    let told = |outcome: Result<(), Fault>| outcome.map_err(|fault| fault.told());
    match what {
        Asked::Stun => (told(probe::stun(at, until)), None),
        Asked::Http => (told(probe::plain_http(at, until)), None),
        Asked::TurnTcp => (told(probe::stun_by_tcp(at, until)), None),
        Asked::Web | Asked::Signaling => match presented_leaf(at, name, until) {
            Err(fault) => (Err(fault.told()), None),
            Ok(leaf) => {
                // Whichever certificate it is: that it is the right one is another check.
                let marks = Marks::default();
                let secured = Secured { address: at, name, fingerprint: &leaf.fingerprint, marks: &marks, until };
                let outcome = if what == Asked::Web { probe::web(secured) } else { probe::signaling(secured) };
                (told(outcome), (what == Asked::Web).then(|| read(leaf)))
            }
        },
    }
}

fn read(leaf: PresentedLeaf) -> Leaf {
    let PresentedLeaf { names, not_before, not_after, fingerprint } = leaf;
    Leaf { names, not_before, not_after, fingerprint }
}

/// Has two clients on this host talk through the relay by UDP.
pub(super) fn relay(home: &Home, config: &Config) -> Relay {
    let Ok((config, secrets)) = load(home).map(|(_, secrets)| (config, secrets)) else {
        return Relay { is_hidden: true, ..Relay::default() };
    };
    let Some(at) = relay_listener(config) else { return Relay { is_hidden: true, ..Relay::default() } };
    let text = format!("turn:{at}?transport=udp");
    let Ok(url) = text.parse::<IceUrl>() else { return Relay { is_hidden: true, ..Relay::default() } };
    let user = format!("doctor-{:08x}", rand::random::<u32>());
    let issued = IceIssuer::new(config, &secrets).credentials(&user, Some(TTL), clock::now());
    let login = Login { username: issued.username, password: issued.credential };
    let trust = Trust::of_this_host(&home.certs_dir().join("ca.pem"));
    let attempt = Attempt { url: &url, login: Some(&login), trust: &trust, attack: true, patience: ANSWERED_WITHIN };
    let reports = test(attempt, &mut |_| {});
    reports.first().map_or_else(Relay::default, |report| of_report(text, report))
}

/// What the relay carries, measured for a moment while nobody uses it; in Mbit/s.
pub(super) fn speed(home: &Home, config: &Config, status: &Status) -> Result<f64, Text> {
    if status.turn.allocations > 0 {
        return Err(text!("{} relays are in use, which are not to be disturbed", status.turn.allocations));
    }
    let at = relay_listener(config).ok_or(text!("the relay listens nowhere"))?;
    let login = match ask(home, &Request::Measure, STATUS_WITHIN) {
        Ok(Response::Measure { username, credential }) => Login { username, password: credential },
        Ok(_) => return Err(text!("the service is of a version that does not know how")),
        Err(failure) => return Err(failure.told()),
    };
    let found = speed_of(at, &login, Bound::HERE).map_err(|fault| fault.told())?;
    found.megabits().ok_or_else(|| text!("of {} packets {} arrived", found.sent, found.arrived))
}

/// Where a relay on this host is asked: by the address that it relays at, where it listens there.
fn relay_listener(config: &Config) -> Option<SocketAddr> {
    let bind = config.turn.bind.iter().find(|address| address.is_ipv4()).or_else(|| config.turn.bind.first())?;
    let relay = config.turn.relay_ips.iter().find(|address| address.is_ipv4() == bind.is_ipv4());
    let at = if bind.is_unspecified() { relay.unwrap_or(bind) } else { bind };
    Some(local((*at, config.turn.port).into()))
}

fn of_report(url: String, report: &Report) -> Relay {
    let failed = |step: &&Step| step.status == StepStatus::Failed;
    let attack = report.steps.iter().filter(failed).find(|step| step.name == StepName::Attack);
    let failing = report.steps.iter().filter(failed).find(|step| step.name != StepName::Attack);
    Relay {
        url,
        failing: failing
            .map(|step| (step.name.as_str().to_owned(), step.told.clone(), step.why.clone(), step.hint.clone())),
        attack: attack.map(|step| step.told.clone()),
        mapped: report.mapped,
        relayed: report.relayed,
        packets: report.traffic.map(|traffic| (traffic.returned, traffic.sent)),
        is_hidden: false,
    }
}
