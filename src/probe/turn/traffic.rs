//! A hundred packets each way, as fast as a call sends them: the caller sends, the peer sends back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;
use super::hints::Trouble;
use super::report::Traffic;
use crate::sys::clock;

const PACKETS: u32 = 100;
/// Between packets: a voice sends every 20 ms, a picture in bursts.
const PACE: Duration = Duration::from_millis(5);
/// How long the last packets may take.
const LAST_WITHIN: Duration = Duration::from_secs(2);
/// How often the peer looks whether the caller has finished.
const LOOKED_EVERY: Duration = Duration::from_millis(50);
/// Bytes of a packet: 20 ms of voice.
const PAYLOAD: usize = 160;

/// Sends packets through both relays and back.
pub(super) fn exchange(caller: &mut Client, peer: &mut Client) -> Result<Traffic, Trouble> {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let echoing = thread::Builder::new().name("echo".to_owned()).spawn_scoped(scope, || echo(peer, &is_done));
        let echoing = echoing.map_err(Trouble::Io)?;
        let sent = send(caller);
        is_done.store(true, Ordering::Relaxed);
        let arrived = echoing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Traffic::of(PACKETS, arrived, sent?))
    })
}

/// Gives the round trips of the packets that came back.
fn send(caller: &mut Client) -> Result<Vec<Duration>, Trouble> {
    let mut sent_at: Vec<Instant> = Vec::new();
    let mut seen = Seen::default();
    let mut round_trips = Vec::new();
    let mut next = clock::now().mono;
    while seen.count < PACKETS {
        let now = clock::now().mono;
        let number = u32::try_from(sent_at.len()).unwrap_or(u32::MAX);
        if number < PACKETS && now >= next {
            let mut payload = [0; PAYLOAD];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            sent_at.push(now);
            caller.send_data(&payload)?;
            next = now + PACE;
            continue;
        }
        let until = if number < PACKETS { next } else { next + LAST_WITHIN };
        if now >= until {
            break;
        }
        let Some(payload) = caller.receive_data(until)? else { continue };
        if let Some(number) = seen.add(&payload)
            && let Some(at) = sent_at.get(number)
        {
            round_trips.push(clock::now().mono.saturating_duration_since(*at));
        }
    }
    Ok(round_trips)
}

/// Gives how many packets arrived.
fn echo(peer: &mut Client, is_done: &AtomicBool) -> Result<u32, Trouble> {
    let mut seen = Seen::default();
    while !is_done.load(Ordering::Relaxed) {
        if let Some(payload) = peer.receive_data(clock::now().mono + LOOKED_EVERY)?
            && seen.add(&payload).is_some()
        {
            peer.send_data(&payload)?;
        }
    }
    Ok(seen.count)
}

/// Which packets came; a network may deliver one twice.
struct Seen {
    came: [bool; PACKETS as usize],
    count: u32,
}

impl Default for Seen {
    fn default() -> Self {
        Self { came: [false; PACKETS as usize], count: 0 }
    }
}

impl Seen {
    /// The number of a packet of ours that is new.
    fn add(&mut self, payload: &[u8]) -> Option<usize> {
        let head = payload.first_chunk::<4>().filter(|_| payload.len() == PAYLOAD)?;
        let number = usize::try_from(u32::from_be_bytes(*head)).ok()?;
        let came = self.came.get_mut(number).filter(|came| !**came)?;
        *came = true;
        self.count += 1;
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_counts_once_and_a_foreign_one_never() {
        let mut seen = Seen::default();
        let packet = |number: u32| [&number.to_be_bytes()[..], &[0; PAYLOAD - 4]].concat();
        assert_eq!(seen.add(&packet(99)), Some(99));
        assert_eq!(seen.add(&packet(99)), None);
        assert_eq!(seen.add(&packet(100)), None);
        assert_eq!(seen.add(&packet(1)[..8]), None);
        assert_eq!(seen.count, 1);
    }
}
