//! Takes the steps at one address of a server, each when the ones before it succeeded.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::hints::{Scene, Trouble, explain, loss, unreachable_relay};
use super::message::{Ask, CHANNEL};
use super::report::{Advice, Found, Report, Step, StepName, Traffic};
use super::traffic::exchange;
use super::trust::Witness;
use super::url::{Carrier, Service};
use super::wire::Wire;
use super::{Attempt, Event};
use crate::probe::PresentedLeaf;
use crate::sys::clock;
use crate::text;
use crate::words::Text;

/// What a test's allocation would be kept for if it were not ended.
const REFRESHED_FOR: u32 = 600;
/// A certificate that ends within this is about to be forgotten.
const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 3600);
const SECONDS_A_DAY: u64 = 86_400;
/// Names of a certificate that are told.
const MAX_NAMES: usize = 4;
/// What no relay may reach: its own host, and where clouds hand out credentials.
const FORBIDDEN_V4: [IpAddr; 2] =
    [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 254))];
const FORBIDDEN_V6: [IpAddr; 2] = [
    IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// A step failed on which the next ones depend.
struct Stopped;

struct Walk<'a, 'b> {
    attempt: Attempt<'a>,
    server: SocketAddr,
    /// The host has no other address to try.
    is_only: bool,
    report: &'b mut Report,
    tell: &'b mut dyn FnMut(Event<'_>),
}

