//! Those who use the service all the while: a page, a room, relays, browsers. Each of them comes back by itself.

use std::io::{BufRead as _, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use crate::datagrams::Datagrams;
use crate::now;
use crate::signs::{Channel, Signs};
use crate::stream_client::{StreamClient, shake_hands};

/// How long one answer is waited for: longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long a relayed packet is waited for.
const PACKET_WITHIN: Duration = Duration::from_millis(500);
/// Packets in a row that may be lost until a caller makes a new relay.
const MAX_LOST: u32 = 3;
/// An allocation lasts ten minutes and its permissions five, and nobody here refreshes them.
const RELAYED_FOR: Duration = Duration::from_secs(200);

type Secret = StreamOwned<ClientConnection, TcpStream>;

/// Where the service is.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: Ipv4Addr,
    pub(crate) web_port: u16,
    pub(crate) turn_port: u16,
    pub(crate) url: String,
    pub(crate) ca: PathBuf,
}

/// All who watch. They end when it goes out of scope; who waits for an answer just then ends with the process.
pub(crate) struct Watchers {
    is_over: Arc<AtomicBool>,
    children: Vec<Child>,
}

impl Watchers {
    pub(crate) fn start(target: &Target, signs: &Signs) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let watchers = Self { is_over, children: Vec::new() };
        let own = target.clone();
        watchers.spawn(signs, move |signs| ask_for_the_page(&own, signs));
        let (own, server) = (target.clone(), SocketAddr::from((target.address, target.turn_port)));
        let mut udp =
            Relayed::new(Channel::RelayUdp, target, move || Datagrams::connect(IpAddr::V4(own.address), server));
        watchers.spawn(signs, move |signs| udp.turn(signs));
        let own = target.clone();
        let mut tls = Relayed::new(Channel::RelayTls, target, move || {
            let secret = secret(&own, &[])?;
            secret.sock.set_read_timeout(Some(2 * PACKET_WITHIN))?;
            Ok(secret)
        });
        watchers.spawn(signs, move |signs| tls.turn(signs));
        watchers
    }

    /// Two sockets in a room, by Node.js.
    pub(crate) fn add_room(&mut self, target: &Target, signs: &Signs) {
        let mut command = Command::new("node");
        command.arg(tests("signaling/watcher.js")).arg(&target.url).env("NODE_EXTRA_CA_CERTS", &target.ca);
        let signs = signs.clone();
        self.listen(command, move |line| hear_room(line, &signs));
    }

    /// Two browsers in a direct call, and if `relayed` in a relayed one, too.
    pub(crate) fn add_browsers(&mut self, target: &Target, signs: &Signs, relayed: bool) {
        let mut command = Command::new("node");
        command.arg(tests("browser/watch.mjs")).env("URL", &target.url).env("CA", &target.ca).env("NETWORKS", ",");
        if relayed {
            command.env("RELAYED", "1");
        }
        // It is asked for nothing.
        command.env("RTCCTL", "[]");
        let signs = signs.clone();
        self.listen(command, move |line| hear_browsers(line, &signs));
    }

    fn spawn(&self, signs: &Signs, mut turn: impl FnMut(&Signs) + Send + 'static) {
        let (is_over, signs) = (Arc::clone(&self.is_over), signs.clone());
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                turn(&signs);
                thread::park_timeout(Duration::from_millis(100));
            }
        });
    }

    fn listen(&mut self, mut command: Command, hear: impl Fn(&str) + Send + 'static) {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || output.lines().map_while(Result::ok).for_each(|line| hear(&line)));
        self.children.push(child);
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for child in &mut self.children {
            // The end of its input is what it ends by, with the browsers that it has started.
            drop(child.stdin.take());
        }
        for child in &mut self.children {
            let end = now() + Duration::from_secs(20);
            while matches!(child.try_wait(), Ok(None)) && now() < end {
                thread::park_timeout(Duration::from_millis(50));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// When the machine's clock showed these milliseconds since 1970.
fn moment(milliseconds: &str) -> Option<Instant> {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds.parse().ok()?);
    let clock = rtcctl::sys::clock::now();
    let ago = clock.wall.duration_since(then).unwrap_or_default();
    clock.mono.checked_sub(ago)
}

fn hear_room(line: &str, signs: &Signs) {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["served", at] => moment(at).into_iter().for_each(|at| signs.served(Channel::Room, at)),
        ["lost", at, count] => {
            if let (Some(at), Ok(count)) = (moment(at), count.parse()) {
                signs.lost(Channel::Room, count, at);
            }
        }
        _ => {}
    }
}

fn hear_browsers(line: &str, signs: &Signs) {
    // Of use where somebody did not come back.
    if line.starts_with("page ") {
        println!("{line}");
    }
    let Some((word, at)) = line.split_once(' ') else { return };
    let channel = Channel::ALL.into_iter().find(|channel| channel.as_str() == word);
    if let (Some(channel), Some(at)) = (channel, moment(at)) {
        signs.served(channel, at);
    }
}

fn secret(target: &Target, protocols: &[&str]) -> Result<Secret> {
    let stream = TcpStream::connect((target.address, target.web_port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    shake_hands(stream, protocols)
}

/// The body of an answer with status 200.
fn get(target: &Target, path: &str) -> Result<String> {
    let mut stream = secret(target, &["http/1.1"])?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut answer = Vec::new();
    // It may be closed without the goodbye of TLS.
    if let Err(error) = stream.read_to_end(&mut answer)
        && error.kind() != ErrorKind::UnexpectedEof
    {
        return Err(error);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    if head.starts_with("HTTP/1.1 200 ") { Ok(body.to_owned()) } else { Err(Error::other(head.to_owned())) }
}

fn ask_for_the_page(target: &Target, signs: &Signs) {
    match get(target, "/") {
        Ok(_) => signs.served(Channel::Page, now()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => signs.refused(Channel::Page, now()),
        Err(_) => signs.lost(Channel::Page, 1, now()),
    }
}

/// Two callers who are both relayed, and make new relays when nothing comes any more.
struct Relayed<S, F> {
    channel: Channel,
    target: Target,
    connect: F,
    call: Option<Call<S>>,
    count: u64,
    lost: u32,
}

struct Call<S> {
    one: StreamClient<S>,
    other: StreamClient<S>,
    since: Instant,
}

impl<S: Read + Write, F: Fn() -> Result<S>> Relayed<S, F> {
    fn new(channel: Channel, target: &Target, connect: F) -> Self {
        Self { channel, target: target.clone(), connect, call: None, count: 0, lost: 0 }
    }

    /// One packet from one to the other.
    fn turn(&mut self, signs: &Signs) {
        if self.call.as_ref().is_none_or(|call| now() > call.since + RELAYED_FOR || self.lost >= MAX_LOST) {
            // The old one serves until there is a new one, if it does so at all.
            match self.dial() {
                Ok(call) => (self.call, self.lost) = (Some(call), 0),
                Err(_) => return,
            }
        }
        let Some(call) = &mut self.call else { return };
        self.count += 1;
        match call.talk(self.count) {
            Ok(()) => {
                self.lost = 0;
                signs.served(self.channel, now());
            }
            Err(error) => {
                signs.lost(self.channel, 1, now());
                let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                // A connection that was cut says so.
                self.lost = if is_late { self.lost + 1 } else { MAX_LOST };
            }
        }
    }

    fn dial(&self) -> Result<Call<S>> {
        let ice: Value = serde_json::from_str(&get(&self.target, "/api/ice")?).map_err(Error::other)?;
        let servers = ice["iceServers"].as_array().ok_or(ErrorKind::InvalidData)?;
        let server = servers.iter().find(|server| server["username"].is_string()).ok_or(ErrorKind::InvalidData)?;
        let text = |key: &str| server[key].as_str().map(str::to_owned).ok_or(ErrorKind::InvalidData);
        let user = (text("username")?, text("credential")?);
        let caller = || -> Result<(StreamClient<S>, SocketAddr)> {
            let mut client = StreamClient::new((self.connect)()?, user.clone());
            let relay = client.try_allocate()?.ok_or(ErrorKind::PermissionDenied)?;
            Ok((client, relay))
        };
        let ((mut one, ones), (mut other, others)) = (caller()?, caller()?);
        one.try_bind_channel(others)?;
        other.try_bind_channel(ones)?;
        Ok(Call { one, other, since: now() })
    }
}

impl<S: Read + Write> Call<S> {
    /// What was said before and came late is passed over.
    fn talk(&mut self, number: u64) -> Result<()> {
        self.one.try_send(&number.to_be_bytes())?;
        let end = now() + PACKET_WITHIN;
        while now() < end {
            if self.other.try_receive()? == number.to_be_bytes() {
                return Ok(());
            }
        }
        Err(ErrorKind::TimedOut.into())
    }
}
