//! Decides what a failure means and what to do about it: what operators of other relays learned the hard way.

use std::io::ErrorKind;
use std::net::IpAddr;

use super::report::{Advice, StepName};
use super::url::{Carrier, IceUrl};

/// Why a step did not get what it asked for.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The operating system said no.
    Io(std::io::Error),
    /// Nothing came in time.
    Silence,
    /// The other side closed the connection.
    Closed,
    /// Something came that is no answer of a TURN server.
    Foreign,
    /// An allocation was granted to nobody.
    Open,
    /// An error response.
    Refused { code: u16, reason: String },
    /// An answer that lacks what it must have.
    Lacking(&'static str),
    /// The certificate, or TLS otherwise.
    Tls { problem: TlsProblem, text: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsProblem {
    UnknownIssuer,
    Expired,
    WrongName,
    NoTls,
    Other,
}

/// What was being done when trouble came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) step: StepName,
    pub(super) url: &'a IceUrl,
    pub(super) username: Option<&'a str>,
    /// Seconds since 1970.
    pub(super) now: u64,
}

/// What failed in one line, and the advice that goes with it.
pub(super) fn explain(trouble: &Trouble, scene: Scene<'_>) -> (String, Advice) {
    let url = scene.url;
    let port = format!("{}/{}", url.port, url.carrier.protocol());
    let (told, why, hint): (String, String, String) = match trouble {
        Trouble::Io(error) => io(error, &port),
        Trouble::Silence => silence(scene, &port),
        Trouble::Closed => (
            "the connection was closed".to_owned(),
            "the server, or something in between, ended the connection".to_owned(),
            format!("look in the server's log; check that it speaks TURN on port {port} at all"),
        ),
        Trouble::Foreign => (
            "what answers does not speak STUN".to_owned(),
            format!("another service has port {port}, or a proxy in between changes what goes through"),
            "put the TURN server's port into the URL; where a web server shares port 443, let it pass what is not HTTP on \
             by its first bytes, since TURN clients send no ALPN"
                .to_owned(),
        ),
        Trouble::Open => (
            "anybody may use this relay".to_owned(),
            "the server grants allocations without credentials: strangers can hide behind it, and reach its network"
                .to_owned(),
            "require credentials; time-limited ones are best".to_owned(),
        ),
        Trouble::Lacking(what) => (
            format!("the answer has no {what}"),
            "the server is misconfigured, or an application-level gateway in between rewrote the answer".to_owned(),
            if *what == "realm and nonce" {
                "set a realm in the server's configuration: without one clients are challenged for ever".to_owned()
            } else {
                "try TURN over TLS, which nothing in between can rewrite".to_owned()
            },
        ),
        Trouble::Tls { problem, text } => tls(*problem, text, url),
        Trouble::Refused { code, reason } => refused(*code, reason, scene),
    };
    (told, Advice { why, hint })
}

fn io(error: &std::io::Error, port: &str) -> (String, String, String) {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of I/O errors are not a closed list")]
    match error.kind() {
        ErrorKind::ConnectionRefused => (
            "connection refused".to_owned(),
            format!("nothing listens on port {port} there"),
            "start the server, or correct the port; a server that may not bind a port below 1024, or whose certificate \
             its user cannot read, often starts without that listener and says so in its log only"
                .to_owned(),
        ),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::AddrNotAvailable => (
            "no route".to_owned(),
            error.to_string(),
            "if it is IPv6 that has no route, callers in such networks see the same: publish an AAAA record only if the \
             server can be reached by it"
                .to_owned(),
        ),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => (
            "no connection in time".to_owned(),
            format!("packets to port {port} are dropped, not refused: that is what firewalls do"),
            format!("open {port} in the host's firewall and in the cloud's security group"),
        ),
        _ => (
            "the operating system refuses".to_owned(),
            error.to_string(),
            "the reason above is the kernel's: what it names is to be put right first".to_owned(),
        ),
    }
}

fn silence(scene: Scene<'_>, port: &str) -> (String, String, String) {
    let told = "no answer in time".to_owned();
    match scene.step {
        StepName::Connect if scene.url.carrier == Carrier::Udp => (
            told,
            format!("packets to port {port} get lost, or the answers do"),
            format!(
                "open {port} in the host's firewall and in the cloud's security group; where the caller's own network \
                 blocks UDP, offer `?transport=tcp` and `turns:` as well"
            ),
        ),
        StepName::Url
        | StepName::Dns
        | StepName::Connect
        | StepName::Tls
        | StepName::Binding
        | StepName::Challenge
        | StepName::Allocate
        | StepName::Peer
        | StepName::Permission
        | StepName::Channel
        | StepName::Data
        | StepName::Attack
        | StepName::Release
        | StepName::Released => (
            told,
            "the server answered before and does not answer this".to_owned(),
            "look in the server's log; a server under attack may limit what it answers to one address".to_owned(),
        ),
    }
}

fn tls(problem: TlsProblem, text: &str, url: &IceUrl) -> (String, String, String) {
    let hint = match problem {
        TlsProblem::UnknownIssuer => {
            "serve the whole chain, with the intermediate certificates; native apps know fewer authorities than browsers, \
             so keep `turn:` by UDP and TCP next to `turns:`. A local authority has to be trusted on every device"
        }
        TlsProblem::Expired => {
            "renew the certificate and have the server load it: a server that reads it at its start only serves the old \
             one until it is restarted"
        }
        TlsProblem::WrongName => {
            "use a name that is in the certificate, or get a certificate for this one; for a bare address offer \
             `turn:...?transport=tcp` instead of `turns:`"
        }
        TlsProblem::NoTls => {
            "something without TLS answers there: check the port, and that the server could read its certificate and key"
        }
        TlsProblem::Other => "try it by `openssl s_client -connect HOST:PORT`, and look in the server's log",
    };
    let told = match problem {
        TlsProblem::UnknownIssuer => "the certificate is of an authority that is not trusted",
        TlsProblem::Expired => "the certificate is not valid now",
        TlsProblem::WrongName => "the certificate is for other names",
        TlsProblem::NoTls => "what answers does not speak TLS",
        TlsProblem::Other => "no TLS",
    };
    (told.to_owned(), text.to_owned(), hint.replace("HOST:PORT", &format!("{}:{}", url.host, url.port)))
}

fn refused(code: u16, reason: &str, scene: Scene<'_>) -> (String, String, String) {
    let told = format!("refused: {code} {reason}");
    let (why, hint) = match (scene.step, code) {
        (StepName::Binding, 401) => (
            "the server wants credentials for STUN, which browsers do not send".to_owned(),
            "let the server answer Binding requests without credentials".to_owned(),
        ),
        (StepName::Permission | StepName::Channel, 403) => (
            "the server's rules deny its own relay address".to_owned(),
            "two callers who both need the relay meet there: take the relay's own address out of the denied peers, also \
             where a denied private network contains it"
                .to_owned(),
        ),
        (_, 401) => credentials(scene),
        (_, 300) => ("the server sends callers elsewhere".to_owned(), "test the server it names".to_owned()),
        (_, 403) => (
            "this client, or this user, may not do that".to_owned(),
            "look at the server's rules for clients and peers".to_owned(),
        ),
        (_, 437) => (
            "the server does not know the allocation, or has another one for this address".to_owned(),
            "look whether the server was restarted, or whether something balances packets of one client over several \
             servers"
                .to_owned(),
        ),
        (_, 438) => (
            "the server calls every nonce stale".to_owned(),
            "look whether several servers answer under this address without sharing their nonces".to_owned(),
        ),
        (_, 440 | 443) => (
            "the server has no relay address of that family".to_owned(),
            "give the relay an address of the family callers need; browsers get IPv4 unless they ask".to_owned(),
        ),
        (_, 441) => (
            "the allocation belongs to another user".to_owned(),
            "test again from another port: an earlier allocation is still there".to_owned(),
        ),
        (_, 442) => ("the server relays no UDP".to_owned(), "allow UDP relays in the server's configuration".to_owned()),
        (_, 486) => (
            "this user has as many allocations as it may".to_owned(),
            "raise the quota of a user (`turn.user_quota`), or find out who leaves allocations behind: each page that \
             gathers candidates takes one for each URL and network interface"
                .to_owned(),
        ),
        (_, 508) => (
            "the server has no relay port left, or is being stopped".to_owned(),
            "widen the range of relay ports (`turn.relay_ports`), or look whether another process holds them".to_owned(),
        ),
        (_, 400) => (
            "the server takes the request for malformed".to_owned(),
            "look in the server's log; something in between may have changed the request".to_owned(),
        ),
        (_, _) => (format!("the server gives the reason `{reason}`"), "look in the server's log".to_owned()),
    };
    (told, why, hint)
}

/// Credentials that were not taken.
fn credentials(scene: Scene<'_>) -> (String, String) {
    let is_number = |text: &str| text.len() >= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = scene.username.and_then(|name| name.split_once(':'));
    match parts {
        Some((expiry, _)) if is_number(expiry) && expiry.parse::<u64>().is_ok_and(|expiry| expiry <= scene.now) => (
            "the time in the user name is past".to_owned(),
            "get fresh credentials, as by `rtcctl turn credentials`; if they are fresh, set the clocks right".to_owned(),
        ),
        Some((_, tail)) if is_number(tail) => (
            "the user name looks like `user:expiry`".to_owned(),
            "time-limited names are `expiry:user`, the number first".to_owned(),
        ),
        Some((expiry, _)) if is_number(expiry) => (
            "the server does not compute the same password from this user name".to_owned(),
            "the shared secret of who issues and of the server must be the same, to the last character; a server that has \
             both a secret and fixed users may use only one of them"
                .to_owned(),
        ),
        Some(_) | None => (
            "the server does not know this user, or has another password for it".to_owned(),
            "check name and password; a server that works with a shared secret takes only names like `1700000000:alice`"
                .to_owned(),
        ),
    }
}

/// A relayed address that callers elsewhere cannot reach.
pub(super) fn unreachable_relay(relayed: IpAddr, server: IpAddr) -> Option<Advice> {
    if relayed.is_unspecified() {
        return Some(Advice {
            why: "the server hands out no address but a placeholder".to_owned(),
            hint: "set the relay's address in the server's configuration".to_owned(),
        });
    }
    let is_hidden = (is_private(relayed) && !is_private(server)) || (relayed.is_loopback() && !server.is_loopback());
    is_hidden.then(|| Advice {
        why: format!("{server} is public and {relayed} is not: nobody outside the server's own network reaches it"),
        hint: format!(
            "the host is behind 1:1 NAT, as on most clouds: tell the server its public address (`turn.public_ips: \
             [{server}]`, in coturn `external-ip`), separately for each address family"
        ),
    })
}

/// Whether an address means something in one network only.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            // Carrier-grade NAT: RFC 6598.
            let is_shared = first == 100 && (64..128).contains(&second);
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || is_shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Packets that did not get through.
pub(super) fn loss(arrived: u32, returned: u32) -> Advice {
    let why = match (arrived, returned) {
        (0, _) => "no packet got from one relay to the other",
        (_, 0) => "packets get from the first relay to the second but not back",
        (_, _) => "packets get lost on the way",
    };
    let hint = if arrived == 0 || returned == 0 {
        "the relay ports are closed, or the host cannot reach its own public address: open the whole range of relay ports \
         (`turn.relay_ports`, UDP) in the host's firewall and in the cloud's security group; behind NAT the server has \
         to relay between its own allocations by itself"
    } else {
        "look at the load of the server's host and at the drops it counts (`rtcctl status`); a bandwidth limit drops, too"
    };
    Advice { why: why.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(step: StepName, url: &str, username: &str, trouble: &Trouble) -> String {
        let url = url.parse().unwrap();
        let (told, advice) = explain(trouble, Scene { step, url: &url, username: Some(username), now: 1_700_000_000 });
        format!("{told}; {}; {}", advice.why, advice.hint)
    }

    fn code(step: StepName, username: &str, code: u16) -> String {
        hint(step, "turn:a.example", username, &Trouble::Refused { code, reason: "Reason".to_owned() })
    }

    #[test]
    fn a_refused_user_is_told_what_is_wrong_with_its_name() {
        assert!(code(StepName::Allocate, "1699999999:a", 401).contains("past"));
        assert!(code(StepName::Allocate, "a:1799999999", 401).contains("the number first"));
        assert!(code(StepName::Allocate, "1799999999:a", 401).contains("shared secret"));
        assert!(code(StepName::Allocate, "alice", 401).contains("does not know this user"));
    }

    #[test]
    fn the_same_code_means_another_thing_at_another_step() {
        assert!(code(StepName::Permission, "a", 403).contains("its own relay address"));
        assert!(code(StepName::Allocate, "a", 403).contains("this client"));
        assert!(code(StepName::Binding, "a", 401).contains("for STUN"));
        assert!(code(StepName::Allocate, "a", 486).starts_with("refused: 486 Reason"));
    }

    #[test]
    fn what_nobody_answers_is_a_firewall_and_what_is_refused_is_not() {
        let silent = hint(StepName::Connect, "turn:a.example:3478", "a", &Trouble::Silence);
        assert!(silent.contains("open 3478/udp"), "{silent}");
        let refused = Trouble::Io(ErrorKind::ConnectionRefused.into());
        let refused = hint(StepName::Connect, "turns:a.example:443", "a", &refused);
        assert!(refused.contains("nothing listens on port 443/tcp"), "{refused}");
    }

    #[test]
    fn a_private_relay_of_a_public_server_is_found() {
        let is_found = |relayed: &str, server: &str| {
            unreachable_relay(relayed.parse().unwrap(), server.parse().unwrap()).is_some()
        };
        for private in ["10.0.0.5", "172.31.0.1", "192.168.1.1", "100.64.0.1", "169.254.1.1", "127.0.0.1", "fd00::1"] {
            assert!(is_found(private, "203.0.113.7"), "{private}");
        }
        assert!(is_found("0.0.0.0", "10.0.0.1"));
        assert!(is_found("127.0.0.1", "10.0.0.1"));
        assert!(!is_found("10.0.0.5", "10.0.0.1"));
        assert!(!is_found("127.0.0.1", "127.0.0.1"));
        assert!(!is_found("203.0.113.7", "203.0.113.7"));
        assert!(!is_found("2001:db8::1", "203.0.113.7"));
    }
}
