//! Metadata services of every cloud that is known, as far as rtcctl asks them, each at the address where it really is: in
//! a network namespace, so that nobody else is asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[path = "common/lab.rs"]
mod lab;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use lab::{Asked, FakeHttp, in_a_network_of_its_own, ip, reply};
use rtcctl::setup::cloud::{Dmi, Provider, Told, ask, look_at};
use rtcctl::sys::clock;
use rtcctl::words::Text;

const ADDRESS: &str = "203.0.113.7";
/// All of a conversation ends by then, with room for a busy machine.
const ENDS_WITHIN: Duration = Duration::from_secs(8);

/// Where the service of each cloud is.
fn place(provider: Provider) -> SocketAddr {
    let address = match provider {
        Provider::Aliyun => "100.100.100.200",
        Provider::Tencent => "169.254.0.23",
        Provider::Aws
        | Provider::Azure
        | Provider::DigitalOcean
        | Provider::Gcp
        | Provider::Hetzner
        | Provider::Huawei
        | Provider::Oracle => "169.254.169.254",
    };
    (address.parse::<IpAddr>().unwrap(), 80).into()
}

fn give(address: &str) {
    let prefix = if address.contains(':') { "128 nodad" } else { "32" };
    ip(&format!("address add {address}/{prefix} dev lo"));
    // The kernel takes a moment for those of IPv6; a port that nobody has is refused from then on.
    let closed = SocketAddr::new(address.parse().unwrap(), 9);
    let refuses = || {
        let tried = TcpStream::connect_timeout(&closed, Duration::from_millis(100));
        tried.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    assert!((0..100).any(|_| refuses()), "{address} is not to be had");
}

fn told(provider: Provider) -> Told {
    let before = clock::now().mono;
    let told = ask(&[provider]).remove(0).1;
    let took = clock::now().mono.saturating_duration_since(before);
    assert!(took < ENDS_WITHIN, "{provider:?} took {took:?}");
    told
}

fn found(address: &str) -> Told {
    Told::Addresses(vec![address.parse().unwrap()])
}

/// A service that gives a token for the right header, and tells `path` to who shows it.
fn with_token(path: &'static str, ttl: &'static str, header: &'static str) -> impl Fn(&Asked, &mut TcpStream) {
    move |asked, stream| {
        if asked.line.starts_with("PUT ") {
            let is_right =
                asked.line.ends_with("/api/token HTTP/1.1") && asked.head.contains(&format!("{ttl}: 60\r\n"));
            return reply(stream, if is_right { 200 } else { 400 }, "t0k3n==");
        }
        if !asked.head.contains(&format!("{header}: t0k3n==\r\n")) {
            return reply(stream, 401, "no token");
        }
        if asked.line == format!("GET {path} HTTP/1.1") { reply(stream, 200, ADDRESS) } else { reply(stream, 404, "") }
    }
}

#[test]
fn every_cloud_tells_the_address_to_who_asks_it_in_its_way() {
    in_a_network_of_its_own(|| {
        for address in ["169.254.169.254", "100.100.100.200", "169.254.0.23", "fd00:ec2::254"] {
            give(address);
        }
        // One after the other, as most are at the same address.
        fn serve(
            provider: Provider,
            wanted: &Told,
            lines: &[&str],
            answer: impl Fn(&Asked, &mut TcpStream) + Send + Sync + 'static,
        ) {
            let fake = FakeHttp::start(place(provider), answer);
            assert_eq!(told(provider), *wanted, "{provider:?}");
            let asked: Vec<String> = fake.asked().into_iter().map(|one| one.line.replace(" HTTP/1.1", "")).collect();
            assert_eq!(asked, lines, "{provider:?}");
            assert!(fake.asked().iter().all(|one| !one.head.contains("x-forwarded-for")));
        }
        // The port is given back when the thread of a server ends, which it does not: each provider has its own network.
        serve(
            Provider::Aliyun,
            &found(ADDRESS),
            &["PUT /latest/api/token", "GET /latest/meta-data/eipv4", "GET /latest/meta-data/public-ipv4"],
            with_token(
                "/latest/meta-data/public-ipv4",
                "x-aliyun-ecs-metadata-token-ttl-seconds",
                "x-aliyun-ecs-metadata-token",
            ),
        );
        serve(Provider::Tencent, &found(ADDRESS), &["GET /latest/meta-data/public-ipv4"], |asked, stream| {
            assert!(asked.head.contains("host: metadata.tencentyun.com\r\n"));
            reply(stream, 200, ADDRESS);
        });
    });
    let alone = |provider: Provider, wanted: Told, lines: &'static [&'static str], answer: Box<Answer>| {
        in_a_network_of_its_own(move || {
            give("169.254.169.254");
            let fake = FakeHttp::start(place(provider), answer);
            assert_eq!(told(provider), wanted, "{provider:?}");
            let asked: Vec<String> = fake.asked().into_iter().map(|one| one.line.replace(" HTTP/1.1", "")).collect();
            assert_eq!(asked, lines, "{provider:?}");
        })
    };
    alone(
        Provider::Aws,
        found(ADDRESS),
        &["PUT /latest/api/token", "GET /latest/meta-data/public-ipv4"],
        Box::new(with_token(
            "/latest/meta-data/public-ipv4",
            "x-aws-ec2-metadata-token-ttl-seconds",
            "x-aws-ec2-metadata-token",
        )),
    );
    alone(
        Provider::Huawei,
        found(ADDRESS),
        &["PUT /meta-data/latest/api/token", "GET /latest/meta-data/public-ipv4"],
        Box::new(with_token("/latest/meta-data/public-ipv4", "x-metadata-token-ttl-seconds", "x-metadata-token")),
    );
    // The Standard SKU: the instance knows no address, its load balancer does.
    const INSTANCE: &str =
        "/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress?api-version=2021-08-01&format=text";
    alone(
        Provider::Azure,
        found("203.0.113.9"),
        &[
            "GET /metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress?api-version=2021-08-01&format=text",
            "GET /metadata/loadbalancer?api-version=2020-10-01",
        ],
        Box::new(|asked, stream| {
            if !asked.head.contains("metadata: true\r\n") {
                return reply(stream, 400, "Required metadata header not specified");
            }
            if asked.line.contains(INSTANCE) {
                return reply(stream, 200, "");
            }
            let body = r#"{"loadbalancer":{"publicIpAddresses":[{"frontendIpAddress":"203.0.113.9"}]}}"#;
            reply(stream, 200, body);
        }),
    );
    alone(
        Provider::Gcp,
        found(ADDRESS),
        &["GET /computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip"],
        Box::new(|asked, stream| {
            let is_right = asked.head.contains("metadata-flavor: google\r\n")
                && asked.head.contains("host: metadata.google.internal\r\n");
            reply(stream, if is_right { 200 } else { 403 }, ADDRESS);
        }),
    );
    alone(
        Provider::DigitalOcean,
        found(ADDRESS),
        &["GET /metadata/v1.json"],
        Box::new(|_, stream| {
            // As some servers send it: in pieces of unknown number.
            let body = r#"{"interfaces":{"public":[{"ipv4":{"ip_address":"203.0.113.7"}}]}}"#;
            let (one, two) = body.split_at(20);
            let text = format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
                one.len(),
                two.len()
            );
            stream.write_all(text.as_bytes()).unwrap();
        }),
    );
    alone(
        Provider::Hetzner,
        found(ADDRESS),
        &["GET /hetzner/v1/metadata/public-ipv4"],
        Box::new(|_, stream| reply(stream, 200, "203.0.113.7\n")),
    );
    // Nobody is asked what it does not know.
    alone(
        Provider::Oracle,
        Told::NotAsked(Text::verbatim("Oracle Cloud does not tell a machine its public address")),
        &[],
        Box::new(|_, stream| reply(stream, 200, ADDRESS)),
    );
}

