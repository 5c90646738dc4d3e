//! A host of its own: a network with a firewall that is really there, files of its own in `/etc` and `/run`, and another
//! machine beside it from which packets come.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// How long anything here may take; a machine that others use too is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// What is not here by then was dropped. Everything is asked at once, so it is waited for once.
const DROPPED_AFTER: Duration = Duration::from_millis(700);

pub(crate) const HOST: [&str; 2] = ["10.99.0.1", "fd99::1"];
pub(crate) const TCP: [u16; 4] = [22, 80, 443, 3478];
pub(crate) const UDP: [u16; 3] = [3478, 49160, 51159];

/// Run in the new namespaces; the end of its input is its end, and that of what it has started.
const SCRIPT: &str = r#"
set -eu
mount --make-rprivate /
cp -a /etc "$1/etc"
mount --bind "$1/etc" /etc
mount -t tmpfs tmpfs /run
ip link set lo up
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
echo ready
read -r _
ip address add 10.99.0.1/24 dev wire
ip address add fd99::1/64 dev wire nodad
ip link set wire up
ip route add default via 10.99.0.2
ip route add default via fd99::2
eval "$2"
echo ready
read -r _ || true
"#;

pub(crate) struct Host {
    dir: tempfile::TempDir,
    machine: Child,
    peer: Child,
    _servers: Servers,
}

