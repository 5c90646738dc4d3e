//! coturn's tools, and network namespaces for peers that are on another machine.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// How long anything here may take. A run of coturn's client starts with several seconds of its own waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The addresses at both ends of the cable.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

pub(crate) fn is_without_loss(told: &str) -> bool {
    let sent = told.lines().filter_map(|line| line.split("tot_send_msgs=").nth(1)).next_back();
    let sent = sent.and_then(|rest| rest.split(',').next()?.trim().parse::<u32>().ok());
    told.contains("Total lost packets 0 ") && sent.is_some_and(|sent| sent >= 50)
}

/// Runs a tool to its end and gives everything it said.
pub(crate) fn tool(namespace: Option<&str>, program: &str, args: &[&str]) -> String {
    let mut command = match namespace {
        Some(namespace) => {
            let mut command = assert_cmd::Command::new("ip");
            command.args(["netns", "exec", namespace, program]);
            command
        }
        None => assert_cmd::Command::new(program),
    };
    let output = command.args(args).timeout(PATIENCE).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Two namespaces with a cable between them, for the time of a test.
pub(crate) struct Namespaces {
    pub(crate) server: String,
    pub(crate) peer: String,
}

impl Namespaces {
    /// `None` where this user may not make any.
    pub(crate) fn new() -> Option<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let tag = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let net = Self { server: format!("rtcctl-s-{tag}"), peer: format!("rtcctl-p-{tag}") };
        let ip = |line: &str| {
            let output = assert_cmd::Command::new("ip").args(line.split(' ')).timeout(PATIENCE).output().unwrap();
            output.status.success()
        };
        if !ip(&format!("netns add {}", net.server)) {
            return None;
        }
        let (server, peer) = (&net.server, &net.peer);
        for line in [
            format!("netns add {peer}"),
            format!("-n {server} link add wire type veth peer name wire netns {peer}"),
            format!("-n {server} address add {SERVER}/24 dev wire"),
            format!("-n {peer} address add {PEER}/24 dev wire"),
            format!("-n {server} link set lo up"),
            format!("-n {peer} link set lo up"),
            format!("-n {server} link set wire up"),
            format!("-n {peer} link set wire up"),
        ] {
            assert!(ip(&line), "ip {line}");
        }
        Some(net)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in [&self.server, &self.peer] {
            let _ = assert_cmd::Command::new("ip").args(["netns", "delete", name]).timeout(PATIENCE).output();
        }
    }
}

/// Moves this thread, and the ones it starts, into a namespace.
pub(crate) fn enter(namespace: &str) {
    let file = std::fs::File::open(PathBuf::from("/run/netns").join(namespace)).unwrap();
    setns(file, CloneFlags::CLONE_NEWNET).unwrap();
}

/// coturn's echo server, in the namespace of the peer.
pub(crate) struct EchoPeer(Child);

impl EchoPeer {
    pub(crate) fn start(net: &Namespaces) -> Self {
        Self::start_at(net, PEER.into())
    }

    pub(crate) fn start_at(net: &Namespaces, address: IpAddr) -> Self {
        #[expect(clippy::disallowed_methods, reason = "it runs beside the test, which ends it")]
        let child = std::process::Command::new("ip")
            .args(["netns", "exec", &net.peer, "turnutils_peer", "-L", &address.to_string(), "-p", "3480"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let peer = Self(child);
        let namespace = net.peer.clone();
        let echoes = std::thread::spawn(move || {
            enter(&namespace);
            let socket = UdpSocket::bind((address, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let mut buffer = [0; 16];
            // Asked again and again until it answers; each try waits for an answer or for the time-out.
            (0..200).any(|_| {
                // Refused while nobody listens, which is what is waited out.
                let _ = socket.send_to(b"there?", (address, 3480));
                socket.recv(&mut buffer).is_ok()
            })
        });
        assert!(echoes.join().unwrap(), "turnutils_peer does not echo");
        peer
    }
}

impl Drop for EchoPeer {
    fn drop(&mut self) {
        // `ip netns exec` becomes the program itself, so this ends the program.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
