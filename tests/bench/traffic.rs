//! Relayed traffic: clients that send numbered packets, peers that send them back, and the account of both.
//!
//! One thread plays everybody. Each packet says who sent it, its number and the time, so what comes back is known to
//! be whole, to be the right client's, to be the first copy, and how long it took.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use rustls::ClientConfig;

use crate::dialogue::Allocation;
use crate::link::{Link, Transport};
use crate::measure::{Clock, Usage, nanos, percentile, usage};
use crate::stun::{self, CHANNEL, CHANNEL_HEADER, Credentials, Message};
use crate::{sock, where_is};

/// Magic, client, number, time.
const STAMP: usize = 24;
const MAGIC: u32 = 0x7274_6362;
/// More than any window, so that a packet's number finds its place.
const WINDOW_MAX: usize = 256;
/// A client that hears nothing for this long takes what it waits for as lost, and goes on.
const STALL: Duration = Duration::from_millis(250);
/// How long stragglers are waited for after the end.
const DRAIN: Duration = Duration::from_millis(1500);
/// A sender that is this late leaves out what it owes.
const LATE: Duration = Duration::from_millis(20);
/// Marks a peer's token in epoll.
const PEER: u64 = 1 << 32;

/// How packets are offered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Each client has at most this many packets on their way, and sends when there is room for a burst.
    Window(usize),
    /// This many packets a second in all, evenly, one client after the other.
    Rate(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Channel,
    Indication,
}

/// What a run does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) clients: u32,
    pub(crate) payload: usize,
    pub(crate) burst: usize,
    pub(crate) pace: Pace,
    pub(crate) framing: Framing,
    pub(crate) transport: Transport,
    /// Peers are clients of the same server: every second client sends back what the one before it sends.
    pub(crate) is_paired: bool,
    /// Clients and peers take trains of datagrams, as a network card that cuts them would let the server send them.
    pub(crate) takes_trains: bool,
}

/// Where a run happens.
pub(crate) struct Scene<'a> {
    pub(crate) server: SocketAddrV4,
    pub(crate) credentials: &'a Credentials,
    pub(crate) tls: Option<&'a Arc<ClientConfig>>,
    pub(crate) client: Ipv4Addr,
    pub(crate) peer: Ipv4Addr,
    /// Processes whose CPU time counts.
    pub(crate) pids: &'a [u32],
    /// The same, of what works for the server within the kernel.
    pub(crate) kernel_pids: &'a [u32],
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

/// What a run showed.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(crate) struct Shown {
    /// Microseconds of the server's CPU for each packet that it relayed.
    pub(crate) us_per_packet: f64,
    /// The same, of the kernel's threads that serve it.
    pub(crate) kernel_us_per_packet: f64,
    /// Relayed packets a second.
    pub(crate) pps: f64,
    pub(crate) sleeps_per_packet: f64,
    /// The share of one CPU that the server used.
    pub(crate) load: f64,
    /// The same of the generator: near 1 it is what limits.
    pub(crate) generator_load: f64,
    pub(crate) rtt_p50_us: f64,
    pub(crate) rtt_p90_us: f64,
    pub(crate) sent: u64,
    /// Sent but not come back when all was over.
    pub(crate) lost: u64,
    /// Come back after they were given up, or a second time.
    pub(crate) late: u64,
    /// Not what was sent.
    pub(crate) corrupted: u64,
    /// Another client's.
    pub(crate) misdelivered: u64,
}

impl Traffic {
    /// The same with half as much on its way.
    pub(crate) fn gently(self) -> Self {
        let pace = match self.pace {
            Pace::Window(window) => Pace::Window((window / 2).max(self.burst)),
            Pace::Rate(rate) => Pace::Rate(rate),
        };
        Self { pace, ..self }
    }
}

struct Client {
    link: Link,
    /// A burst, ready but for the stamps.
    frames: Vec<u8>,
    frame: usize,
    /// Where the payload begins in a frame.
    offset: usize,
    next: u64,
    /// Numbers on their way, each at its place, plus one so that zero is none.
    on_their_way: Box<[u64; WINDOW_MAX]>,
    count: usize,
    heard_at: u64,
}

struct Peer {
    /// A plain socket, or that of the other client of a pair.
    socket: UdpSocket,
}