type Answer = dyn Fn(&Asked, &mut TcpStream) + Send + Sync;

#[test]
fn a_machine_without_ipv4_is_told_by_ipv6() {
    in_a_network_of_its_own(|| {
        give("fd00:ec2::254");
        let at: SocketAddr = "[fd00:ec2::254]:80".parse().unwrap();
        FakeHttp::start(at, |asked, stream| {
            let status = if asked.line.starts_with("PUT") { 200 } else { 404 };
            reply(stream, status, "token");
        });
        assert_eq!(told(Provider::Aws), Told::NoAddress);
    });
}

#[test]
fn a_busy_service_is_asked_again_and_one_without_tokens_is_asked_without() {
    in_a_network_of_its_own(|| {
        give("169.254.169.254");
        let times = std::sync::atomic::AtomicU32::new(0);
        let fake = FakeHttp::start(place(Provider::Aws), move |asked, stream| {
            if asked.line.starts_with("PUT") {
                return reply(stream, 404, "");
            }
            let busy = times.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2;
            reply(stream, if busy { 503 } else { 200 }, ADDRESS);
        });
        assert_eq!(told(Provider::Aws), found(ADDRESS));
        assert_eq!(fake.asked().len(), 4);
    });
}

/// Whoever answers at that address need not be a cloud.
#[test]
fn hostile_answers_are_harmless_and_told() {
    let hostile: Vec<(&str, Box<Answer>, &str)> = vec![
        ("a page", Box::new(|_, stream| reply(stream, 200, "<html>203.0.113.7</html>")), "no public address"),
        ("garbage", Box::new(|_, stream| drop(stream.write_all(&[0xff; 3000]))), "breaks off"),
        (
            "a redirect",
            Box::new(|_, stream| {
                let text = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n";
                let _ = stream.write_all(text.as_bytes());
            }),
            "redirect",
        ),
        (
            "ten megabytes",
            Box::new(|_, stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n");
                for _ in 0..10_000 {
                    if stream.write_all(&[b'1'; 1000]).is_err() {
                        break;
                    }
                }
            }),
            "breaks off",
        ),
        (
            "a head without end",
            Box::new(|_, stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                while stream.write_all(b"X-Header: 0123456789012345678901234567890123456789\r\n").is_ok() {}
            }),
            "breaks off",
        ),
        (
            "a slow drip",
            Box::new(|_, stream| {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
                // A byte whenever nothing has been read for a while, which is always.
                stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                while stream.write_all(b"2").is_ok() {
                    let mut nothing = [0];
                    if matches!(std::io::Read::read(stream, &mut nothing), Ok(0)) {
                        break;
                    }
                }
            }),
            "did not answer within 3 s",
        ),
        ("a loopback address", Box::new(|_, stream| reply(stream, 200, "127.0.0.1")), "no public address"),
        ("two answers", Box::new(|_, stream| reply(stream, 200, "203.0.113.7\n203.0.113.8")), "no public address"),
        ("silence and an end", Box::new(|_, _| {}), "breaks off"),
    ];
    for (name, answer, word) in hostile {
        in_a_network_of_its_own(move || {
            give("169.254.169.254");
            FakeHttp::start(place(Provider::Hetzner), answer);
            let told = told(Provider::Hetzner);
            assert!(matches!(&told, Told::Fault(why) if why.english().contains(word)), "{name}: {told:?}");
        });
    }
    // A token that would smuggle a header.
    in_a_network_of_its_own(|| {
        give("169.254.169.254");
        FakeHttp::start(place(Provider::Aws), |_, stream| reply(stream, 200, "a\r\nX-Evil: b"));
        assert!(matches!(told(Provider::Aws), Told::Fault(why) if why.english().contains("no session token")));
    });
}

