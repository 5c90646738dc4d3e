//! Thousands of clients in rooms of two, what they say to each other, and what of it comes.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustls::ClientConfig;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::client::{Ear, Voice, connect};
use crate::measure::Clock;

/// Handshakes at a time.
const AT_ONCE: usize = 32;
/// How long anything may take of which nothing is measured.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether everything has come.
const LOOKED_EVERY: Duration = Duration::from_millis(1);
/// Each room comes from an address of its own below this one, as callers do.
const CROWD: u32 = u32::from_be_bytes([127, 64, 0, 0]);

/// What was wrong with what came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) misrouted: u64,
    pub(crate) disordered: u64,
}

impl Faults {
    pub(crate) fn total(self) -> u64 {
        self.lost + self.doubled + self.misrouted + self.disordered
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.misrouted += other.misrouted;
        self.disordered += other.disordered;
    }
}

/// What all ears write down.
struct Notes {
    clock: Clock,
    came: AtomicU64,
    doubled: AtomicU64,
    misrouted: AtomicU64,
    disordered: AtomicU64,
    /// Nanoseconds on the way.
    latencies: std::sync::Mutex<Vec<u32>>,
    /// Ears that have heard the end before it was due.
    cut: AtomicU64,
    ends: AtomicBool,
}

struct Member {
    voice: Arc<Voice>,
    sent: u64,
    room: usize,
    pings_every: Duration,
    ear: JoinHandle<()>,
}

/// Clients that are all in their rooms, neighbours in the same one.
pub(crate) struct Crowd {
    members: Vec<Member>,
    notes: Rc<Notes>,
    sent: u64,
    /// Whose turn it is.
    next: usize,
}

impl Crowd {
    /// Connects `count` clients and has them join.
    pub(crate) async fn gather(
        server: SocketAddrV4,
        count: usize,
        tls: &Arc<ClientConfig>,
        clock: Clock,
    ) -> io::Result<Self> {
        let notes = Rc::new(Notes {
            clock,
            came: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            misrouted: AtomicU64::new(0),
            disordered: AtomicU64::new(0),
            latencies: std::sync::Mutex::default(),
            cut: AtomicU64::new(0),
            ends: AtomicBool::new(false),
        });
        let doors = Rc::new(Semaphore::new(AT_ONCE));
        let entering: Vec<JoinHandle<io::Result<Member>>> = (0..count)
            .map(|number| {
                let (doors, notes, tls) = (Rc::clone(&doors), Rc::clone(&notes), Arc::clone(tls));
                spawn_local(async move {
                    let _open = doors.acquire().await.map_err(io::Error::other)?;
                    let room = number / 2;
                    let address = CROWD + 1 + u32::try_from(room).map_err(io::Error::other)?;
                    let entering = enter(server, Ipv4Addr::from(address), &tls, number);
                    let (voice, ear) = timeout(PATIENCE, entering).await??;
                    let pings_every = ear.pings_every;
                    let ear = spawn_local(hear(ear, number, notes));
                    Ok(Member { voice, sent: 0, room, pings_every, ear })
                })
            })
            .collect();
        let mut members = Vec::with_capacity(count);
        for member in entering {
            members.push(member.await.map_err(io::Error::other)??);
        }
        Ok(Self { members, notes, sent: 0, next: 0 })
    }

    /// So long after one ping of each client, each has had the next.
    pub(crate) fn pings_every(&self) -> Duration {
        self.members.iter().map(|member| member.pings_every).max().unwrap_or_default()
    }

    /// Sends evenly so many messages a second in all; gives how many were sent, and how long each was on its way.
    pub(crate) async fn talk_evenly(&mut self, rate: u64, span: Duration) -> io::Result<(u64, Vec<u32>)> {
        const TICK: Duration = Duration::from_millis(1);
        self.notes.latencies.lock().expect("nobody panics with it").clear();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (before, start) = (self.sent, self.notes.clock.now());
        let (whole, rate) = (u64::try_from(span.as_nanos()).map_err(io::Error::other)?, u128::from(rate));
        loop {
            ticks.tick().await;
            let past = self.notes.clock.now() - start;
            if past >= whole {
                break;
            }
            let due = u64::try_from(u128::from(past) * rate / 1_000_000_000).map_err(io::Error::other)?;
            while self.sent - before < due {
                // Far from each other, so that no two of one room speak at a time.
                self.next = (self.next + 1009) % self.members.len();
                self.say(self.next, 1).await?;
            }
        }
        self.settle().await;
        let latencies = std::mem::take(&mut *self.notes.latencies.lock().expect("nobody panics with it"));
        Ok((self.sent - before, latencies))
    }

