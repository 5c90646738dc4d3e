//! How much a relay carries: packets through two allocations, as fast as they arrive, for a moment and no more.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;
use super::deep::{allocate_like, introduce, relayed_by, told};
use super::message::{Ask, Login};
use super::wire::Wire;
use crate::probe::{Fault, reachable};
use crate::sys::clock;
use crate::text;

/// Bytes of a packet: those of a picture are as large.
const PAYLOAD: usize = 1_200;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long nothing may come before it is over.
const LAST_WITHIN: Duration = Duration::from_millis(250);
/// What has not arrived by then is lost.
const LOST_AFTER: Duration = Duration::from_millis(200);
/// Fewer packets say nothing.
const FEW: u64 = 32;
const MEGABIT: f64 = 1e6;

/// When sending ends, whichever comes first.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    pub span: Duration,
    pub bytes: u64,
    /// Packets that may be under way: no buffer of the relay's is to overflow, which its users would notice.
    pub window: u64,
}

impl Bound {
    /// On this host, where nobody else is slowed down.
    pub const HERE: Self = Self { span: Duration::from_millis(500), bytes: 256 << 20, window: 32 };
    /// Over a line that others use, too. The time of the way and the window bound what can be found.
    pub const ACROSS: Self = Self { span: Duration::from_secs(1), bytes: 8 << 20, window: 96 };
}

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speed {
    pub sent: u64,
    /// Packets.
    pub arrived: u64,
    /// From the first that arrived to the last.
    pub took: Duration,
}

impl Speed {
    /// Mbit/s of what callers say to each other; `None`: too few arrived.
    #[must_use]
    pub fn megabits(&self) -> Option<f64> {
        let is_enough = self.arrived >= FEW && !self.took.is_zero();
        // The first packet only starts the watch.
        let packets = u32::try_from(self.arrived.saturating_sub(1)).ok()?;
        let bits = f64::from(packets) * f64::from(u32::try_from(PAYLOAD * 8).ok()?);
        is_enough.then(|| bits / self.took.as_secs_f64() / MEGABIT)
    }
}

/// Sends by UDP through both relays, from one client to another.
///
/// # Errors
/// If the relay cannot be used.
pub fn speed(relay: SocketAddr, login: &Login, bound: Bound) -> Result<Speed, Fault> {
    let until = clock::now().mono + bound.span + 2 * PATIENCE;
    let (mut one, one_at) = allocated(relay, login, until)?;
    let (mut two, two_at) = allocated(relay, login, until)?;
    introduce((&mut one, one_at), (&mut two, two_at))?;
    let heard = AtomicU64::new(0);
    let sender = thread::current();
    let found = thread::scope(|scope| {
        let listening = thread::Builder::new().name("listen".to_owned()).spawn_scoped(scope, || {
            listen(&mut two, until, &|arrived| {
                heard.store(arrived, Ordering::Relaxed);
                sender.unpark();
            })
        });
        let listening = listening.map_err(|error| Fault::new(text!("no thread to listen: {}", error)))?;
        let sent = send(&mut one, bound, &heard)?;
        let (arrived, took) = listening.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Speed { sent, arrived, took })
    })?;
    for client in [&mut one, &mut two] {
        // What is left behind ends with its client.
        let _ = client.ask(Ask::Refresh(0));
    }
    Ok(found)
}

fn send(client: &mut Client, bound: Bound, heard: &AtomicU64) -> Result<u64, Fault> {
    let ends_at = clock::now().mono + bound.span;
    let (mut sent, payload) = (0, [0x5a; PAYLOAD]);
    // Of what was sent, what is not under way any more: arrived, or lost.
    let (mut known, mut known_at, mut lost) = (0, clock::now().mono, 0);
    while sent * PAYLOAD as u64 <= bound.bytes {
        let now = clock::now().mono;
        if now >= ends_at {
            break;
        }
        let arrived = heard.load(Ordering::Relaxed);
        if arrived != known {
            (known, known_at) = (arrived, now);
        }
        if sent - (arrived + lost).min(sent) >= bound.window {
            if now >= known_at + LOST_AFTER {
                (lost, known_at) = (sent - arrived.min(sent), now);
            }
            thread::park_timeout(LOST_AFTER.min(ends_at - now));
            continue;
        }
        client.send_data(&payload).map_err(|trouble| told(&trouble, "ChannelData"))?;
        sent += 1;
    }
    Ok(sent)
}

fn listen(client: &mut Client, until: Instant, tell: &dyn Fn(u64)) -> Result<(u64, Duration), Fault> {
    let (mut arrived, mut first, mut last) = (0, None, None);
    loop {
        let now = clock::now().mono;
        let patience = if arrived == 0 { PATIENCE } else { LAST_WITHIN };
        let heard =
            client.receive_data((now + patience).min(until)).map_err(|trouble| told(&trouble, "ChannelData"))?;
        if heard.is_none_or(|heard| heard.len() != PAYLOAD) {
            break;
        }
        arrived += 1;
        tell(arrived);
        let now = clock::now().mono;
        first = first.or(Some(now));
        last = Some(now);
    }
    let took = first.zip(last).map(|(first, last)| last.saturating_duration_since(first));
    Ok((arrived, took.unwrap_or_default()))
}

fn allocated(relay: SocketAddr, login: &Login, until: Instant) -> Result<(Client, SocketAddr), Fault> {
    let address = reachable(relay);
    let wire = Wire::udp(address).map_err(|error| Fault::of_io(address, "udp", &error))?;
    let mut client = Client::new(wire, PATIENCE).ending(until);
    client.challenge().map_err(|trouble| told(&trouble, format!("the first Allocate to `{address}`")))?;
    client.log_in(login);
    let relayed = relayed_by(&mut client, allocate_like(address.ip()))?;
    Ok((client, relayed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_told_of_what_arrived_and_of_enough_of_it() {
        let speed = |arrived| Speed { sent: 2_000, arrived, took: Duration::from_millis(96) };
        assert_eq!(speed(1_001).megabits().map(f64::round), Some(100.0));
        assert_eq!(speed(FEW - 1).megabits(), None);
        assert_eq!(Speed { took: Duration::ZERO, ..speed(1_001) }.megabits(), None);
    }
}
