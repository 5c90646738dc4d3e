//! Which probes there are for a configuration, and how each is made.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::certs::{CertHandle, Served};
use crate::findings::facts::{Kind, Verdict};
use crate::probe::turn::{Carrier, Denial, Login, OwnRelay, refuses_logins, refuses_peers, relays};
use crate::probe::{self, Fault, Secured};
use crate::sys::clock::{self, Now};
use crate::sys::marks::Marks;
use crate::text;
use crate::turn::Control;
use crate::turn::insiders::Route;

/// How often what costs little is asked, and how often what costs handshakes and allocations.
const CHEAP_EVERY: Duration = Duration::from_secs(15);
const DEEP_EVERY: Duration = Duration::from_secs(60);
/// How long a probe may take: what takes longer does not work for a caller either.
const CHEAP_WITHIN: Duration = Duration::from_secs(3);
const DEEP_WITHIN: Duration = Duration::from_secs(8);
/// How long a probe's credential is good for, and how long ago an expired one was: longer than clocks may differ.
const LOGIN_FOR: u64 = 300;
const EXPIRED_FOR: u64 = 3600;

/// Where the service listens.
#[derive(Debug, Clone, Default)]
pub(super) struct Targets {
    pub(super) https: Vec<SocketAddr>,
    /// TURN by TCP and by TLS.
    pub(super) streams: Vec<SocketAddr>,
    pub(super) udp: Vec<SocketAddr>,
    /// The name that callers know the host by, if it has one.
    pub(super) name: Option<String>,
}

/// What asks the tasks. Cheap to clone.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) certificate: CertHandle,
    pub(super) relay: Control,
    pub(super) marks: Marks,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) kind: Kind,
    at: Option<SocketAddr>,
    name: Option<String>,
}

/// Probes that are made one after the other, apart from the others: a slow one holds up its own lane alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Cheap,
    Deep,
}

impl Check {
    /// Where it asks.
    pub(super) fn place(&self) -> String {
        self.at.map(|address| address.to_string()).unwrap_or_default()
    }

    pub(super) fn lane(&self) -> Lane {
        match self.kind {
            Kind::Certificate | Kind::Stun | Kind::Web | Kind::Signaling => Lane::Cheap,
            Kind::Fingerprint
            | Kind::Rooms
            | Kind::RelayUdp
            | Kind::RelayTcp
            | Kind::RelayTls
            | Kind::ForbiddenPeers
            | Kind::ForbiddenLogins => Lane::Deep,
        }
    }

    pub(super) fn period(&self) -> Duration {
        match self.lane() {
            Lane::Cheap => CHEAP_EVERY,
            Lane::Deep => DEEP_EVERY,
        }
    }

    fn deadline(&self, now: Instant) -> Instant {
        now + match self.lane() {
            Lane::Cheap => CHEAP_WITHIN,
            Lane::Deep => DEEP_WITHIN,
        }
    }
}

/// Every probe that there is a target for.
pub(super) fn checks(targets: &Targets) -> Vec<Check> {
    let at = |kind: Kind, address: &SocketAddr| Check { kind, at: Some(*address), name: targets.name.clone() };
    let mut checks = vec![Check { kind: Kind::Certificate, at: None, name: None }];
    checks.extend(targets.udp.iter().map(|address| at(Kind::Stun, address)));
    if let Some(address) = targets.https.first() {
        checks.extend([Kind::Web, Kind::Signaling, Kind::Rooms].map(|kind| at(kind, address)));
    }
    let secured: BTreeSet<&SocketAddr> = targets.https.iter().chain(&targets.streams).collect();
    checks.extend(secured.into_iter().map(|address| at(Kind::Fingerprint, address)));
    checks.extend(targets.udp.iter().map(|address| at(Kind::RelayUdp, address)));
    for address in one_a_port(&targets.streams) {
        checks.extend([Kind::RelayTcp, Kind::RelayTls].map(|kind| at(kind, address)));
    }
    if let Some(address) = targets.udp.first() {
        checks.extend([Kind::ForbiddenPeers, Kind::ForbiddenLogins].map(|kind| at(kind, address)));
    }
    checks
}

/// What is behind an address is the same for all addresses of a port.
fn one_a_port(addresses: &[SocketAddr]) -> Vec<&SocketAddr> {
    let mut ports = BTreeSet::new();
    addresses.iter().filter(|address| ports.insert(address.port())).collect()
}