struct Run<'a> {
    traffic: Traffic,
    scene: &'a Scene<'a>,
    clock: Clock,
    epoll: Epoll,
    clients: Vec<Client>,
    peers: Vec<Peer>,
    buffer: Vec<u8>,
    is_sending: bool,
    is_counting: bool,
    /// Packets that the server has relayed, either way.
    relayed: u64,
    /// Packets that came back to their client in time, whole and once.
    returned: u64,
    round_trips: Vec<u32>,
    shown: Shown,
}

impl Traffic {
    /// Sets everything up, lets it run, and gives what was seen within the window.
    pub(crate) fn run(self, scene: &Scene<'_>) -> io::Result<Shown> {
        let mut run = Run::new(self, scene)?;
        sock::wake_on_time();
        run.is_sending = true;
        run.turn_until(nanos(scene.warm_up))?;
        run.is_counting = true;
        let before = Mark::take(&run);
        run.turn_until(run.clock.now() + nanos(scene.window))?;
        let after = Mark::take(&run);
        (run.is_counting, run.is_sending) = (false, false);
        run.turn_until(run.clock.now() + nanos(DRAIN))?;
        Ok(run.finish(&before, &after))
    }
}

/// The state of the account at one moment.
struct Mark {
    at: u64,
    relayed: u64,
    server: Usage,
    kernel: Usage,
    generator: Usage,
}

impl Mark {
    fn take(run: &Run<'_>) -> Self {
        Self {
            at: run.clock.now(),
            relayed: run.relayed,
            server: usage(run.scene.pids),
            kernel: usage(run.scene.kernel_pids),
            generator: usage(&[std::process::id()]),
        }
    }
}

impl<'a> Run<'a> {
    fn new(traffic: Traffic, scene: &'a Scene<'a>) -> io::Result<Self> {
        let clock = Clock::new();
        let mut run = Self {
            traffic,
            scene,
            clock,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            clients: Vec::new(),
            peers: Vec::new(),
            buffer: vec![0; sock::TRAIN],
            is_sending: false,
            is_counting: false,
            relayed: 0,
            returned: 0,
            round_trips: Vec::with_capacity(1 << 21),
            shown: Shown::default(),
        };
        for index in 0..traffic.clients {
            run.add_pair(index).map_err(|error| where_is(&error, &format!("client {index}")))?;
        }
        // The clock starts when the traffic may.
        run.clock = Clock::new();
        Ok(run)
    }

    /// A client and the peer that it talks to.
    fn add_pair(&mut self, index: u32) -> io::Result<()> {
        let scene = self.scene;
        let mut link = Link::open(self.traffic.transport, scene.client, scene.server, scene.tls)?;
        let mut allocation = Allocation::new(&mut link, scene.credentials, index)?;
        let socket = if self.traffic.is_paired {
            let mut socket = sock::udp(SocketAddrV4::new(scene.peer, 0), false)?;
            socket.connect(scene.server)?;
            let mut other = Allocation::new(&mut socket, scene.credentials, index | 1 << 20)?;
            other.bind_channel(&mut socket, allocation.relayed)?;
            allocation.bind_channel(&mut link, other.relayed)?;
            self.add_client(index, link, other.relayed)?;
            socket
        } else {
            let socket = sock::udp(SocketAddrV4::new(scene.peer, 0), false)?;
            let peer = where_bound(&socket)?;
            match self.traffic.framing {
                Framing::Channel => allocation.bind_channel(&mut link, peer)?,
                Framing::Indication => allocation.permit(&mut link, peer)?,
            }
            self.add_client(index, link, peer)?;
            socket
        };
        if self.traffic.takes_trains {
            sock::accept_trains(&socket)?;
        }
        self.watch(socket.as_fd(), PEER | u64::from(index))?;
        self.peers.push(Peer { socket });
        Ok(())
    }

    fn add_client(&mut self, index: u32, link: Link, peer: SocketAddrV4) -> io::Result<()> {
        if let (Link::Udp(socket), true) = (&link, self.traffic.takes_trains) {
            sock::accept_trains(socket)?;
        }
        self.watch(link.fd(), u64::from(index))?;
        let payload = payload(index, self.traffic.payload);
        let (one, offset) = match self.traffic.framing {
            Framing::Channel => {
                let length = u16::try_from(payload.len()).expect("payloads are short");
                let mut frame = Vec::new();
                frame.extend_from_slice(&CHANNEL.to_be_bytes());
                frame.extend_from_slice(&length.to_be_bytes());
                frame.extend_from_slice(&payload);
                (frame, CHANNEL_HEADER)
            }
            Framing::Indication => {
                let frame = stun::send_indication(peer, &payload);
                // What follows the payload is its padding alone, and there is none.
                let offset = frame.len() - payload.len();
                (frame, offset)
            }
        };
        self.clients.push(Client {
            link,
            frame: one.len(),
            frames: one.repeat(self.traffic.burst),
            offset,
            next: 0,
            on_their_way: Box::new([0; WINDOW_MAX]),
            count: 0,
            heard_at: 0,
        });
        Ok(())
    }