    /// Everyone sends a handful at once, again as soon as all of it has come; gives how many messages that were.
    pub(crate) async fn talk_at_once(&mut self, handful: usize, rounds: usize) -> io::Result<u64> {
        let before = self.sent;
        for _ in 0..rounds {
            for member in 0..self.members.len() {
                self.say(member, handful).await?;
            }
            self.settle().await;
        }
        Ok(self.sent - before)
    }

    async fn say(&mut self, number: usize, count: usize) -> io::Result<()> {
        let Member { voice, sent, room, .. } = &mut self.members[number];
        let events: Vec<String> = (0..count)
            .map(|_| {
                let at = self.notes.clock.now();
                let event = candidate(*room, number, *sent, at);
                *sent += 1;
                event
            })
            .collect();
        self.sent += count as u64;
        voice.emit(&events).await
    }

    /// Waits until everything has come, or nothing has for a while.
    async fn settle(&self) {
        let all_has_come = async {
            while self.notes.came.load(Relaxed) < self.sent {
                sleep(LOOKED_EVERY).await;
            }
        };
        let _ = timeout(PATIENCE, all_has_come).await;
    }

    /// Everyone leaves, half of them without a word. Gives what was wrong until then.
    pub(crate) async fn leave(self) -> Faults {
        // What was sent twice may come a moment later.
        sleep(Duration::from_millis(200)).await;
        let notes = &self.notes;
        notes.ends.store(true, Relaxed);
        let faults = Faults {
            lost: self.sent.saturating_sub(notes.came.load(Relaxed)),
            doubled: notes.doubled.load(Relaxed),
            misrouted: notes.misrouted.load(Relaxed) + notes.cut.load(Relaxed),
            disordered: notes.disordered.load(Relaxed),
        };
        for (number, member) in self.members.iter().enumerate() {
            if number % 2 == 0 {
                let _ = member.voice.close().await;
            }
            member.ear.abort();
        }
        faults
    }
}

async fn enter(
    server: SocketAddrV4,
    from: Ipv4Addr,
    tls: &Arc<ClientConfig>,
    number: usize,
) -> io::Result<(Arc<Voice>, Ear)> {
    let (voice, mut ear) = connect(server, from, tls).await?;
    voice.emit(&[format!("[\"join\",\"room-{}\"]", number / 2)]).await?;
    loop {
        match ear.event().await? {
            Some(event) if event.starts_with("[\"joined\"") => return Ok((voice, ear)),
            Some(event) if event.starts_with("[\"otherjoin\"") => {}
            other => return Err(io::Error::other(format!("client {number} was not let in: {other:?}"))),
        }
    }
}

/// Writes down what one client hears.
async fn hear(mut ear: Ear, number: usize, notes: Rc<Notes>) {
    let room = format!("room-{}", number / 2);
    let other = (number ^ 1) as u64;
    let mut expected = 0;
    while let Ok(Some(event)) = ear.event().await {
        let now = notes.clock.now();
        let Ok(Value::Array(event)) = serde_json::from_str(&event) else { continue };
        match event.first().and_then(Value::as_str) {
            Some("otherjoin" | "bye") => continue,
            Some("message") => {}
            _ => {
                notes.misrouted.fetch_add(1, Relaxed);
                continue;
            }
        }
        let field = |name: &str| event.get(2).and_then(|data| data.get(name)).and_then(Value::as_u64);
        let (Some(from), Some(count), Some(at)) = (field("from"), field("count"), field("at")) else {
            notes.misrouted.fetch_add(1, Relaxed);
            continue;
        };
        if event.get(1).and_then(Value::as_str) != Some(&room) || from != other {
            notes.misrouted.fetch_add(1, Relaxed);
            continue;
        }
        match count.cmp(&expected) {
            std::cmp::Ordering::Less => {
                notes.doubled.fetch_add(1, Relaxed);
                continue;
            }
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => {
                notes.disordered.fetch_add(1, Relaxed);
            }
        }
        expected = count + 1;
        let taken = u32::try_from(now.saturating_sub(at)).unwrap_or(u32::MAX);
        notes.latencies.lock().expect("nobody panics with it").push(taken);
        notes.came.fetch_add(1, Relaxed);
    }
    if !notes.ends.load(Relaxed) {
        notes.cut.fetch_add(1, Relaxed);
    }
}

/// What pages send most: a candidate.
fn candidate(room: usize, from: usize, count: u64, at: u64) -> String {
    format!(
        "[\"message\",\"room-{room}\",{{\"type\":\"candidate\",\"label\":0,\"id\":\"0\",\"candidate\":\"candidate:842163049 1 udp \
         1677729535 203.0.113.77 46154 typ srflx raddr 192.0.2.57 rport 46154 generation 0 ufrag tLBK network-cost 999\",\
         \"from\":{from},\"count\":{count},\"at\":{at}}}]"
    )
}

/// Runs what needs a crowd.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    Ok(runtime.block_on(local.run_until(work)))
}