/// Takes the steps from the connection on, until one fails that the next ones need.
pub(super) fn walk(
    attempt: Attempt<'_>,
    server: SocketAddr,
    is_only: bool,
    report: &mut Report,
    tell: &mut dyn FnMut(Event<'_>),
) {
    let mut walk = Walk { attempt, server, is_only, report, tell };
    // What was not reached is told by the caller.
    let _ = walk.go();
}

impl Walk<'_, '_> {
    fn go(&mut self) -> Result<(), Stopped> {
        let mut caller = self.connect()?;
        let mapped = self.step(StepName::Binding, || {
            let answer = caller.ask_unsigned(Ask::Binding)?;
            if let Some((code, reason)) = answer.refusal {
                return Err(Trouble::Refused { code, reason });
            }
            let mapped = answer.mapped.ok_or(Trouble::Lacking("XOR-MAPPED-ADDRESS"))?;
            Ok((mapped, Found::Fine(text!("seen as {}", mapped))))
        });
        self.report.mapped = mapped.ok();
        if self.attempt.url.service == Service::Stun {
            return Ok(());
        }
        self.step(StepName::Challenge, || {
            let challenge = caller.challenge()?;
            Ok(((), Found::Fine(text!("realm `{}`", challenge.realm.escape_debug()))))
        })?;
        let Some(login) = self.attempt.login else {
            self.tell(StepName::Allocate, Found::Nothing(text!("no credentials were given")), Duration::ZERO);
            return Err(Stopped);
        };
        caller.log_in(login);
        let server = self.server.ip();
        let relayed = self.step(StepName::Allocate, || {
            let relayed = allocate(&mut caller)?;
            let told = text!("relayed address {}", relayed);
            let found = match unreachable_relay(relayed.ip(), server) {
                Some(advice) => Found::Broken(told, advice),
                None => Found::Fine(told),
            };
            Ok((relayed, found))
        })?;
        self.report.relayed = Some(relayed);
        let (attempt, address) = (self.attempt, self.server);
        let (mut peer, peer_relayed) = self.step(StepName::Peer, || {
            let mut peer = open(attempt, address)?;
            peer.challenge()?;
            peer.log_in(login);
            let relayed = allocate(&mut peer)?;
            Ok(((peer, relayed), Found::Fine(text!("relayed address {}", relayed))))
        })?;
        self.talk(&mut caller, relayed, &mut peer, peer_relayed)?;
        if self.attempt.attack {
            // A relay that opens what it must not is a finding, and still to be released.
            let _ = self.step(StepName::Attack, || Ok(((), attack(&mut caller, relayed.ip())?)));
        }
        self.step(StepName::Release, || {
            caller.ask(Ask::Refresh(0))?;
            peer.ask(Ask::Refresh(0))?;
            Ok(((), Found::Fine(text!("both allocations ended"))))
        })?;
        self.step(StepName::Released, || Ok(((), released(&mut caller)?)))
    }

    fn connect(&mut self) -> Result<Client, Stopped> {
        let Attempt { url, trust, patience, .. } = self.attempt;
        let server = self.server;
        if url.carrier == Carrier::Udp {
            return self.step(StepName::Connect, || {
                let mut client = Client::new(Wire::udp(server).map_err(Trouble::Io)?, patience);
                client.reach()?;
                Ok((client, Found::Fine(text!("answers"))))
            });
        }
        let wire = self.step(StepName::Connect, || {
            let wire = Wire::tcp(server, clock::now().mono + patience).map_err(Trouble::Io)?;
            Ok((wire, Found::Fine(text!("connected"))))
        })?;
        if url.carrier == Carrier::Tcp {
            return Ok(Client::new(wire, patience));
        }
        self.step(StepName::Tls, || {
            let (config, witness) = trust.config()?;
            let secured = wire.secure(config, &url.host, clock::now().mono + patience);
            let (wire, version) = secured.map_err(|trouble| with_leaf(trouble, &witness))?;
            Ok((Client::new(wire, patience), certificate(&version, witness.leaf())))
        })
    }

    /// Permissions, channels and packets.
    fn talk(
        &mut self,
        caller: &mut Client,
        relayed: SocketAddr,
        peer: &mut Client,
        peer_relayed: SocketAddr,
    ) -> Result<(), Stopped> {
        self.step(StepName::Permission, || {
            caller.ask(Ask::Permit(peer_relayed))?;
            peer.ask(Ask::Permit(relayed))?;
            Ok(((), Found::Fine(text!("each relay lets the other in"))))
        })?;
        self.step(StepName::Channel, || {
            caller.ask(Ask::Bind { channel: CHANNEL, peer: peer_relayed })?;
            peer.ask(Ask::Bind { channel: CHANNEL, peer: relayed })?;
            Ok(((), Found::Fine(text!("channel {} on both sides", format!("{:#x}", CHANNEL)))))
        })?;
        let traffic = self.step(StepName::Data, || {
            let traffic = exchange(caller, peer)?;
            Ok((traffic, judge(traffic)))
        })?;
        self.report.traffic = Some(traffic);
        Ok(())
    }

    fn step<T>(&mut self, name: StepName, act: impl FnOnce() -> Result<(T, Found), Trouble>) -> Result<T, Stopped> {
        let before = clock::now();
        let outcome = act();
        let took = clock::now().mono.saturating_duration_since(before.mono);
        match outcome {
            Ok((value, found)) => {
                self.tell(name, found, took);
                Ok(value)
            }
            Err(trouble) => {
                let (url, login) = (self.attempt.url, self.attempt.login);
                let username = login.map(|login| login.username.as_str());
                let (told, advice) = explain(&trouble, Scene { step: name, url, username, now: before.unix_seconds() });
                // A family that this host does not have says nothing about the server.
                let found = if name == StepName::Connect && !self.is_only && is_without_route(&trouble) {
                    Found::Nothing(text!("this host has no route to it"))
                } else {
                    Found::Broken(told, advice)
                };
                self.tell(name, found, took);
                Err(Stopped)
            }
        }
    }

    fn tell(&mut self, name: StepName, found: Found, took: Duration) {
        let step = Step::new(name, found, took);
        (self.tell)(Event::Step(&step));
        self.report.steps.push(step);
    }
}

/// Connects anew by the way that is known to work.
fn open(attempt: Attempt<'_>, server: SocketAddr) -> Result<Client, Trouble> {
    let until = clock::now().mono + attempt.patience;
    let wire = match attempt.url.carrier {
        Carrier::Udp => Wire::udp(server).map_err(Trouble::Io)?,
        Carrier::Tcp => Wire::tcp(server, until).map_err(Trouble::Io)?,
        Carrier::Tls => {
            let (config, _) = attempt.trust.config()?;
            Wire::tcp(server, until).map_err(Trouble::Io)?.secure(config, &attempt.url.host, until)?.0
        }
    };
    Ok(Client::new(wire, attempt.patience))
}

fn allocate(client: &mut Client) -> Result<SocketAddr, Trouble> {
    client.ask(Ask::Allocate)?.relayed.ok_or(Trouble::Lacking("XOR-RELAYED-ADDRESS"))
}

fn is_without_route(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Io(error)
        if matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::AddrNotAvailable))
}

/// Adds what the certificate says to why it was not taken.
fn with_leaf(trouble: Trouble, witness: &Arc<Witness>) -> Trouble {
    match (trouble, witness.leaf()) {
        (Trouble::Tls { problem, text }, Some(leaf)) => {
            let text = text!("{}; it is for {}, {}", text, names(&leaf), lasts(&leaf).0);
            Trouble::Tls { problem, text }
        }
        (trouble, _) => trouble,
    }
}

