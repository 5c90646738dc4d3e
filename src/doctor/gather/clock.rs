//! How far this host's clock is off, by what time servers say.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::doctor::evidence::Skew;
use crate::probe::time::ahead_of;
use crate::sys::clock;
use crate::sys::net::resolve;
use crate::text;
use crate::words::Text;

/// Asked where no others are named; of different companies.
pub const TIME_SERVERS: [&str; 3] = ["time.cloudflare.com:123", "pool.ntp.org:123", "ntp.aliyun.com:123"];
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
const MAX_SERVERS: usize = 8;

/// The median of what they say. `Err`: nobody said anything; why.
pub(super) fn look(servers: &[String], is_offline: bool) -> Result<Skew, Text> {
    if is_offline {
        return Err(text!("nobody outside was to be asked (`--offline`)"));
    }
    let until = clock::now().mono + ANSWERED_WITHIN;
    let ask = |server: &str| -> Result<f64, Text> {
        let (host, port) = server.rsplit_once(':').ok_or(text!("it has no port"))?;
        let port = port.parse().map_err(|_| text!("its port is no number"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let found = resolve(host, port, ANSWERED_WITHIN)?;
        // A host without IPv6 hears of addresses that it has no way to.
        let mut ordered: Vec<SocketAddr> = found.iter().copied().filter(SocketAddr::is_ipv4).collect();
        ordered.extend(found.iter().filter(|address| address.is_ipv6()));
        let first = ordered.first().ok_or(text!("it has no address"))?;
        ahead_of(*first, until).map_err(|fault| fault.told())
    };
    let told: Vec<(&String, Result<f64, Text>)> = thread::scope(|scope| {
        let asking: Vec<_> =
            servers.iter().take(MAX_SERVERS).map(|server| (server, scope.spawn(move || ask(server)))).collect();
        let answer = |thread: thread::ScopedJoinHandle<'_, Result<f64, Text>>| {
            thread.join().unwrap_or_else(|_| Err(text!("it could not be asked")))
        };
        asking.into_iter().map(|(server, thread)| (server, answer(thread))).collect()
    });
    let mut known: Vec<(f64, &String)> =
        told.iter().filter_map(|(server, answer)| Some((*answer.as_ref().ok()?, *server))).collect();
    known.sort_by(|one, other| one.0.total_cmp(&other.0));
    match known.get(known.len() / 2) {
        Some((seconds, _)) => {
            Ok(Skew { seconds: *seconds, by: known.iter().map(|(_, server)| (*server).clone()).collect() })
        }
        None => {
            let why = told
                .into_iter()
                .take(2)
                .map(|(server, answer)| text!("{}: {}", server, answer.err().unwrap_or_default()));
            Err(text!("no time server answers: {}", Text::clauses(why)))
        }
    }
}
