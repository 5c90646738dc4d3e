//! The little of the internet that a host asks: STUN, DNS and time, each saying what a test wants it to say.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rtcctl::sys::clock;

const COOKIE: u32 = 0x2112_a442;
/// Seconds from 1900 to 1970.
const EPOCH: i64 = 2_208_988_800;

/// What is said. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct FakeInternet {
    seen: Arc<AtomicU32>,
    clock_ahead: Arc<AtomicI64>,
    records: Arc<Mutex<BTreeMap<String, Vec<IpAddr>>>>,
}

impl FakeInternet {
    /// STUN servers see this address from now on.
    pub(crate) fn sees(&self, address: Ipv4Addr) {
        self.seen.store(address.into(), Ordering::Relaxed);
    }

    /// Time servers are ahead of us by so many seconds from now on.
    pub(crate) fn is_ahead(&self, seconds: i64) {
        self.clock_ahead.store(seconds, Ordering::Relaxed);
    }

    /// The DNS has these addresses for a name from now on.
    pub(crate) fn resolves(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.records.lock().unwrap().insert(name.to_owned(), addresses);
    }

    /// Serves at these addresses in the network of this thread, until the process ends.
    pub(crate) fn serve(&self, stun: &[SocketAddr], dns: SocketAddr, time: SocketAddr) {
        for at in stun {
            let own = self.clone();
            answer(*at, move |request| own.stun(request));
        }
        let own = self.clone();
        answer(dns, move |request| own.dns(request));
        let own = self.clone();
        answer(time, move |request| own.time(request));
    }

    fn stun(&self, request: &[u8]) -> Option<Vec<u8>> {
        let id = request.get(8..20)?;
        let seen = self.seen.load(Ordering::Relaxed);
        let mut reply = vec![1, 1, 0, 12];
        reply.extend(COOKIE.to_be_bytes());
        reply.extend(id);
        reply.extend([0, 0x20, 0, 8, 0, 1]);
        reply.extend((4242 ^ (COOKIE >> 16) as u16).to_be_bytes());
        reply.extend((seen ^ COOKIE).to_be_bytes());
        Some(reply)
    }

    fn dns(&self, request: &[u8]) -> Option<Vec<u8>> {
        let (mut at, mut labels) = (12, Vec::new());
        while *request.get(at)? != 0 {
            let length = usize::from(request[at]);
            labels.push(String::from_utf8_lossy(request.get(at + 1..=at + length)?).to_ascii_lowercase());
            at += length + 1;
        }
        let question = request.get(12..at + 5)?;
        let kind = u16::from_be_bytes([*request.get(at + 1)?, *request.get(at + 2)?]);
        let records = self.records.lock().unwrap();
        let known = records.get(&labels.join("."));
        let found: Vec<Vec<u8>> = known
            .into_iter()
            .flatten()
            .filter_map(|address| match address {
                IpAddr::V4(v4) => (kind == 1).then(|| v4.octets().to_vec()),
                IpAddr::V6(v6) => (kind == 28).then(|| v6.octets().to_vec()),
            })
            .collect();
        let mut reply = request.get(..2)?.to_vec();
        // A response; a name that is not known is told so.
        reply.extend([
            0x81,
            if known.is_some() { 0x80 } else { 0x83 },
            0,
            1,
            0,
            u8::try_from(found.len()).unwrap(),
            0,
            0,
            0,
            0,
        ]);
        reply.extend(question);
        for data in found {
            reply.extend([0xc0, 12]);
            reply.extend(kind.to_be_bytes());
            reply.extend([0, 1, 0, 0, 0, 1, 0, u8::try_from(data.len()).unwrap()]);
            reply.extend(data);
        }
        Some(reply)
    }

    fn time(&self, request: &[u8]) -> Option<Vec<u8>> {
        let cookie = request.get(40..48)?;
        let unix = clock::now().wall.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let seconds = i64::try_from(unix.as_secs()).unwrap() + EPOCH + self.clock_ahead.load(Ordering::Relaxed);
        let fraction = u32::try_from((u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000).unwrap();
        let mut reply = vec![0; 48];
        (reply[0], reply[1]) = (0x24, 2);
        reply[24..32].copy_from_slice(cookie);
        reply[40..44].copy_from_slice(&u32::try_from(seconds).unwrap().to_be_bytes());
        reply[44..48].copy_from_slice(&fraction.to_be_bytes());
        Some(reply)
    }
}

fn answer(at: SocketAddr, reply: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) {
    let socket = UdpSocket::bind(at).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Some(reply) = reply(&buffer[..length]) {
                let _ = socket.send_to(&reply, from);
            }
        }
    });
}
