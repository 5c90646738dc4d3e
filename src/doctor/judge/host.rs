//! What this host gives the service.

use super::{not_looked_at, without_config};
use crate::control::protocol::Severity;
use crate::doctor::check::Check;
use crate::doctor::evidence::Evidence;
use crate::doctor::outcome::{Outcome, Problem};
use crate::text;
use crate::words::Text;

/// A clock that is off by more makes certificates of short life and time-limited credentials fail for some callers.
const OFF_BY: f64 = 30.0;
/// And by more than this, nearly everything.
const FAR_OFF_BY: f64 = 600.0;
/// What the relay asks for, for a listener and for a relay socket.
const LISTENER_BUFFER: u64 = 4 << 20;
const RELAY_BUFFER: u64 = 512 << 10;
/// Files besides one for each relayed caller: connections of pages, logs, listeners.
const OTHER_FILES: u64 = 2_000;
/// Entries that one relayed caller takes: towards the client, and towards peers.
const ENTRIES_A_CALLER: u64 = 3;
const LITTLE_MEMORY: u64 = 64 << 20;
/// Mbit/s of a relayed video call, each way.
const CALL: f64 = 2.0;
/// Fewer calls than these are told.
const FEW_CALLS: f64 = 20.0;

pub(super) fn clock(evidence: &Evidence) -> Outcome {
    let skew = match &evidence.clock {
        None => return not_looked_at(),
        Some(Err(why)) => return Outcome::Unknown(why.clone()),
        Some(Ok(skew)) => skew,
    };
    let by = super::list(&skew.by);
    let off = skew.seconds.abs();
    if off < OFF_BY {
        return Outcome::Fine(text!("off by {} s, by {}", format!("{:.1}", off), by));
    }
    let title = if skew.seconds > 0.0 {
        text!("the clock is {} s ahead", format!("{off:.0}"))
    } else {
        text!("the clock is {} s behind", format!("{off:.0}"))
    };
    let severity = if off < FAR_OFF_BY { Severity::Error } else { Severity::Critical };
    let fix = if evidence.host.as_ref().is_some_and(|host| host.kind.container.is_some()) {
        text!("set the clock of the machine that this container is on")
    } else {
        Text::verbatim("sudo timedatectl set-ntp true")
    };
    Outcome::Found(
        Problem::of(Check::Clock, severity, title)
            .seen(text!("{}; certificates and credentials are valid by the clock", by))
            .fix(fix),
    )
}

pub(super) fn open_files(evidence: &Evidence) -> Outcome {
    let Some(host) = &evidence.host else { return not_looked_at() };
    let Some(config) = evidence.good_config() else { return without_config() };
    let limit = evidence.status().and_then(|status| status.usage.as_ref()).map_or(host.open_files, |usage| {
        // Of the process that serves, which may have been started in another way.
        if usage.descriptors_limit == 0 { host.open_files } else { usage.descriptors_limit }
    });
    let needed = u64::from(config.turn.total_quota) + OTHER_FILES;
    if limit >= needed {
        return Outcome::Fine(text!("{} may be open, {} are needed at most", limit, needed));
    }
    Outcome::Found(
        Problem::of(Check::OpenFiles, Severity::Warning, text!("fewer files may be open than the relay may need"))
            .seen(text!("{} at most, and {} relayed callers need {}", limit, config.turn.total_quota, needed))
            .fix(text!(
                "raise it: `ulimit -Hn {0}` as root before the start, or `LimitNOFILE={0}` in its unit",
                needed
            )),
    )
}

pub(super) fn udp_buffers(evidence: &Evidence) -> Outcome {
    let Some(host) = &evidence.host else { return not_looked_at() };
    let (Some(receive), Some(send)) = (host.receive_buffer, host.send_buffer) else {
        return Outcome::Unknown(text!("the kernel does not tell"));
    };
    let seen = text!("net.core.rmem_max is {}, net.core.wmem_max is {}", receive, send);
    if host.may_force_buffers {
        return Outcome::Fine(text!("{}; the service may go beyond", seen));
    }
    if receive >= LISTENER_BUFFER && send >= LISTENER_BUFFER {
        return Outcome::Fine(seen);
    }
    let fix = Text::verbatim(format!("sudo sysctl -w net.core.rmem_max={0} net.core.wmem_max={0}", LISTENER_BUFFER));
    // What most systems come with is enough until many callers send at the same moment.
    let is_tiny = receive.min(send) < RELAY_BUFFER / 4;
    let severity = if is_tiny { Severity::Warning } else { Severity::Info };
    Outcome::Found(
        Problem::of(Check::UdpBuffers, severity, text!("the relay's sockets have smaller buffers than it asks for"))
            .seen(text!("{}; {} would hold a burst of many callers", seen, LISTENER_BUFFER))
            .fix(fix),
    )
}

