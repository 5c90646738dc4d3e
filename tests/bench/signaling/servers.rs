//! The two servers: how each is set up, started on the first core, and ended.

use std::fs;
use std::io;
use std::net::{SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::measure::Clock;
use crate::ports::free_port;

/// How long a server may take to listen.
const STARTED_WITHIN: Duration = Duration::from_secs(30);
const LOOKED_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Node,
    Rtcctl,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Node => "socket.io",
            Self::Rtcctl => "rtcctl",
        }
    }
}

/// What the servers are made of.
pub(crate) struct Place {
    pub(crate) rtcctl: PathBuf,
    pub(crate) node_server: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) address: SocketAddrV4,
}

/// A server that listens.
pub(crate) struct Server {
    child: Child,
    pub(crate) pid: u32,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Place {
    /// Sets a home up in which there is room for the crowd.
    pub(crate) fn new(rtcctl: &Path, node_server: &Path, scratch: &Path, clients: usize) -> io::Result<Self> {
        let [web, turn] = [free_port(), free_port()];
        let home = scratch.join("home");
        let place = Self {
            rtcctl: rtcctl.to_owned(),
            node_server: node_server.to_owned(),
            home: home.clone(),
            address: SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, web),
        };
        place.ask(&["init", "--yes", "--quiet", "--firewall", "skip", "--host", "localhost"])?;
        let text = format!(
            "version: 1\nreach: lan\nhosts: [localhost]\nweb:\n  bind: [127.0.0.1]\n  port: {web}\n  http_port: off\nturn:\n  \
             bind: [127.0.0.1]\n  port: {turn}\n  relay_ips: [127.0.0.1]\nsignaling:\n  max_rooms: {clients}\n  \
             max_sockets: {}\n",
            clients + 10
        );
        #[expect(clippy::disallowed_methods, reason = "a scratch file that nothing outlives")]
        fs::write(home.join("config.yaml"), text)?;
        place.ask(&["config", "check"])?;
        Ok(place)
    }

    pub(crate) fn start(&self, kind: Kind, clock: Clock) -> io::Result<Server> {
        let (program, arguments): (PathBuf, Vec<PathBuf>) = match kind {
            Kind::Node => {
                let port = self.address.port().to_string().into();
                let certs = self.home.join("certs");
                let arguments = vec![self.node_server.clone(), port, certs.join("leaf.pem"), certs.join("leaf.key")];
                ("node".into(), arguments)
            }
            Kind::Rtcctl => (self.rtcctl.clone(), vec!["--home".into(), self.home.clone(), "-q".into(), "run".into()]),
        };
        // Dies with the generator, has a scheduling group of its own and keeps to its core; each of these becomes the
        // next, so the child's number is the server's.
        #[expect(clippy::disallowed_methods, reason = "servers are programs, and end with this one")]
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "setsid", "taskset", "-c", "0"])
            .arg(&program)
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let (pid, start) = (child.id(), clock.now());
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!("{} ended ({status}): {}", kind.name(), program.display())));
            }
            if Duration::from_nanos(clock.now() - start) > STARTED_WITHIN {
                let _ = child.kill();
                let _ = child.wait();
                return Err(io::Error::other(format!("{} does not listen on {}", kind.name(), self.address)));
            }
            std::thread::sleep(LOOKED_EVERY);
        }
        Ok(Server { child, pid })
    }

    /// What is compared, and on what.
    pub(crate) fn describe(&self) -> Vec<(&'static str, String)> {
        let first_line = |text: &str| text.trim().lines().next().unwrap_or_default().to_owned();
        #[expect(clippy::disallowed_methods, reason = "programs say their versions")]
        let version = |program: &Path| {
            let output = Command::new(program).arg("--version").output();
            output.map_or_else(|error| error.to_string(), |output| first_line(&String::from_utf8_lossy(&output.stdout)))
        };
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let manifest = self.node_server.with_file_name("node_modules/socket.io/package.json");
        let manifest: serde_json::Value =
            fs::read_to_string(manifest).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let library = manifest.get("version").and_then(serde_json::Value::as_str).unwrap_or("?");
        let model = read("/proc/cpuinfo").lines().find_map(|line| Some(line.strip_prefix("model name")?.to_owned()));
        vec![
            ("node", format!("{}, socket.io {library}", version(Path::new("node")))),
            ("rtcctl", version(&self.rtcctl)),
            ("kernel", first_line(&read("/proc/sys/kernel/osrelease"))),
            ("cpu", model.unwrap_or_default().trim_start_matches(['\t', ' ', ':']).to_owned()),
            ("load", first_line(&read("/proc/loadavg"))),
        ]
    }

    /// What TLS clients of both servers trust.
    pub(crate) fn tls(&self) -> io::Result<Arc<ClientConfig>> {
        let certificate = CertificateDer::from_pem_file(self.home.join("certs/ca.pem")).map_err(io::Error::other)?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate).map_err(io::Error::other)?;
        Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
    }

    fn ask(&self, arguments: &[&str]) -> io::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "the server sets its own home up")]
        let output = Command::new(&self.rtcctl).arg("--home").arg(&self.home).args(arguments).output()?;
        if output.status.success() {
            return Ok(());
        }
        let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(io::Error::other(format!("`rtcctl {}` failed ({}): {complaint}", arguments.join(" "), output.status)))
    }
}

/// Puts a process's scheduling group before what else the machine does, where that is allowed.
#[expect(clippy::disallowed_methods, reason = "a file of the kernel, which is not written atomically")]
pub(crate) fn prefer(pid: u32) {
    let _ = fs::write(format!("/proc/{pid}/autogroup"), "-15");
}
