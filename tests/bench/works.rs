//! What is compared, and what has to come out.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::forwarder::Means;
use crate::link::Transport;
use crate::measure::{Clock, resident, usage};
use crate::server::{Kind, Place, Server};
use crate::storm::{Crowd, knock};
use crate::traffic::{Framing, Pace, Scene, Shown, Traffic};

/// One kind of work for a server.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// What the figure that is compared counts.
    pub(crate) figure: &'static str,
    pub(crate) target: Target,
    act: Act,
    pub(crate) kinds: &'static [Kind],
}

/// What the median has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At most this much of coturn's figure.
    Ratio(f64),
    /// The same, and at most so many microseconds more of median round trip than the better of coturn and of rtcctl
    /// with `turn.latency: low`.
    RatioAndDelay(f64, f64),
    /// At most this much, whatever coturn does.
    AtMost(f64),
    None,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Relay(Traffic),
    /// Bytes that each of so many allocations takes.
    Memory(u32),
    /// CPU of each of so many Allocates.
    Allocate(u32),
    /// Growth by requests from so many sources.
    Flood(u32),
    /// The cost of a packet beside so many other allocations, by the cost without them.
    Scale(Traffic, u32),
    /// Lost packets.
    Lossless(Traffic),
    /// Throughput of two cores by that of one.
    Cores(Traffic),
}

/// What one run of one server gave.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(crate) struct Figures {
    /// What is compared.
    pub(crate) value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) traffic: Option<Shown>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
}

/// Where and for how long.
pub(crate) struct Stage<'a> {
    pub(crate) place: &'a Place,
    pub(crate) peer: Ipv4Addr,
    /// A /16 of which every address is the generator's.
    pub(crate) crowd: Ipv4Addr,
    pub(crate) kernel_pids: &'a [u32],
    pub(crate) window: Duration,
    pub(crate) warm_up: Duration,
}

const BOTH: &[Kind] = &[Kind::Coturn, Kind::Rtcctl];
const LIMIT: Kind = Kind::Forwarder(Means::Plain);
const WITH_LIMIT: &[Kind] = &[Kind::Coturn, Kind::Rtcctl, LIMIT];
const WITH_TRAINS: &[Kind] = &[Kind::Coturn, Kind::Rtcctl, LIMIT, Kind::Forwarder(Means::Trains)];
const WITH_NAPS: &[Kind] = &[Kind::Coturn, Kind::Rtcctl, Kind::RtcctlLow, LIMIT, Kind::Forwarder(Means::Naps)];
const CPU: &str = "us CPU/packet";

const VOICE: Traffic = Traffic {
    clients: 64,
    payload: 200,
    burst: 1,
    pace: Pace::Window(4),
    framing: Framing::Channel,
    transport: Transport::Udp,
    is_paired: false,
    takes_trains: false,
};
const VIDEO: Traffic =
    Traffic { clients: 16, payload: 1200, burst: 8, pace: Pace::Window(16), takes_trains: true, ..VOICE };

