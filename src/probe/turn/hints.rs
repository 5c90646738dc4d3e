//! Decides what a failure means and what to do about it: what operators of other relays learned the hard way.

use std::io::ErrorKind;
use std::net::IpAddr;

use super::report::{Advice, StepName};
use super::url::{Carrier, IceUrl};
use crate::text;
use crate::words::Text;

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
    Tls { problem: TlsProblem, text: Text },
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
pub(super) fn explain(trouble: &Trouble, scene: Scene<'_>) -> (Text, Advice) {
    let url = scene.url;
    let port = format!("{}/{}", url.port, url.carrier.protocol());
    let (told, why, hint): (Text, Text, Text) = match trouble {
        Trouble::Io(error) => io(error, &port),
        Trouble::Silence => silence(scene, &port),
        Trouble::Closed => (
            text!("the connection was closed"),
            text!("the server, or something in between, ended the connection"),
            text!("look in the server's log; check that it speaks TURN on port {} at all", port),
        ),
        Trouble::Foreign => (
            text!("what answers does not speak STUN"),
            text!("another service has port {}, or a proxy in between changes what goes through", port),
            text!(
                "put the TURN server's port into the URL; where a web server shares port 443, let it pass what is not HTTP on \
             by its first bytes, since TURN clients send no ALPN"
            ),
        ),
        Trouble::Open => (
            text!("anybody may use this relay"),
            text!(
                "the server grants allocations without credentials: strangers can hide behind it, and reach its network"
            ),
            text!("require credentials; time-limited ones are best"),
        ),
        Trouble::Lacking(what) => (
            text!("the answer has no {}", what),
            text!("the server is misconfigured, or an application-level gateway in between rewrote the answer"),
            if *what == "realm and nonce" {
                text!("set a realm in the server's configuration: without one clients are challenged for ever")
            } else {
                text!("try TURN over TLS, which nothing in between can rewrite")
            },
        ),
        Trouble::Tls { problem, text } => tls(*problem, text, url),
        Trouble::Refused { code, reason } => refused(*code, reason, scene),
    };
    (told, Advice { why, hint })
}

fn io(error: &std::io::Error, port: &str) -> (Text, Text, Text) {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of I/O errors are not a closed list")]
    match error.kind() {
        ErrorKind::ConnectionRefused => (
            text!("connection refused"),
            text!("nothing listens on port {} there", port),
            text!(
                "start the server, or correct the port; a server that may not bind a port below 1024, or whose certificate \
             its user cannot read, often starts without that listener and says so in its log only"
            ),
        ),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::AddrNotAvailable => (
            text!("no route"),
            Text::of_error(error),
            text!(
                "if it is IPv6 that has no route, callers in such networks see the same: publish an AAAA record only if the \
             server can be reached by it"
            ),
        ),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => (
            text!("no connection in time"),
            text!("packets to port {} are dropped, not refused: that is what firewalls do", port),
            text!("open {} in the host's firewall and in the cloud's security group", port),
        ),
        _ => (
            text!("the operating system refuses"),
            Text::of_error(error),
            text!("the reason above is the kernel's: what it names is to be put right first"),
        ),
    }
}

