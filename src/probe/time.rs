//! What time a server of the NTP has, to a fraction of a second. RFC 4330.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use super::Fault;
use crate::sys::clock::{self, Now};
use crate::sys::timed::left;
use crate::text;

const LENGTH: usize = 48;
/// Version 4, as a client.
const CLIENT: u8 = 0x23;
const SERVER: u8 = 4;
/// A server that knows no time itself says 0, or 16 and more.
const STRATA: std::ops::Range<u8> = 1..16;
/// Where each timestamp stands.
const ORIGINATE: usize = 24;
const TRANSMIT: usize = 40;
/// Seconds from 1900 to 1970, and of one era of 32 bits.
const EPOCH: u64 = 2_208_988_800;
const ERA: u64 = 1 << 32;

/// By how many seconds this host's clock is ahead of the server's.
///
/// # Errors
/// If it does not answer in time, or with something else.
pub fn ahead_of(server: SocketAddr, until: Instant) -> Result<f64, Fault> {
    let failed = |error: std::io::Error| Fault::of_io(server, "udp", &error);
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).map_err(failed)?;
    socket.connect(server).map_err(failed)?;
    // Chance in place of our time: nobody who does not hear us can answer, and our clock is nobody's business.
    let cookie: [u8; 8] = rand::random();
    let mut question = [0; LENGTH];
    question[0] = CLIENT;
    question[TRANSMIT..].copy_from_slice(&cookie);
    let sent = clock::now();
    socket.send(&question).map_err(failed)?;
    socket.set_read_timeout(Some(left(until).map_err(failed)?)).map_err(failed)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).map_err(failed)?;
    let received = clock::now();
    judge(&answer[..length], cookie, sent, received)
        .ok_or_else(|| Fault::new(text!("`{}/udp` answers, but not as a time server that knows the time", server)))
}

fn judge(answer: &[u8], cookie: [u8; 8], sent: Now, received: Now) -> Option<f64> {
    let answer = answer.get(..LENGTH)?;
    let is_answer =
        answer[0] & 7 == SERVER && STRATA.contains(&answer[1]) && answer[ORIGINATE..ORIGINATE + 8] == cookie;
    if !is_answer {
        return None;
    }
    let number =
        |at: usize| u64::from(u32::from_be_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]));
    let (seconds, fraction) = (number(TRANSMIT), number(TRANSMIT + 4));
    if seconds == 0 {
        return None;
    }
    // The era that began in 2036 has the first bit clear.
    let seconds = if seconds < ERA / 2 { seconds + ERA - EPOCH } else { seconds - EPOCH };
    #[expect(clippy::cast_precision_loss, reason = "a fraction of a second is enough")]
    let told = seconds as f64 + fraction as f64 / ERA as f64;
    let half = received.mono.saturating_duration_since(sent.mono) / 2;
    let here = (received.wall - half.min(Duration::from_secs(3600))).duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(here.as_secs_f64() - told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(seconds: u64, stratum: u8, cookie: [u8; 8]) -> Vec<u8> {
        let mut answer = vec![0; LENGTH];
        (answer[0], answer[1]) = (0x24, stratum);
        answer[ORIGINATE..ORIGINATE + 8].copy_from_slice(&cookie);
        let number = u32::try_from(seconds % ERA).unwrap();
        answer[TRANSMIT..TRANSMIT + 4].copy_from_slice(&number.to_be_bytes());
        answer
    }

    #[test]
    fn the_difference_is_told_in_this_era_and_the_next_one() {
        let mono = clock::now().mono;
        for unix in [1_800_000_000_u64, 2_200_000_000] {
            let now = Now { mono, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(unix + 90) };
            let ahead = judge(&answer(unix + EPOCH, 2, [7; 8]), [7; 8], now, now).unwrap();
            assert!((ahead - 90.0).abs() < 0.001, "{ahead}");
        }
    }

    #[test]
    fn what_was_not_asked_for_or_knows_no_time_is_no_answer() {
        let now = clock::now();
        let good = answer(4_000_000_000, 2, [7; 8]);
        assert!(judge(&good, [7; 8], now, now).is_some());
        assert_eq!(judge(&good, [8; 8], now, now), None);
        assert_eq!(judge(&good[..47], [7; 8], now, now), None);
        for stratum in [0, 16] {
            assert_eq!(judge(&answer(4_000_000_000, stratum, [7; 8]), [7; 8], now, now), None);
        }
        assert_eq!(judge(&answer(0, 2, [7; 8]), [7; 8], now, now), None);
    }
}