pub(super) fn conntrack(evidence: &Evidence) -> Outcome {
    let Some(host) = &evidence.host else { return not_looked_at() };
    let Some(table) = host.conntrack else { return Outcome::Idle(text!("connections are not tracked")) };
    let seen = text!("{} of {} entries are taken", table.entries, table.limit);
    let fix = |wanted: u64| Text::verbatim(format!("sudo sysctl -w net.netfilter.nf_conntrack_max={}", wanted));
    if table.entries * 10 > table.limit * 9 {
        return Outcome::Found(
            Problem::of(
                Check::Conntrack,
                Severity::Error,
                text!("connection tracking is almost full, and drops what is new"),
            )
            .seen(seen)
            .fix(fix((table.limit * 4).max(262_144))),
        );
    }
    let Some(config) = evidence.good_config() else { return without_config() };
    let needed = u64::from(config.turn.total_quota) * ENTRIES_A_CALLER;
    if table.limit >= needed {
        return Outcome::Fine(seen);
    }
    Outcome::Found(
        Problem::of(
            Check::Conntrack,
            Severity::Warning,
            text!("connection tracking has no room for every relayed caller"),
        )
        .seen(text!("{}; {} relayed callers take about {}", seen, config.turn.total_quota, needed))
        .fix(fix((needed * 2).max(65_536))),
    )
}

pub(super) fn memory(evidence: &Evidence) -> Outcome {
    let Some(host) = &evidence.host else { return not_looked_at() };
    let Some(free) = host.memory_bytes else { return Outcome::Unknown(text!("the system does not tell")) };
    let seen = text!("{} MB are available", free >> 20);
    if free >= LITTLE_MEMORY {
        return Outcome::Fine(seen);
    }
    Outcome::Found(
        Problem::of(Check::Memory, Severity::Warning, text!("there is little memory left"))
            .seen(seen)
            .fix(text!("end what takes it (`ps aux --sort=-rss | head`), or add some")),
    )
}

pub(super) fn container(evidence: &Evidence) -> Outcome {
    let Some(host) = &evidence.host else { return not_looked_at() };
    let title = &host.kind.distribution.title;
    let Some(kind) = &host.kind.container else { return Outcome::Fine(text!("{}, no container", title)) };
    Outcome::Found(
        Problem::of(Check::Container, Severity::Info, text!("this is a container ({})", kind))
            .seen(text!("{}; thousands of relay ports that are forwarded one by one are slow and fragile", title))
            .fix(text!("give it the network of its host (`--network host`), if it has not")),
    )
}

pub(super) fn bandwidth(evidence: &Evidence) -> Outcome {
    let Some(host) = &evidence.host else { return not_looked_at() };
    let (relay, few_by_relay) = match &evidence.speed {
        Some(Ok(speed)) => {
            let calls = calls(*speed);
            let seen = text!(
                "{} Mbit/s through the relay on this host = about {} calls at {} Mbit/s",
                format!("{:.0}", speed),
                format!("{:.0}", calls),
                format!("{:.0}", CALL)
            );
            (Some(seen), calls < FEW_CALLS)
        }
        Some(Err(why)) => (Some(text!("what the relay carries was not measured: {}", why)), false),
        None => (None, false),
    };
    let is_measured = matches!(evidence.speed, Some(Ok(_)));
    let (link, few_by_link) = match &host.link {
        None if is_measured => (None, None),
        None => return Outcome::Idle(text!("no way leads out of this host")),
        Some((interface, None)) if is_measured => {
            (Some(text!("the driver of {} does not tell its speed", interface)), None)
        }
        Some((interface, None)) => {
            let why = text!("the driver of {} does not tell its speed, as in most virtual machines", interface);
            return Outcome::Unknown(relay.map_or(why.clone(), |relay| text!("{}; {}", relay, why)));
        }
        Some((interface, Some(speed))) => {
            let speed = u32::try_from(*speed).map_or(f64::from(u32::MAX), f64::from);
            let calls = calls(speed);
            let seen = text!(
                "{} has {} Mbit/s, which is enough for about {} relayed video calls",
                interface,
                format!("{:.0}", speed),
                format!("{:.0}", calls)
            );
            (Some(seen), (calls < FEW_CALLS).then_some(interface))
        }
    };
    let seen = Text::clauses([relay, link].into_iter().flatten());
    if let Some(interface) = few_by_link {
        return Outcome::Found(
            Problem::of(Check::Bandwidth, Severity::Info, text!("the network interface is slow"))
                .seen(seen)
                .fix(text!("look why: `ethtool {}` shows what was negotiated", interface)),
        );
    }
    if few_by_relay {
        return Outcome::Found(
            Problem::of(Check::Bandwidth, Severity::Info, text!("the relay on this host carries few calls"))
                .seen(seen)
                .fix(text!("measure again while nothing else keeps this host busy (`top`), or give it more cores")),
        );
    }
    Outcome::Fine(seen)
}

/// How many video calls go through so many Mbit/s: both people of one say something.
fn calls(megabits: f64) -> f64 {
    (megabits / (2.0 * CALL)).floor()
}