fn certificate(version: &str, leaf: Option<PresentedLeaf>) -> Found {
    let Some(leaf) = leaf else { return Found::Fine(Text::verbatim(version)) };
    let (lasts, ends_soon) = lasts(&leaf);
    let told = text!("{}, certificate for {}, {}", version, names(&leaf), lasts);
    if ends_soon {
        Found::Odd(
            told,
            Advice {
                why: text!("the certificate ends soon"),
                hint: text!("renew it, and have the server load the new one: some read it at their start only"),
            },
        )
    } else {
        Found::Fine(told)
    }
}

fn names(leaf: &PresentedLeaf) -> Text {
    let told: Vec<String> = leaf.names.iter().take(MAX_NAMES).map(|name| name.escape_debug().to_string()).collect();
    match leaf.names.len().saturating_sub(MAX_NAMES) {
        0 if told.is_empty() => text!("no name"),
        0 => Text::verbatim(told.join(", ")),
        more => text!("{} and {} more", told.join(", "), more),
    }
}

fn lasts(leaf: &PresentedLeaf) -> (Text, bool) {
    match leaf.not_after.duration_since(clock::now().wall) {
        Ok(left) => (text!("valid for {} days", left.as_secs() / SECONDS_A_DAY), left < ENDS_SOON),
        Err(past) => (text!("expired {} days ago", past.duration().as_secs() / SECONDS_A_DAY), true),
    }
}

fn judge(traffic: Traffic) -> Found {
    let Traffic { sent, arrived, returned, p50, p90 } = traffic;
    let ms = |span: Duration| span.as_secs_f64() * 1e3;
    let told = if returned == sent {
        text!(
            "{} packets each way without loss, round trip {} ms, 90 % within {} ms",
            sent,
            format!("{:.1}", ms(p50)),
            format!("{:.1}", ms(p90))
        )
    } else {
        text!("of {} packets {} arrived and {} came back", sent, arrived, returned)
    };
    // A call copes with a lost packet now and then, not with every tenth.
    match returned {
        _ if returned == sent => Found::Fine(told),
        _ if returned * 10 >= sent * 9 => Found::Odd(told, loss(arrived, returned)),
        _ => Found::Broken(told, loss(arrived, returned)),
    }
}

/// Asks for permissions that must be refused.
fn attack(client: &mut Client, relayed: IpAddr) -> Result<Found, Trouble> {
    let forbidden = if relayed.is_ipv4() { FORBIDDEN_V4 } else { FORBIDDEN_V6 };
    let mut refused = Vec::new();
    // A relay on loopback lets its own clients in there.
    for peer in forbidden.into_iter().filter(|peer| *peer != relayed) {
        match client.ask(Ask::Permit((peer, 80).into())) {
            Err(Trouble::Refused { code, .. }) => refused.push((peer, code)),
            Err(trouble) => return Err(trouble),
            Ok(_) => {
                return Ok(Found::Broken(
                    text!("the relay lets its users send to {}", peer),
                    Advice {
                        why: text!(
                            "whoever has credentials reaches services that only this host or its network should reach"
                        ),
                        hint: text!("deny loopback, link-local, private and metadata addresses as peers"),
                    },
                ));
            }
        }
    }
    let told = refused.iter().map(|(peer, code)| text!("{}: {}", peer, code));
    let told = text!("refused, as it must be: {}", Text::list(told));
    // RFC 8656, section 9: Forbidden; or Peer Address Family Mismatch.
    if refused.iter().all(|(_, code)| matches!(code, 403 | 443)) {
        return Ok(Found::Fine(told));
    }
    let why = text!("the code is to be 403");
    Ok(Found::Odd(told, Advice { why, hint: text!("nothing needs to be done; clients may be puzzled") }))
}

/// Whether an allocation that was ended is gone.
fn released(client: &mut Client) -> Result<Found, Trouble> {
    match client.ask(Ask::Refresh(REFRESHED_FOR)) {
        Err(Trouble::Refused { code: 437, .. }) => Ok(Found::Fine(text!("the allocation is gone"))),
        Err(Trouble::Closed) => Ok(Found::Fine(text!("the server closed the connection"))),
        Err(trouble) => Err(trouble),
        Ok(_) => Ok(Found::Odd(
            text!("a Refresh after the end is granted"),
            Advice {
                why: text!("RFC 8656, section 5, wants 437; what was ended may still count against the user's quota"),
                hint: text!("nothing breaks by it; raise the quota if callers run into it"),
            },
        )),
    }
}