fn silence(scene: Scene<'_>, port: &str) -> (Text, Text, Text) {
    let told = text!("no answer in time");
    match scene.step {
        StepName::Connect if scene.url.carrier == Carrier::Udp => (
            told,
            text!("packets to port {} get lost, or the answers do", port),
            text!(
                "open {} in the host's firewall and in the cloud's security group; where the caller's own network \
                 blocks UDP, offer `?transport=tcp` and `turns:` as well",
                port
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
            text!("the server answered before and does not answer this"),
            text!("look in the server's log; a server under attack may limit what it answers to one address"),
        ),
    }
}

fn tls(problem: TlsProblem, text: &Text, url: &IceUrl) -> (Text, Text, Text) {
    let hint = match problem {
        TlsProblem::UnknownIssuer => {
            text!(
                "serve the whole chain, with the intermediate certificates; native apps know fewer authorities than browsers, \
             so keep `turn:` by UDP and TCP next to `turns:`. A local authority has to be trusted on every device"
            )
        }
        TlsProblem::Expired => {
            text!(
                "renew the certificate and have the server load it: a server that reads it at its start only serves the old \
             one until it is restarted"
            )
        }
        TlsProblem::WrongName => {
            text!(
                "use a name that is in the certificate, or get a certificate for this one; for a bare address offer \
             `turn:...?transport=tcp` instead of `turns:`"
            )
        }
        TlsProblem::NoTls => {
            text!(
                "something without TLS answers there: check the port, and that the server could read its certificate and key"
            )
        }
        TlsProblem::Other => {
            let place = format!("{}:{}", url.host, url.port);
            text!("try it by `openssl s_client -connect {}`, and look in the server's log", place)
        }
    };
    let told = match problem {
        TlsProblem::UnknownIssuer => text!("the certificate is of an authority that is not trusted"),
        TlsProblem::Expired => text!("the certificate is not valid now"),
        TlsProblem::WrongName => text!("the certificate is for other names"),
        TlsProblem::NoTls => text!("what answers does not speak TLS"),
        TlsProblem::Other => text!("no TLS"),
    };
    (told, text.clone(), hint)
}

fn refused(code: u16, reason: &str, scene: Scene<'_>) -> (Text, Text, Text) {
    let told = text!("refused: {} {}", code, reason);
    let (why, hint) = match (scene.step, code) {
        (StepName::Binding, 401) => (
            text!("the server wants credentials for STUN, which browsers do not send"),
            text!("let the server answer Binding requests without credentials"),
        ),
        (StepName::Permission | StepName::Channel, 403) => (
            text!("the server's rules deny its own relay address"),
            text!(
                "two callers who both need the relay meet there: take the relay's own address out of the denied peers, also \
             where a denied private network contains it"
            ),
        ),
        (_, 401) => credentials(scene),
        (_, 300) => (text!("the server sends callers elsewhere"), text!("test the server it names")),
        (_, 403) => (
            text!("this client, or this user, may not do that"),
            text!("look at the server's rules for clients and peers"),
        ),
        (_, 437) => (
            text!("the server does not know the allocation, or has another one for this address"),
            text!(
                "look whether the server was restarted, or whether something balances packets of one client over several \
             servers"
            ),
        ),
        (_, 438) => (
            text!("the server calls every nonce stale"),
            text!("look whether several servers answer under this address without sharing their nonces"),
        ),
        (_, 440 | 443) => (
            text!("the server has no relay address of that family"),
            text!("give the relay an address of the family callers need; browsers get IPv4 unless they ask"),
        ),
        (_, 441) => (
            text!("the allocation belongs to another user"),
            text!("test again from another port: an earlier allocation is still there"),
        ),
        (_, 442) => (text!("the server relays no UDP"), text!("allow UDP relays in the server's configuration")),
        (_, 486) => (
            text!("this user has as many allocations as it may"),
            text!(
                "raise the quota of a user (`turn.user_quota`), or find out who leaves allocations behind: each page that \
             gathers candidates takes one for each URL and network interface"
            ),
        ),
        (_, 508) => (
            text!("the server has no relay port left, or is being stopped"),
            text!("widen the range of relay ports (`turn.relay_ports`), or look whether another process holds them"),
        ),
        (_, 400) => (
            text!("the server takes the request for malformed"),
            text!("look in the server's log; something in between may have changed the request"),
        ),
        (_, _) => (text!("the server gives the reason `{}`", reason), text!("look in the server's log")),
    };
    (told, why, hint)
}

/// Credentials that were not taken.
fn credentials(scene: Scene<'_>) -> (Text, Text) {
    let is_number = |text: &str| text.len() >= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = scene.username.and_then(|name| name.split_once(':'));
    match parts {
        Some((expiry, _)) if is_number(expiry) && expiry.parse::<u64>().is_ok_and(|expiry| expiry <= scene.now) => (
            text!("the time in the user name is past"),
            text!("get fresh credentials, as by `rtcctl turn credentials`; if they are fresh, set the clocks right"),
        ),
        Some((_, tail)) if is_number(tail) => (
            text!("the user name looks like `user:expiry`"),
            text!("time-limited names are `expiry:user`, the number first"),
        ),
        Some((expiry, _)) if is_number(expiry) => (
            text!("the server does not compute the same password from this user name"),
            text!(
                "the shared secret of who issues and of the server must be the same, to the last character; a server that has \
             both a secret and fixed users may use only one of them"
            ),
        ),
        Some(_) | None => (
            text!("the server does not know this user, or has another password for it"),
            text!(
                "check name and password; a server that works with a shared secret takes only names like `1700000000:alice`"
            ),
        ),
    }
}

/// A relayed address that callers elsewhere cannot reach.
pub(super) fn unreachable_relay(relayed: IpAddr, server: IpAddr) -> Option<Advice> {
    if relayed.is_unspecified() {
        return Some(Advice {
            why: text!("the server hands out no address but a placeholder"),
            hint: text!("set the relay's address in the server's configuration"),
        });
    }
    let is_hidden = (is_private(relayed) && !is_private(server)) || (relayed.is_loopback() && !server.is_loopback());
    is_hidden.then(|| Advice {
        why: text!("{} is public and {} is not: nobody outside the server's own network reaches it", server, relayed),
        hint: text!(
            "the host is behind 1:1 NAT, as on most clouds: tell the server its public address (`turn.public_ips: \
             [{}]`, in coturn `external-ip`), separately for each address family",
            server
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
        (0, _) => text!("no packet got from one relay to the other"),
        (_, 0) => text!("packets get from the first relay to the second but not back"),
        (_, _) => text!("packets get lost on the way"),
    };
    let hint = if arrived == 0 || returned == 0 {
        text!(
            "the relay ports are closed, or the host cannot reach its own public address: open the whole range of relay ports \
         (`turn.relay_ports`, UDP) in the host's firewall and in the cloud's security group; behind NAT the server has \
         to relay between its own allocations by itself"
        )
    } else {
        text!(
            "look at the load of the server's host and at the drops it counts (`rtcctl status`); a bandwidth limit drops, too"
        )
    };
    Advice { why: why.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(step: StepName, url: &str, username: &str, trouble: &Trouble) -> String {
        let url = url.parse().unwrap();
        let (told, advice) = explain(trouble, Scene { step, url: &url, username: Some(username), now: 1_700_000_000 });
        Text::clauses([told, advice.why, advice.hint]).english().to_owned()
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
