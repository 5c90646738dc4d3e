//! Debian's ACME test server with a DNS of its own, on free ports; killed when it goes out of scope.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// How long the two servers may take to listen.
const UP_WITHIN: Duration = Duration::from_secs(20);

pub(crate) struct Pebble {
    dir: tempfile::TempDir,
    port: u16,
    management: u16,
    dns: u16,
    dns_management: u16,
    children: Vec<Child>,
}

/// What differs between authorities.
#[derive(Default)]
pub(crate) struct Manners<'a> {
    /// Variables that make it misbehave.
    pub(crate) env: &'a [(&'a str, &'a str)],
    /// Key id and key that accounts must be bound to.
    pub(crate) binding: Option<(&'a str, &'a str)>,
    /// How many seconds its certificates live; the newer server has profiles for that.
    pub(crate) life: Option<u64>,
    /// The folder of a newer server, 2.10 or later, to be run in place of the installed one.
    pub(crate) newer: Option<PathBuf>,
}

impl Pebble {
    /// Starts it, looking for HTTP-01 and TLS-ALPN-01 at these ports.
    pub(crate) fn start(http_port: u16, tls_port: u16, manners: &Manners<'_>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (port, management) = (free_port(), free_port());
        let (dns, dns_management) = (free_dns_port(), free_port());
        // A root, and below it the certificate that its own HTTPS is served with.
        let root_key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let leaf_pem = leaf.signed_by(&key, &issuer).unwrap().pem();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            rtcctl::sys::fs::write_atomic(&path, text.as_bytes(), 0o600).unwrap();
            path
        };
        file("root.pem", &root_pem);
        let certificate = file("leaf.pem", &leaf_pem);
        let private_key = file("leaf.key", &key.serialize_pem());
        let bindings: serde_json::Map<String, serde_json::Value> =
            manners.binding.iter().map(|(id, key)| ((*id).to_owned(), (*key).into())).collect();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": certificate, "privateKey": private_key,
            "httpPort": http_port, "tlsPort": tls_port, "ocspResponderURL": "",
            "externalAccountBindingRequired": manners.binding.is_some(), "externalAccountMACKeys": bindings,
            "certificateValidityPeriod": manners.life.unwrap_or(0),
            // Where the server knows profiles.
            "profiles": {
                "default": { "description": "the usual one", "validityPeriod": 7_776_000 },
                "shortlived": { "description": "six days", "validityPeriod": 518_400 },
            },
        }});
        let config = file("pebble.json", &config.to_string());
        let log = |name: &str| std::fs::File::create(dir.path().join(name)).unwrap();
        let program = |name: &str| manners.newer.as_ref().map_or_else(|| name.into(), |folder| folder.join(name));
        let dns_flag = if manners.newer.is_some() { "-dnsserver" } else { "-dns01" };
        let dns_server = Command::new(program("pebble-challtestsrv"))
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args([dns_flag, &format!("127.0.0.1:{dns}"), "-management", &format!("127.0.0.1:{dns_management}")])
            .stdin(Stdio::null())
            .stdout(log("dns.log"))
            .stderr(log("dns.err"))
            .spawn()
            .unwrap();
        let server = Command::new(program("pebble"))
            .arg("-config")
            .arg(config)
            .args(["-dnsserver", &format!("127.0.0.1:{dns}")])
            .envs(manners.env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log("pebble.log"))
            .stderr(log("pebble.err"))
            .spawn()
            .unwrap();
        let pebble = Self { dir, port, management, dns, dns_management, children: vec![server, dns_server] };
        let deadline = Instant::now() + UP_WITHIN;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < deadline, "pebble does not listen: {}", pebble.log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        pebble
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// The root that its own HTTPS is signed by.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root.pem")
    }

    /// The root of the certificates that it issues, in PEM.
    pub(crate) fn issuing_root(&self) -> String {
        let url = format!("https://localhost:{}/roots/0", self.management);
        let output = Command::new("curl").args(["-sfk", &url]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Where its DNS is asked.
    pub(crate) fn dns(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.dns))
    }

    /// Where records are added to its DNS.
    pub(crate) fn dns_management(&self) -> String {
        format!("http://127.0.0.1:{}", self.dns_management)
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        format!("{}{}", read("pebble.log"), read("pebble.err"))
    }

    /// It is down from now on, and its port refuses.
    pub(crate) fn stop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Free for UDP and TCP.
fn free_dns_port() -> u16 {
    loop {
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// The first bytes of what a plain HTTP request is answered with.
pub(crate) fn get_plain(port: u16, path: &str) -> String {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut heard = String::new();
    let _ = stream.read_to_string(&mut heard);
    heard
}