pub(crate) const WORKS: &[Work] = &[
    relay("voice", "64 clients, 200 B, single packets, flat out", VOICE, 0.85, WITH_LIMIT),
    Work {
        name: "partial",
        what: "64 clients, 200 B, 20,000 packets/s offered, 40,000 relayed",
        figure: CPU,
        target: Target::RatioAndDelay(0.55, 250.0),
        act: Act::Relay(Traffic { pace: Pace::Rate(20_000), ..VOICE }),
        kinds: WITH_NAPS,
    },
    relay("video", "16 clients, 1200 B, bursts of 8", VIDEO, 0.25, WITH_TRAINS),
    relay(
        "burst2",
        "16 clients, 1000 B, bursts of 2",
        Traffic { payload: 1000, burst: 2, pace: Pace::Window(4), ..VIDEO },
        0.60,
        WITH_TRAINS,
    ),
    relay(
        "burst4",
        "16 clients, 1000 B, bursts of 4",
        Traffic { payload: 1000, burst: 4, pace: Pace::Window(8), ..VIDEO },
        0.40,
        WITH_TRAINS,
    ),
    relay(
        "pair-voice",
        "64 callers to 64 others, both relayed here, 200 B",
        Traffic { is_paired: true, ..VOICE },
        0.45,
        BOTH,
    ),
    relay(
        "pair-video",
        "16 callers to 16 others, both relayed here, 1200 B, bursts of 8",
        Traffic { is_paired: true, ..VIDEO },
        0.15,
        BOTH,
    ),
    relay(
        "indications",
        "64 clients, 200 B, Send and Data indications",
        Traffic { framing: Framing::Indication, ..VOICE },
        0.90,
        BOTH,
    ),
    relay("tcp", "64 TCP clients to UDP peers, 200 B", Traffic { transport: Transport::Tcp, ..VOICE }, 0.90, BOTH),
    relay("tls", "64 TLS clients to UDP peers, 200 B", Traffic { transport: Transport::Tls, ..VOICE }, 0.85, BOTH),
    Work {
        name: "memory",
        what: "10,000 allocations, each with a permission and a channel",
        figure: "KiB/allocation",
        target: Target::AtMost(2.0),
        act: Act::Memory(10_000),
        kinds: BOTH,
    },
    Work {
        name: "allocate-1k",
        what: "1,000 Allocates, each refused once for want of credentials",
        figure: "us CPU/Allocate",
        target: Target::Ratio(0.35),
        act: Act::Allocate(1000),
        kinds: WITH_LIMIT,
    },
    Work {
        name: "allocate-10k",
        what: "10,000 Allocates, each refused once for want of credentials",
        figure: "us CPU/Allocate",
        target: Target::Ratio(0.35),
        act: Act::Allocate(10_000),
        kinds: BOTH,
    },
    Work {
        name: "flood",
        what: "100,000 Allocates without credentials, a source each",
        figure: "MiB growth",
        target: Target::AtMost(1.0),
        act: Act::Flood(100_000),
        kinds: BOTH,
    },
    Work {
        name: "scale",
        what: "10 voice clients beside 10,000 allocations, by the same alone",
        figure: "x cost/packet",
        target: Target::AtMost(1.3),
        act: Act::Scale(Traffic { clients: 10, ..VOICE }, 10_000),
        kinds: BOTH,
    },
    Work {
        name: "lossless",
        what: "64 clients, 1000 B, 4 packets in flight each, sent back to back",
        figure: "packets lost",
        target: Target::AtMost(0.0),
        act: Act::Lossless(Traffic { payload: 1000, burst: 4, takes_trains: true, ..VOICE }),
        kinds: BOTH,
    },
    Work {
        name: "cores",
        what: "voice, two server cores by one",
        figure: "x throughput",
        target: Target::None,
        act: Act::Cores(VOICE),
        kinds: BOTH,
    },
];

const fn relay(name: &'static str, what: &'static str, traffic: Traffic, ratio: f64, kinds: &'static [Kind]) -> Work {
    Work { name, what, figure: CPU, target: Target::Ratio(ratio), act: Act::Relay(traffic), kinds }
}

