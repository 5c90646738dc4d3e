//! The servers that are compared: how each is configured, started on its own core, and ended.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rtcctl::config::Secret;
use rtcctl::sys::clock;
use rtcctl::turn::credentials;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::forwarder::Means;
use crate::stun::Credentials;
use crate::{dialogue, where_is};

const PORT: u16 = 3478;
const TLS_PORT: u16 = 5349;
const RELAY_PORTS: (u16, u16) = (20_000, 60_000);
const SECRET: &str = "north";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Coturn,
    Rtcctl,
    /// With `turn.latency: low`.
    RtcctlLow,
    /// This program's own forwarder, which is no TURN server.
    Forwarder(Means),
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Coturn => "coturn",
            Self::Rtcctl => "rtcctl",
            Self::RtcctlLow => "rtcctl (low)",
            Self::Forwarder(Means::Plain) => "fwd",
            Self::Forwarder(Means::Naps) => "fwd, naps",
            Self::Forwarder(Means::Trains) => "fwd, GSO",
        }
    }
}

/// Where servers run and what they are made of.
pub(crate) struct Place {
    pub(crate) rtcctl: PathBuf,
    pub(crate) scratch: PathBuf,
    pub(crate) address: Ipv4Addr,
    /// Where the generator asks from whether a server is there.
    pub(crate) client: Ipv4Addr,
    /// Networks that peers are in.
    pub(crate) peers: String,
    pub(crate) netns: Option<String>,
}