fn holder(unshare: &[&str], script: &str, args: &[&str]) -> Child {
    #[expect(clippy::disallowed_methods, reason = "it lives as long as the test")]
    Command::new("unshare")
        .args(unshare)
        .args(["bash", "-c", script, "bash"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_until_ready(child: &mut Child) -> bool {
    // A byte at a time: what comes after the line is for the next one who waits.
    let output = child.stdout.as_mut().unwrap();
    let (mut line, mut byte) = (Vec::new(), [0]);
    while output.read_exact(&mut byte).is_ok() && byte != *b"\n" {
        line.push(byte[0]);
    }
    line == b"ready"
}

impl Host {
    /// A host on which `script` has set its firewall up. `None` where this user may not make one.
    pub(crate) fn new(script: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = holder(&["--net", "--mount"], SCRIPT, &[&dir.path().display().to_string(), script]);
        let mut peer = holder(&["--net"], "ip link set lo up && echo ready && read -r _", &[]);
        if !wait_until_ready(&mut machine) || !wait_until_ready(&mut peer) {
            return None;
        }
        let run = |line: &str| {
            let output = assert_cmd::Command::new("nsenter").args(line.split(' ')).timeout(PATIENCE).output().unwrap();
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let (machine_id, peer_id) = (machine.id(), peer.id());
        run(&format!("-t {machine_id} -n ip link add wire type veth peer name wire netns {peer_id}"));
        for line in ["address add 10.99.0.2/24 dev wire", "address add fd99::2/64 dev wire nodad", "link set wire up"] {
            run(&format!("-t {peer_id} -n ip {line}"));
        }
        machine.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert!(wait_until_ready(&mut machine), "the firewall could not be set up:\n{script}");
        let servers = within(machine_id, Servers::start);
        let host = Self { dir, machine, peer, _servers: servers };
        let args = ["init", "--yes", "--reach", "lan", "--host", HOST[0], "--web-port", "443", "--http-port", "80"];
        // The servers of this test hold the ports, so the home is set up where they are free.
        let (code, told) = host.rtcctl_outside(&[&args[..], &["--turn-port", "3478", "--firewall", "skip"]].concat());
        assert_eq!(code, 0, "{told}");
        // The two machines have to find each other first.
        let ssh = HOST.map(|address| format!("tcp 22 {address}"));
        let knows = |found: &[String]| ssh.iter().all(|name| found.contains(name));
        assert!((0..50).any(|_| knows(&host.reached())), "SSH is not reached");
        Some(host)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn rtcctl_outside(&self, args: &[&str]) -> (i32, String) {
        let mut command = assert_cmd::Command::new("unshare");
        command.args(["--net", env!("CARGO_BIN_EXE_rtcctl"), "--home"]).arg(self.home()).args(args);
        told(&command.timeout(PATIENCE).output().unwrap())
    }

    /// A command on this host.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        #[expect(clippy::disallowed_methods, reason = "tests start programs")]
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.machine.id().to_string(), "-n", "-m", "--", program]).args(args);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command on this host and gives what it said.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> String {
        let (code, told) = told(&self.command(program, args).output().unwrap());
        assert_eq!(code, 0, "{program} {args:?}: {told}");
        told
    }

    pub(crate) fn shell(&self, script: &str) -> String {
        self.run("bash", &["-euc", script])
    }

    /// `rtcctl` on this host, to be run.
    pub(crate) fn rtcctl_command(&self, args: &[&str]) -> Command {
        let home = self.home().display().to_string();
        let mut command = self.command(env!("CARGO_BIN_EXE_rtcctl"), &[&["--home", &home][..], args].concat());
        command.env("SSH_CONNECTION", "198.51.100.1 50000 10.99.0.1 22").env_remove("RTCCTL_HOME");
        command
    }

    /// The exit code of `rtcctl` on this host, and what it said.
    pub(crate) fn rtcctl(&self, args: &[&str]) -> (i32, String) {
        told(&self.rtcctl_command(args).output().unwrap())
    }

    /// Starts `rtcctl` and kills it once it has said as many lines as that.
    pub(crate) fn kill_after(&self, lines: usize, args: &[&str]) {
        let mut child = self.rtcctl_command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let seen = output.lines().map_while(Result::ok).take(lines).count();
        // `nsenter` has become the program, so this is the program.
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(seen, lines, "{args:?} said less");
    }

    /// All rules there are, without counters, and every file that keeps some.
    pub(crate) fn dump(&self) -> String {
        self.shell(
            "nft -s list ruleset
             iptables-save | sed -e '/^#/d' -e 's/\\[[0-9:]*\\]//'
             ip6tables-save | sed -e '/^#/d' -e 's/\\[[0-9:]*\\]//'
             if [ -s /proc/net/ip_tables_names ]; then iptables-legacy-save | sed -e '/^#/d' -e 's/\\[[0-9:]*\\]//'; fi
             find /etc/ufw /etc/default/ufw /etc/firewalld /etc/iptables /etc/nftables* -type f -exec sha256sum {} + 2>/dev/null |
                 sort -k2 || true
             find /etc/ufw /etc/default/ufw /etc/firewalld /etc/iptables /etc/nftables* -printf '%m %p\\n' 2>/dev/null | sort || true",
        )
    }

    /// What gets through from the other machine: `tcp 443 10.99.0.1` and so on.
    pub(crate) fn reached(&self) -> Vec<String> {
        within(self.peer.id(), || {
            std::thread::scope(|scope| {
                let mut asking = Vec::new();
                for address in HOST {
                    let address: IpAddr = address.parse().unwrap();
                    for port in TCP {
                        asking.push((
                            scope.spawn(move || answers_tcp((address, port).into())),
                            format!("tcp {port} {address}"),
                        ));
                    }
                    for port in UDP {
                        asking.push((
                            scope.spawn(move || answers_udp((address, port).into())),
                            format!("udp {port} {address}"),
                        ));
                    }
                }
                asking.into_iter().filter_map(|(asked, name)| asked.join().unwrap().then_some(name)).collect()
            })
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in [&mut self.machine, &mut self.peer] {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// Compares two dumps, and shows the lines that only one of them has.
#[track_caller]
pub(crate) fn assert_same(now: &str, before: &str) {
    let only = |one: &str, other: &str| {
        let lines = one.lines().filter(|line| !other.lines().any(|known| known == *line));
        lines.map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    assert!(now == before, "came:\n{}\nwent:\n{}", only(now, before), only(before, now));
}

pub(crate) fn told(output: &Output) -> (i32, String) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap_or(-1), text)
}

/// Does something in the network of another process.
fn within<T: Send>(pid: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let working = scope.spawn(move || {
            let file = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        working.join().unwrap()
    })
}

fn answers_tcp(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, DROPPED_AFTER).is_ok()
}

fn answers_udp(address: SocketAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { "0.0.0.0" } else { "::" }.parse().unwrap();
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_read_timeout(Some(DROPPED_AFTER / 2)).unwrap();
    let mut buffer = [0; 8];
    // The second one for a neighbour that was not known yet.
    (0..2).any(|_| socket.send_to(b"there?", address).is_ok() && socket.recv(&mut buffer).is_ok())
}

/// What listens on the host; the kernel answers by TCP, a thread for each port by UDP.
struct Servers {
    _listeners: Vec<TcpListener>,
}

impl Servers {
    fn start() -> Self {
        for port in UDP {
            let socket = UdpSocket::bind(("::", port)).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                loop {
                    match socket.recv_from(&mut buffer) {
                        Ok((length, from)) => drop(socket.send_to(&buffer[..length], from)),
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        // What an ICMP message says about an answer is not for us.
                        Err(_) => {}
                    }
                }
            });
        }
        Self { _listeners: TCP.map(|port| TcpListener::bind(("::", port)).unwrap()).into() }
    }
}