impl Work {
    /// Starts a server, lets it work, and ends it.
    pub(crate) fn run(&self, kind: Kind, stage: &Stage<'_>) -> io::Result<Figures> {
        let server = stage.place.start(kind, 1)?;
        if matches!(self.act, Act::Memory(_) | Act::Allocate(_) | Act::Flood(_)) {
            // What a server does once it is up, like looking whether it works, is no part of these.
            std::thread::sleep(stage.warm_up);
        }
        match self.act {
            Act::Relay(traffic) => {
                let shown = stage.relay(traffic, &server)?;
                let value = shown.us_per_packet + shown.kernel_us_per_packet;
                Ok(Figures { value, traffic: Some(shown), note: String::new() })
            }
            Act::Lossless(traffic) => {
                let shown = stage.relay(traffic, &server)?;
                Ok(Figures { value: shown.lost as f64, traffic: Some(shown), note: String::new() })
            }
            Act::Scale(traffic, others) => {
                let alone = stage.relay(traffic, &server)?;
                drop(server);
                let server = stage.place.start(kind, 1)?;
                let mut crowd = stage.crowd(others, &server)?;
                crowd.allocate()?;
                crowd.bind_channels(SocketAddrV4::new(stage.peer, 9999))?;
                let beside = stage.relay(traffic, &server)?;
                let note = format!("{:.2} us alone, {:.2} us beside", alone.us_per_packet, beside.us_per_packet);
                Ok(Figures { value: beside.us_per_packet / alone.us_per_packet, traffic: Some(beside), note })
            }
            Act::Cores(traffic) => {
                let one = stage.relay(traffic, &server)?;
                drop(server);
                let server = stage.place.start(kind, 2)?;
                let two = stage.relay(traffic, &server)?;
                let limit =
                    if two.generator_load > 0.8 { "; the generator is the limit: not measurable here" } else { "" };
                let note = format!(
                    "{:.0} and {:.0} packets/s at {:.2} and {:.2} us{limit}",
                    one.pps, two.pps, one.us_per_packet, two.us_per_packet
                );
                Ok(Figures { value: two.pps / one.pps, traffic: Some(two), note })
            }
            Act::Memory(count) => {
                let before = memory(&server)?;
                let mut crowd = stage.crowd(count, &server)?;
                crowd.allocate()?;
                crowd.bind_channels(SocketAddrV4::new(stage.peer, 9999))?;
                let after = memory(&server)?;
                let note = format!("{:.1} MiB before, {:.1} MiB after", mebi(before), mebi(after));
                let value = after.saturating_sub(before) as f64 / 1024.0 / f64::from(count);
                Ok(Figures { value, traffic: None, note })
            }
            Act::Allocate(count) => {
                let mut crowd = stage.crowd(count, &server)?;
                let (clock, before) = (Clock::new(), usage(&[server.pid]));
                crowd.allocate()?;
                let (nanos, after) = (clock.now(), usage(&[server.pid]));
                let per_second = f64::from(count) / (nanos as f64 / 1e9);
                let note = format!("{per_second:.0} Allocates/s, {} requests repeated", crowd.repeats);
                Ok(Figures { value: (after.cpu - before.cpu) as f64 / 1000.0 / f64::from(count), traffic: None, note })
            }
            Act::Flood(sources) => {
                // What the first request alone needs is no growth.
                knock(64, stage.crowd, server.udp)?;
                let before = memory(&server)?;
                let knocked = knock(sources, stage.crowd, server.udp)?;
                let after = memory(&server)?;
                let note = format!("{} of {} answered", knocked.answered, knocked.sent);
                Ok(Figures { value: mebi(after) - mebi(before), traffic: None, note })
            }
        }
    }
}

impl Stage<'_> {
    fn relay(&self, traffic: Traffic, server: &Server) -> io::Result<Shown> {
        // A veth's queue holds 256 frames, and what exceeds it is lost on the way and says nothing of the server.
        let traffic = if self.place.netns.is_some() { traffic.gently() } else { traffic };
        let tls = if traffic.transport == Transport::Tls { Some(self.place.tls()?) } else { None };
        let scene = Scene {
            server: if traffic.transport == Transport::Tls { server.tls } else { server.udp },
            credentials: &server.credentials,
            tls: tls.as_ref(),
            client: self.place.client,
            peer: self.peer,
            pids: &[server.pid],
            kernel_pids: self.kernel_pids,
            warm_up: self.warm_up,
            window: self.window,
        };
        traffic.run(&scene)
    }

    fn crowd<'s>(&self, size: u32, server: &'s Server) -> io::Result<Crowd<'s>> {
        Crowd::new(size, self.crowd, server.udp, &server.credentials)
    }
}

fn memory(server: &Server) -> io::Result<u64> {
    resident(server.pid).ok_or_else(|| io::Error::other("the server has ended"))
}

fn mebi(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