/// A server that answers.
pub(crate) struct Server {
    child: Child,
    pub(crate) pid: u32,
    pub(crate) udp: SocketAddrV4,
    pub(crate) tls: SocketAddrV4,
    pub(crate) credentials: Credentials,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Place {
    /// Starts a server with one relay thread a core, and waits until it answers.
    pub(crate) fn start(&self, kind: Kind, cores: usize) -> io::Result<Server> {
        let last = cores - 1;
        let (program, arguments, credentials) = match kind {
            Kind::Coturn => self.coturn(cores)?,
            Kind::Rtcctl | Kind::RtcctlLow => self.rtcctl(kind, cores)?,
            Kind::Forwarder(means) => {
                let nobody = Credentials { username: String::new(), password: String::new() };
                let address = SocketAddrV4::new(self.address, PORT).to_string();
                let arguments = vec!["forward".to_owned(), address, format!("{means:?}").to_lowercase()];
                (std::env::current_exe()?, arguments, nobody)
            }
        };
        // Dies with the generator, has a scheduling group of its own and keeps to its cores; each of these becomes
        // the next, so the child's number is the server's.
        let cpus = format!("0-{last}");
        let mut child = self
            .command("setpriv")
            .args(["--pdeathsig", "KILL", "setsid", "taskset", "-c", &cpus])
            .arg(&program)
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pid = child.id();
        let udp = SocketAddrV4::new(self.address, PORT);
        if let Err(error) = dialogue::wait_for(udp, SocketAddrV4::new(self.client, 0)) {
            let _ = child.kill();
            let state = child.wait()?;
            let by_hand = format!("{} {}", program.display(), arguments.join(" "));
            return Err(where_is(&error, &format!("{} ({state}) was started by `{by_hand}`", kind.name())));
        }
        prefer(pid);
        let tls_port = if kind == Kind::Coturn { TLS_PORT } else { PORT };
        Ok(Server { child, pid, udp, tls: SocketAddrV4::new(self.address, tls_port), credentials })
    }

    fn coturn(&self, cores: usize) -> io::Result<(PathBuf, Vec<String>, Credentials)> {
        let certs = self.home(Kind::Rtcctl, 1)?.join("certs");
        let mut arguments: Vec<String> =
            ["-n", "--no-cli", "--no-dtls", "--log-file", "stdout", "--simple-log", "--realm", "bench"]
                .map(str::to_owned)
                .to_vec();
        let mut set = |key: &str, value: &dyn std::fmt::Display| arguments.push(format!("--{key}={value}"));
        set("listening-ip", &self.address);
        set("relay-ip", &self.address);
        set("listening-port", &PORT);
        set("tls-listening-port", &TLS_PORT);
        set("min-port", &RELAY_PORTS.0);
        set("max-port", &RELAY_PORTS.1);
        set("relay-threads", &cores);
        set("cert", &certs.join("leaf.pem").display());
        set("pkey", &certs.join("leaf.key").display());
        set("pidfile", &self.scratch.join("coturn.pid").display());
        set("userdb", &self.scratch.join("coturn.db").display());
        // The same kind of credentials on both sides.
        arguments.push("--use-auth-secret".to_owned());
        arguments.push(format!("--static-auth-secret={SECRET}"));
        let secret = Secret::new(SECRET.as_bytes().to_vec());
        let issued = credentials::issue(&secret, "bench", 86_400, clock::now());
        let credentials = Credentials { username: issued.username, password: issued.credential };
        Ok((PathBuf::from("turnserver"), arguments, credentials))
    }

    fn rtcctl(&self, kind: Kind, cores: usize) -> io::Result<(PathBuf, Vec<String>, Credentials)> {
        let home = self.home(kind, cores)?;
        let text = self.ask_rtcctl(&home, &["--json", "turn", "credentials", "--user", "bench", "--ttl", "86400"])?;
        let issued: serde_json::Value = serde_json::from_str(&text)?;
        let field = |name: &str| {
            let value = issued.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
            value.ok_or_else(|| io::Error::other(format!("`rtcctl turn credentials` gave no `{name}`")))
        };
        let credentials = Credentials { username: field("username")?, password: field("credential")? };
        let arguments = vec!["--home".to_owned(), home.display().to_string(), "-q".to_owned(), "run".to_owned()];
        Ok((self.rtcctl.clone(), arguments, credentials))
    }

    /// What is compared, and on what.
    pub(crate) fn describe(&self) -> Vec<(&'static str, String)> {
        let first_line = |text: &str| text.trim().lines().next().unwrap_or_default().to_owned();
        let version = |program: &Path| {
            let output = self.command(program).arg("--version").output();
            output.map_or_else(|error| error.to_string(), |output| first_line(&String::from_utf8_lossy(&output.stdout)))
        };
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo").lines().find_map(|line| Some(line.strip_prefix("model name")?.to_owned()));
        vec![
            ("coturn", version(Path::new("turnserver"))),
            ("rtcctl", version(&self.rtcctl)),
            ("kernel", first_line(&read("/proc/sys/kernel/osrelease"))),
            ("cpu", model.unwrap_or_default().trim_start_matches(['\t', ' ', ':']).to_owned()),
            ("load", first_line(&read("/proc/loadavg"))),
        ]
    }

    /// A home folder of rtcctl, made when it is first asked for.
    fn home(&self, kind: Kind, cores: usize) -> io::Result<PathBuf> {
        let home = self.scratch.join(format!("home-{}-{cores}", if kind == Kind::RtcctlLow { "low" } else { "auto" }));
        let config = home.join("config.yaml");
        if config.exists() {
            return Ok(home);
        }
        let address = self.address.to_string();
        let flags = ["init", "--yes", "--quiet", "--firewall", "skip", "--host", &address, "--relay-ip", &address];
        self.ask_rtcctl(&home, &flags)?;
        let latency = if kind == Kind::RtcctlLow { "  latency: low\n" } else { "" };
        let text = format!(
            "version: 1\nreach: lan\nhosts: [{address}]\nweb:\n  port: 8443\n  http_port: off\nturn:\n  port: {PORT}\n  \
             relay_ports: {}-{}\n  relay_ips: [{address}]\n  allow_peers: [{}]\n  workers: {cores}\n  \
             user_quota: 1000000\n{latency}",
            RELAY_PORTS.0, RELAY_PORTS.1, self.peers
        );
        let checked = write(&config, &text).and_then(|()| self.ask_rtcctl(&home, &["config", "check"]));
        if let Err(error) = checked {
            fs::remove_dir_all(&home)?;
            return Err(error);
        }
        Ok(home)
    }

    /// A program within the servers' namespace.
    #[expect(clippy::disallowed_methods, reason = "servers are programs, and end with this one")]
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let Some(netns) = &self.netns else { return Command::new(program) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", netns]).arg(program);
        command
    }

    fn ask_rtcctl(&self, home: &Path, arguments: &[&str]) -> io::Result<String> {
        let output = self.command(&self.rtcctl).arg("--home").arg(home).args(arguments).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(io::Error::other(format!("`rtcctl {}` failed ({}): {complaint}", arguments.join(" "), output.status)))
    }

    /// What TLS clients of both servers trust.
    pub(crate) fn tls(&self) -> io::Result<Arc<ClientConfig>> {
        let authority = self.home(Kind::Rtcctl, 1)?.join("certs/ca.pem");
        let certificate = CertificateDer::from_pem_file(&authority).map_err(io::Error::other)?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate).map_err(io::Error::other)?;
        Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
    }
}

#[expect(clippy::disallowed_methods, reason = "a scratch file that nothing outlives")]
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, Permissions::from_mode(0o644))
}

/// Puts a process's scheduling group before what else the machine does, where that is allowed.
#[expect(clippy::disallowed_methods, reason = "a file of the kernel, which is not written atomically")]
pub(crate) fn prefer(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/autogroup"), "-15");
}
