//! A network namespace for a moment, tied to this host by a cable: packets sent in it arrive here as those of a stranger.
//!
//! The kernel takes namespace and cable away when the thread in it ends, however that happens.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

use super::exec;
use super::net::local_addresses;
use crate::text;
use crate::words::Text;

/// How long a step of setting it up may take.
const STEP_WITHIN: Duration = Duration::from_secs(3);
const MAX_OUTPUT: usize = 2_000;

/// The addresses of the cable: ours, and the stranger's.
#[derive(Debug, Clone, Copy)]
struct Cable {
    number: u16,
}

impl Cable {
    /// In the range for measurements between networks, RFC 2544, which nobody is reached by.
    fn v4(self, end: u8) -> Ipv4Addr {
        let [high, low] = self.number.to_be_bytes();
        Ipv4Addr::new(198, 18 | (high >> 7), (high << 1) | (low >> 7), (low << 1) & 0xfc | end)
    }

    fn v6(self, end: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd72, 0x7463, 0x746c, self.number, 0, 0, 0, end)
    }

    fn name(self) -> String {
        format!("rtcctl-{:04x}", self.number)
    }
}

/// Runs `act` on a thread in a namespace of its own, from where this host is reached like from another network.
///
/// # Errors
/// In words, if it cannot be made: it takes root and the program `ip`.
pub fn as_a_stranger<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, Text> {
    let cable = choose().ok_or(text!("no addresses are left for a cable"))?;
    let (made, is_made) = mpsc::channel();
    let (tied, is_tied) = mpsc::channel::<()>();
    let stranger = thread::Builder::new().name("stranger".to_owned()).spawn(move || -> Result<T, Text> {
        let entered = unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        let told = entered.as_ref().map(|()| gettid()).map_err(ToString::to_string);
        // Whoever waits for this has not gone away.
        let _ = made.send(told);
        entered.map_err(|error| Text::of_error(&error))?;
        is_tied.recv().map_err(|_| text!("the cable could not be laid"))?;
        for line in [
            "link set lo up".to_owned(),
            format!("address add {}/30 dev stranger", cable.v4(2)),
            format!("-6 address add {}/126 dev stranger nodad", cable.v6(2)),
            "link set stranger up".to_owned(),
            format!("route add default via {}", cable.v4(1)),
            format!("-6 route add default via {}", cable.v6(1)),
        ] {
            let done = ip(&line);
            // A host without IPv6 is a host, too.
            if !line.starts_with("-6") {
                done?;
            }
        }
        Ok(act())
    });
    let stranger = stranger.map_err(|error| Text::of_error(&error))?;
    let made = is_made
        .recv()
        .map_err(|_| text!("the thread has ended"))
        .and_then(|told: Result<_, String>| told.map_err(Text::verbatim));
    let laid = made.and_then(|thread| lay(cable, &thread.to_string()));
    if laid.is_ok() {
        let _ = tied.send(());
    }
    drop(tied);
    let outcome = stranger.join().map_err(|_| text!("the thread has panicked"))?;
    laid.and(outcome)
}

fn lay(cable: Cable, thread: &str) -> Result<(), Text> {
    let name = cable.name();
    for line in [
        format!("link add {} type veth peer name stranger netns {}", name, thread),
        format!("address add {}/30 dev {}", cable.v4(1), name),
        format!("-6 address add {}/126 dev {} nodad", cable.v6(1), name),
        format!("link set {} up", name),
    ] {
        let done = ip(&line);
        if !line.starts_with("-6") {
            done?;
        }
    }
    Ok(())
}

/// A cable whose addresses are in nobody's way.
fn choose() -> Option<Cable> {
    let local = local_addresses();
    let is_free = |cable: &Cable| {
        let net = cable.v4(0).octets();
        local.iter().all(|address| match address {
            IpAddr::V4(v4) => v4.octets()[..3] != net[..3],
            IpAddr::V6(v6) => v6.segments()[..4] != cable.v6(0).segments()[..4],
        })
    };
    (0..16).map(|_| Cable { number: rand::random() }).find(is_free)
}

fn ip(line: &str) -> Result<(), Text> {
    let command: Vec<String> = std::iter::once("ip").chain(line.split(' ')).map(str::to_owned).collect();
    let ended = exec::run(&command, b"", STEP_WITHIN, MAX_OUTPUT).map_err(|error| {
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        if is_missing { text!("the program `ip` is not installed") } else { text!("`ip {}`: {}", line, error) }
    })?;
    if ended.status.success() { Ok(()) } else { Err(text!("`ip {}`: {}", line, ended.output.trim())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_cable_are_in_one_network_for_measurements() {
        for number in [0, 1, 0x7f, 0x80, 0x1234, 0xffff] {
            let cable = Cable { number };
            let (net, ours, theirs) = (cable.v4(0), cable.v4(1), cable.v4(2));
            assert!([18, 19].contains(&net.octets()[1]) && net.octets()[3].is_multiple_of(4), "{net}");
            assert_eq!(u32::from(ours), u32::from(net) + 1);
            assert_eq!(u32::from(theirs), u32::from(net) + 2);
            assert!(cable.name().len() < 16);
        }
    }
}
