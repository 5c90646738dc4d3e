//! Does what a browser does with a STUN or TURN server, step by step, and says which step fails first.
//!
//! Two clients allocate and send packets to each other through both relays, as two callers who cannot reach each other
//! do. What steps mean (`url`, `message`, `report`, `hints`) is apart from sockets (`wire`, `trust`) and from doing it
//! (`client`, `walk`, `traffic`). What the service asks its own relay is `deep`. Nothing is printed here.

pub(super) mod binding;
mod client;
mod deep;
mod hints;
mod message;
mod report;
mod speed;
mod traffic;
mod trust;
mod url;
mod walk;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use deep::{Denial, OwnRelay, refuses_logins, refuses_peers, relays};
pub use message::Login;
pub use report::{Report, Status, Step, StepName, Traffic};
pub use speed::{Bound, Speed, speed};
pub use trust::Trust;
pub use url::{BadUrl, Carrier, IceUrl, Service};

use self::report::{Advice, Found};
use crate::sys::clock;
use crate::sys::net::resolve;
use crate::text;
use crate::words::Text;

/// What is tested, and how.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    pub url: &'a IceUrl,
    /// Without one, a TURN server is tested up to its challenge.
    pub login: Option<&'a Login>,
    pub trust: &'a Trust,
    /// Whether to ask for peers that no relay may reach.
    pub attack: bool,
    /// The longest that one answer may take.
    pub patience: Duration,
}

/// Something a test has come to.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    Url(&'a IceUrl),
    Address(SocketAddr),
    Step(&'a Step),
}

/// Tests a server at each of its addresses, one a family; `tell` hears of every step when it is done.
pub fn test(attempt: Attempt<'_>, tell: &mut dyn FnMut(Event<'_>)) -> Vec<Report> {
    tell(Event::Url(attempt.url));
    let (first_steps, addresses) = look_up(attempt);
    for step in &first_steps {
        tell(Event::Step(step));
    }
    if addresses.is_empty() {
        let mut report = empty(attempt.url, None, first_steps);
        skip_rest(attempt, &mut report, tell);
        return vec![report];
    }
    let mut reports = Vec::new();
    for address in &addresses {
        tell(Event::Address(*address));
        let mut report = empty(attempt.url, Some(*address), first_steps.clone());
        walk::walk(attempt, *address, addresses.len() == 1, &mut report, tell);
        skip_rest(attempt, &mut report, tell);
        reports.push(report);
    }
    reports
}

fn empty(url: &IceUrl, address: Option<SocketAddr>, steps: Vec<Step>) -> Report {
    Report { url: url.to_string(), address, steps, mapped: None, relayed: None, traffic: None }
}

fn skip_rest(attempt: Attempt<'_>, report: &mut Report, tell: &mut dyn FnMut(Event<'_>)) {
    for name in StepName::expected(attempt.url, attempt.attack) {
        if report.steps.iter().all(|step| step.name != name) {
            let step = Step::new(name, Found::Nothing(text!("not reached")), Duration::ZERO);
            tell(Event::Step(&step));
            report.steps.push(step);
        }
    }
}

/// The first two steps, and the first address of each family.
fn look_up(attempt: Attempt<'_>) -> (Vec<Step>, Vec<SocketAddr>) {
    let url = attempt.url;
    let service = match url.service {
        Service::Stun => "STUN",
        Service::Turn => "TURN",
    };
    let told = text!("{} by {}, port {}", service, url.carrier.as_str(), url.port);
    let mut steps = vec![Step::new(StepName::Url, Found::Fine(told), Duration::ZERO)];
    if let Ok(address) = url.host.parse::<IpAddr>() {
        steps.push(Step::new(StepName::Dns, Found::Fine(text!("an address needs none")), Duration::ZERO));
        return (steps, vec![(address, url.port).into()]);
    }
    let before = clock::now();
    let found = resolve(&url.host, url.port, attempt.patience);
    let took = clock::now().mono.saturating_duration_since(before.mono);
    let addresses = found.as_deref().unwrap_or_default();
    let outcome = match &found {
        Ok(found) => {
            let texts: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
            Found::Fine(Text::verbatim(texts.join(", ")))
        }
        Err(why) => Found::Broken(
            text!("`{}` has no address", url.host),
            Advice {
                why: why.clone(),
                hint: text!(
                    "check the name's A and AAAA records, and that no blank was pasted into the URL; browsers report \
                       such a server by error 701"
                ),
            },
        ),
    };
    let mut firsts: Vec<SocketAddr> = addresses.iter().copied().filter(SocketAddr::is_ipv4).take(1).collect();
    firsts.extend(addresses.iter().copied().filter(SocketAddr::is_ipv6).take(1));
    steps.push(Step::new(StepName::Dns, outcome, took));
    (steps, firsts)
}