impl Asker {
    /// Makes a probe; takes no longer than its deadline.
    pub(super) fn ask(&self, check: &Check) -> Verdict {
        let now = clock::now();
        let served = self.certificate.current();
        let Some(address) = check.at else { return of_certificate(served.as_deref(), now) };
        let until = check.deadline(now.mono);
        let fingerprint = served.as_ref().map(|served| served.fingerprint.as_str()).unwrap_or_default();
        let at = Secured { address, name: None, fingerprint, marks: &self.marks, until };
        let outcome = match check.kind {
            Kind::Certificate => return of_certificate(served.as_deref(), now),
            Kind::Stun => probe::stun(address, until),
            Kind::Web => probe::web(at),
            Kind::Signaling => probe::signaling(at),
            Kind::Rooms => probe::rooms(at),
            Kind::Fingerprint => probe::handshake(at).map_err(|fault| fault.at(text!("without SNI"))).and_then(|()| {
                let Some(name) = check.name.as_deref() else { return Ok(()) };
                probe::handshake(Secured { name: Some(name), ..at }).map_err(|fault| fault.at(text!("SNI `{}`", name)))
            }),
            Kind::RelayUdp => self.relays(Carrier::Udp, at, now),
            Kind::RelayTcp => self.relays(Carrier::Tcp, at, now),
            Kind::RelayTls => self.relays(Carrier::Tls, at, now),
            Kind::ForbiddenPeers => {
                return self.with_relay(Carrier::Udp, at, |relay| {
                    denied(refuses_peers(relay, &self.login(Route::InProcess, now.unix_seconds() + LOGIN_FOR)))
                });
            }
            Kind::ForbiddenLogins => {
                return self.with_relay(Carrier::Udp, at, |relay| {
                    let good = self.login(Route::InProcess, now.unix_seconds() + LOGIN_FOR);
                    let wrong = Login { password: "wrong".to_owned(), ..good };
                    let expired = self.login(Route::InProcess, now.unix_seconds().saturating_sub(EXPIRED_FOR));
                    denied(refuses_logins(relay, &wrong, &expired))
                });
            }
        };
        outcome.map_or_else(failed, |()| Verdict::Fine)
    }

    fn relays(&self, carrier: Carrier, at: Secured<'_>, now: Now) -> Result<(), Fault> {
        let login = |route: Route| (route.as_str(), self.login(route, now.unix_seconds() + LOGIN_FOR));
        self.with_relay(carrier, at, |relay| relays(relay, &Route::ALL.map(login)))
    }

    fn with_relay<T>(&self, carrier: Carrier, at: Secured<'_>, ask: impl FnOnce(OwnRelay<'_>) -> T) -> T {
        let relays = self.relay.relay_addresses();
        let told: Vec<_> = relays.iter().map(|relay| relay.told).collect();
        let listening = self.relay.listening_addresses();
        let own: Vec<_> = relays.iter().map(|relay| relay.local).chain(listening).collect();
        ask(OwnRelay { carrier, at, addresses: &told, own: &own })
    }

    /// For who measures what the relay carries from outside of this process: as a caller and a peer elsewhere.
    pub(super) fn measuring_login(&self) -> Login {
        self.login(Route::ByKernel, clock::now().unix_seconds() + LOGIN_FOR)
    }

    fn login(&self, route: Route, expires_at: u64) -> Login {
        let (username, password) = self.relay.probe_credentials(route, expires_at);
        Login { username, password }
    }
}

fn of_certificate(served: Option<&Served>, now: Now) -> Verdict {
    match served {
        Some(served) if served.not_after > now.wall => Verdict::Fine,
        Some(_) => Verdict::Failed(text!("the certificate that is served has expired")),
        None => Verdict::Failed(text!("no certificate is served")),
    }
}

fn failed(fault: Fault) -> Verdict {
    if fault.is_refused() { Verdict::Refused(fault.told()) } else { Verdict::Failed(fault.told()) }
}

fn denied(outcome: Result<(), Denial>) -> Verdict {
    match outcome {
        Ok(()) => Verdict::Fine,
        Err(Denial::Granted(what)) => Verdict::Granted(what),
        Err(Denial::Broken(fault)) => failed(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listener_has_its_probes() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let targets = Targets {
            https: addresses(&["[::]:443", "0.0.0.0:443"]),
            streams: addresses(&["[::]:3478", "0.0.0.0:3478", "[::]:443", "0.0.0.0:443"]),
            udp: addresses(&["[::]:3478", "0.0.0.0:3478"]),
            name: None,
        };
        let places = |kind| -> Vec<String> {
            checks(&targets).iter().filter(|check| check.kind == kind).map(Check::place).collect()
        };
        assert_eq!(places(Kind::Stun), ["[::]:3478", "0.0.0.0:3478"]);
        assert_eq!(places(Kind::Fingerprint), ["0.0.0.0:443", "0.0.0.0:3478", "[::]:443", "[::]:3478"]);
        assert_eq!(places(Kind::RelayTls), ["[::]:3478", "[::]:443"]);
        assert_eq!(places(Kind::Rooms), ["[::]:443"]);
        for kind in Kind::ALL {
            assert!(!places(kind).is_empty(), "{}", kind.as_str());
        }
        let alone: Vec<Kind> = checks(&Targets::default()).iter().map(|check| check.kind).collect();
        assert_eq!(alone, [Kind::Certificate]);
    }
}