    fn watch(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// Sends, receives and sends back until `end`.
    fn turn_until(&mut self, end: u64) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 128];
        let mut sweep_at = 0;
        let mut send_at = self.clock.now();
        let mut turn: usize = 0;
        loop {
            let now = self.clock.now();
            if now >= end || (!self.is_sending && self.returned == self.shown.sent) {
                return Ok(());
            }
            let mut wake_at = end;
            match self.traffic.pace {
                Pace::Rate(rate) if self.is_sending => {
                    let interval = 1_000_000_000 * self.traffic.burst as u64 / u64::from(rate);
                    send_at = send_at.max(now.saturating_sub(nanos(LATE)));
                    while send_at <= now {
                        self.send_burst(turn % self.clients.len())?;
                        turn += 1;
                        send_at += interval;
                    }
                    wake_at = wake_at.min(send_at);
                }
                Pace::Window(_) | Pace::Rate(_) => {
                    if now >= sweep_at {
                        self.sweep(now)?;
                        sweep_at = now + nanos(STALL) / 10;
                    }
                    wake_at = wake_at.min(sweep_at);
                }
            }
            let timeout = Duration::from_nanos(wake_at.saturating_sub(self.clock.now()));
            let count = sock::wait(self.epoll.0.as_fd(), &mut events, timeout)?;
            for event in &events[..count] {
                let token = event.data();
                let index = (token & (PEER - 1)) as usize;
                if token & PEER == PEER { self.echo(index)? } else { self.hear(index)? }
            }
        }
    }

    /// Starts the clients that have room: all of them at first, later those whose packets were lost.
    fn sweep(&mut self, now: u64) -> io::Result<()> {
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            if client.count > 0 && now > client.heard_at + nanos(STALL) {
                client.on_their_way.fill(0);
                client.count = 0;
            }
            self.fill(index)?;
        }
        Ok(())
    }

    /// Sends as many bursts as the window has room for.
    fn fill(&mut self, index: usize) -> io::Result<()> {
        let Pace::Window(window) = self.traffic.pace else { return Ok(()) };
        while self.is_sending && self.clients[index].count + self.traffic.burst <= window {
            self.send_burst(index)?;
        }
        Ok(())
    }

    fn send_burst(&mut self, index: usize) -> io::Result<()> {
        let client = &mut self.clients[index];
        let now = self.clock.now();
        for frame in client.frames.chunks_exact_mut(client.frame) {
            let stamp = &mut frame[client.offset..client.offset + STAMP];
            stamp[8..16].copy_from_slice(&client.next.to_be_bytes());
            stamp[16..24].copy_from_slice(&now.to_be_bytes());
            let place = &mut client.on_their_way[client.next as usize % WINDOW_MAX];
            // With a rate, what is not back after this many more will not come back.
            client.count += usize::from(*place == 0);
            client.next += 1;
            *place = client.next;
        }
        if client.count == client.frames.len() / client.frame {
            client.heard_at = now;
        }
        self.shown.sent += self.traffic.burst as u64;
        client.link.send(&client.frames, client.frame)
    }

    /// A peer sends back what it gets.
    fn echo(&mut self, index: usize) -> io::Result<()> {
        let peer = &self.peers[index];
        let received = match sock::receive(peer.socket.as_fd(), &mut self.buffer) {
            Ok(received) => received,
            Err(error) => return passing(error),
        };
        let segment = received.segment.max(1);
        self.relayed += received.len.div_ceil(segment) as u64;
        let to = (!self.traffic.is_paired).then_some(received.from);
        sock::send(peer.socket.as_fd(), &[IoSlice::new(&self.buffer[..received.len])], segment, to, None)
    }

    /// A client gets back what it sent.
    fn hear(&mut self, index: usize) -> io::Result<()> {
        let now = self.clock.now();
        let client = &mut self.clients[index];
        let (on_their_way, count, shown) = (&mut client.on_their_way, &mut client.count, &mut self.shown);
        let expected = &client.frames[client.offset..client.frame];
        let (framing, is_counting) = (self.traffic.framing, self.is_counting);
        let (round_trips, returned) = (&mut self.round_trips, &mut self.returned);
        let mut heard = 0;
        let result = client.link.receive(&mut self.buffer, |frame| {
            heard += 1;
            let packet = unframe(framing, frame).and_then(|payload| Stamp::read(payload, expected));
            let Some(stamp) = packet else {
                shown.corrupted += 1;
                return;
            };
            if stamp.client as usize != index {
                shown.misdelivered += 1;
                return;
            }
            let place = &mut on_their_way[stamp.number as usize % WINDOW_MAX];
            if *place != stamp.number + 1 {
                shown.late += 1;
                return;
            }
            *place = 0;
            *count -= 1;
            *returned += 1;
            if is_counting {
                round_trips.push(u32::try_from(now.saturating_sub(stamp.time)).unwrap_or(u32::MAX));
            }
        });
        client.heard_at = now;
        self.relayed += heard;
        match result {
            Ok(()) => self.fill(index),
            Err(error) => passing(error),
        }
    }

    fn finish(mut self, before: &Mark, after: &Mark) -> Shown {
        let packets = (after.relayed - before.relayed) as f64;
        let seconds = (after.at - before.at) as f64 / 1e9;
        let cpu = |before: Usage, after: Usage| after.cpu.saturating_sub(before.cpu) as f64;
        let server = cpu(before.server, after.server);
        self.round_trips.sort_unstable();
        let rtt = |share| percentile(&self.round_trips, share).map_or(f64::NAN, |ns| ns / 1000.0);
        Shown {
            us_per_packet: server / 1000.0 / packets,
            kernel_us_per_packet: cpu(before.kernel, after.kernel) / 1000.0 / packets,
            pps: packets / seconds,
            sleeps_per_packet: after.server.sleeps.saturating_sub(before.server.sleeps) as f64 / packets,
            load: server / 1e9 / seconds,
            generator_load: cpu(before.generator, after.generator) / 1e9 / seconds,
            rtt_p50_us: rtt(0.5),
            rtt_p90_us: rtt(0.9),
            lost: self.shown.sent.saturating_sub(self.returned + self.shown.late),
            ..self.shown
        }
    }
}