#[test]
fn a_service_that_is_not_there_or_never_answers_costs_seconds_only() {
    in_a_network_of_its_own(|| {
        // No route at all.
        assert!(
            matches!(told(Provider::Gcp), Told::Fault(why) if why.english().contains("nothing answers at 169.254.169.254"))
        );
        give("169.254.169.254");
        // Refused.
        assert!(matches!(told(Provider::Hetzner), Told::Fault(why) if why.english().contains("nothing answers")));
        let silent = TcpListener::bind(place(Provider::Hetzner)).unwrap();
        assert_eq!(told(Provider::Hetzner), Told::Fault(Text::verbatim("it did not answer within 3 s")));
        drop(silent);
        // Packets that get lost.
        ip("route add blackhole 100.100.100.0/24");
        assert!(matches!(told(Provider::Aliyun), Told::Fault(_)));
    });
}

#[test]
fn without_firmware_all_are_asked_and_with_it_only_the_right_one() {
    in_a_network_of_its_own(|| {
        give("169.254.169.254");
        let fake = FakeHttp::start(place(Provider::Hetzner), |asked, stream| {
            let is_ours = asked.line.contains("/hetzner/");
            reply(stream, if is_ours { 200 } else { 404 }, ADDRESS);
        });
        let cloud = look_at(None, true);
        assert_eq!((cloud.provider, cloud.told), (Some(Provider::Hetzner), found(ADDRESS)));
        assert!(cloud.how.english().contains("no firmware"));
        let before = fake.asked().len();
        let ocean = Dmi { sys_vendor: "DigitalOcean".to_owned(), ..Dmi::default() };
        assert_eq!(look_at(Some(&ocean), true).told, Told::NoAddress);
        assert_eq!(fake.asked().len(), before + 1);
        let at_home = look_at(Some(&Dmi { sys_vendor: "QEMU".to_owned(), ..Dmi::default() }), true);
        assert!(matches!(at_home.told, Told::NotAsked(_)));
        assert_eq!(fake.asked().len(), before + 1);
    });
}