/// What a packet says of itself.
struct Stamp {
    client: u32,
    number: u64,
    time: u64,
}

impl Stamp {
    /// Reads a payload whose stamp is followed by what `expected` has there, unless it is another client's.
    fn read(payload: &[u8], expected: &[u8]) -> Option<Self> {
        if payload.len() != expected.len() {
            return None;
        }
        let (stamp, rest) = payload.split_first_chunk::<STAMP>()?;
        let word = |at: usize| u32::from_be_bytes(stamp[at..at + 4].try_into().expect("four bytes"));
        let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        if word(0) != MAGIC || (stamp[4..8] == expected[4..8] && rest != &expected[STAMP..]) {
            return None;
        }
        Some(Self { client: word(4), number: long(8), time: long(16) })
    }
}

/// A payload of client `index`, ready but for number and time.
fn payload(index: u32, length: usize) -> Vec<u8> {
    let mut payload = vec![0; STAMP];
    payload[..4].copy_from_slice(&MAGIC.to_be_bytes());
    payload[4..8].copy_from_slice(&index.to_be_bytes());
    payload.extend((STAMP..length).map(|at| (at as u32 * 7 + index * 31) as u8));
    payload
}

fn unframe(framing: Framing, frame: &[u8]) -> Option<&[u8]> {
    match framing {
        Framing::Channel => {
            let (header, payload) = frame.split_first_chunk::<CHANNEL_HEADER>()?;
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            (header[..2] == CHANNEL.to_be_bytes()).then(|| payload.get(..length)).flatten()
        }
        Framing::Indication => {
            let message = Message::parse(frame).filter(|message| message.kind == stun::DATA_INDICATION)?;
            message.attribute(stun::DATA)
        }
    }
}

fn where_bound(socket: &UdpSocket) -> io::Result<SocketAddrV4> {
    match socket.local_addr()? {
        std::net::SocketAddr::V4(address) => Ok(address),
        std::net::SocketAddr::V6(address) => Err(io::Error::other(format!("{address} is no IPv4 address"))),
    }
}

/// Errors that are no end: nothing there after all, or an answer to an earlier packet.
fn passing(error: io::Error) -> io::Result<()> {
    let kinds = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted, io::ErrorKind::ConnectionRefused];
    if kinds.contains(&error.kind()) { Ok(()) } else { Err(error) }
}
