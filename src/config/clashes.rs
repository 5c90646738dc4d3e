//! Decides which values of a configuration, each fine by itself, do not go together.

use std::net::IpAddr;

use super::raw::Reader;
use super::{CertSource, ChallengeChoice, Config, MAX_LISTENERS, PeerMode};
use crate::text;

/// Ports that two listeners want at once, and keys that contradict each other.
pub(super) fn complain(reader: &mut Reader, config: &Config) {
    let line_of = |reader: &Reader, path: &str| reader.lines.get(path).copied().unwrap_or(0);
    complain_about_tcp_ports(reader, config);
    complain_about_half_a_shared_port(reader, config);
    complain_about_the_certificate(reader, config);
    complain_about_many_listeners(reader, config);
    if let (false, Some(port)) = (config.turn.tcp, config.turn.tls_port) {
        let line = line_of(reader, "turn.tls_port");
        reader.complain(line, "turn.tls_port", text!("is {}, but `turn.tcp: off` takes no client by TLS", port));
    }
    if let (Some(one), Some(all)) = (config.turn.allocation_bandwidth, config.turn.total_bandwidth)
        && one > all
    {
        let line = line_of(reader, "turn.allocation_bandwidth");
        let text = text!("{} is more than turn.total_bandwidth, which is {}", one, all);
        reader.complain(line, "turn.allocation_bandwidth", text);
    }
    if config.web.http_port == Some(config.web.port) {
        let line = line_of(reader, "web.http_port").max(line_of(reader, "web.port"));
        let port = config.web.port;
        reader.complain(line, "web.http_port", text!("clashes with web.port: both are {}", port));
    }
    if config.turn.relay_ports.contains(&config.turn.port) {
        let line = line_of(reader, "turn.relay_ports").max(line_of(reader, "turn.port"));
        let (port, range) = (config.turn.port, &config.turn.relay_ports);
        let text = text!("{}..{} contains turn.port {}", range.start(), range.end(), port);
        reader.complain(line, "turn.relay_ports", text);
    }
    if config.turn.peers == PeerMode::Custom && config.turn.allow_peers.is_empty() {
        let line = line_of(reader, "turn.peers");
        reader.complain(line, "turn.allow_peers", text!("is empty, but `turn.peers: custom` relays to nothing else"));
    }
}

/// More sockets than can be kept for the next start.
fn complain_about_many_listeners(reader: &mut Reader, config: &Config) {
    let (web, turn) = (&config.web, &config.turn);
    let by_udp = turn.bind.len() * turn.workers;
    let turn_by_tcp = turn.bind.len() * (usize::from(turn.tcp) + usize::from(turn.tls_port.is_some()));
    let by_tcp = web.bind.len() * (1 + usize::from(web.http_port.is_some())) + turn_by_tcp;
    if by_udp + by_tcp <= MAX_LISTENERS {
        return;
    }
    let path = if by_udp > by_tcp { "turn.workers" } else { "web.bind" };
    let line = reader.lines.get(path).or_else(|| reader.lines.get("turn.bind")).copied().unwrap_or(0);
    let text = text!(
        "{} workers on {} addresses, and {} sockets for TCP, are {} to listen on; {} at most, which are all kept while \
         the service is started anew",
        turn.workers,
        turn.bind.len(),
        by_tcp,
        by_udp + by_tcp,
        MAX_LISTENERS
    );
    reader.complain(line, path, text);
}

/// What each source of certificates needs.
fn complain_about_the_certificate(reader: &mut Reader, config: &Config) {
    let certificate = &config.certificate;
    let line = reader.lines.get("certificate.source").copied().unwrap_or(0);
    match certificate.source {
        CertSource::SelfSigned => {}
        CertSource::Files => {
            for (path, file) in
                [("certificate.cert_file", &certificate.cert_file), ("certificate.key_file", &certificate.key_file)]
            {
                if file.is_none() {
                    reader.complain(line, path, text!("is missing, but `certificate.source: files` serves it"));
                }
            }
        }
        CertSource::Acme => {
            let acme = &certificate.acme;
            if !config.hosts.is_empty() && !config.hosts.iter().any(|host| acme.directory.may_certify(host)) {
                let text = text!(
                    "{} certifies what is known on the internet alone, and none of `hosts` is; use `self-signed`, \
                     or name a private authority by `certificate.acme_directory`",
                    acme.directory.text
                );
                reader.complain(line, "certificate.source", text);
            }
            if acme.challenge == ChallengeChoice::Http01 && config.web.http_port.is_none() {
                let line = reader.lines.get("certificate.acme_challenge").copied().unwrap_or(0);
                let text = text!("is http-01, but `web.http_port: off` leaves nobody to answer it; use tls-alpn-01");
                reader.complain(line, "certificate.acme_challenge", text);
            }
            complain_about_dns(reader, config);
        }
    }
}

/// What records of the DNS need, and what needs them.
fn complain_about_dns(reader: &mut Reader, config: &Config) {
    let acme = &config.certificate.acme;
    let line_of = |reader: &Reader, path: &str| reader.lines.get(path).copied().unwrap_or(0);
    if acme.challenge == ChallengeChoice::Dns01 && acme.dns_command.is_empty() {
        let line = line_of(reader, "certificate.acme_challenge");
        let text =
            text!("is empty, but `certificate.acme_challenge: dns-01` needs a command that adds records to the DNS");
        reader.complain(line, "certificate.acme_dns_command", text);
    }
    let star = acme.names.iter().find(|name| name.below_star().is_some());
    if let Some(star) = star
        && !acme.may_use_dns()
        && acme.challenge != ChallengeChoice::Dns01
    {
        let line = line_of(reader, "certificate.acme_names");
        let text = text!(
            "`{}` can be proven by dns-01 alone; name a command by `certificate.acme_dns_command`, and let \
             `certificate.acme_challenge` be auto or dns-01",
            star
        );
        reader.complain(line, "certificate.acme_names", text);
    }
    for name in acme.names.iter().filter(|name| !acme.directory.may_certify(name)) {
        let line = line_of(reader, "certificate.acme_names");
        let text = text!("`{}` is no name of the internet, and {} certifies nothing else", name, acme.directory.text);
        reader.complain(line, "certificate.acme_names", text);
    }
    let has_hosts = config.hosts.iter().any(|host| acme.directory.may_certify(host));
    if has_hosts && acme.ordered(&config.hosts).is_empty() {
        let line = line_of(reader, "certificate.acme_challenge");
        let text = text!("is dns-01, which proves names alone, and `hosts` has none");
        reader.complain(line, "certificate.acme_challenge", text);
    }
}

/// TURN by TCP and TLS against the page and its redirect, where they listen on the same address.
fn complain_about_tcp_ports(reader: &mut Reader, config: &Config) {
    let (web, turn) = (&config.web, &config.turn);
    let meets = |one: &IpAddr, other: &IpAddr| {
        one.is_ipv4() == other.is_ipv4() && (one == other || one.is_unspecified() || other.is_unspecified())
    };
    let share_an_address = turn.bind.iter().any(|one| web.bind.iter().any(|other| meets(one, other)));
    if !turn.tcp {
        return;
    }
    let of_turn = [("turn.port", Some(turn.port)), ("turn.tls_port", turn.tls_port)];
    let of_web = [("web.port", Some(web.port)), ("web.http_port", web.http_port)];
    let mut pairs = vec![(of_turn[1], of_turn[0])];
    if share_an_address {
        let each = of_turn.iter().flat_map(|turn| of_web.iter().map(|web| (*turn, *web)));
        // One listener takes both then, and the same number as UDP gets through where only 443 does.
        pairs.extend(each.filter(|(turn, web)| (turn.0, web.0) != ("turn.port", "web.port")));
    }
    for ((path, port), (other_path, other)) in pairs {
        let Some(port) = port.filter(|port| Some(*port) == other) else { continue };
        let line_of = |path: &str| reader.lines.get(path).copied().unwrap_or(0);
        let line = line_of(path).max(line_of(other_path));
        let text = match other_path {
            // The listener of the page takes TURN, too.
            "web.port" => text!("clashes with web.port: TCP port {} takes TURN already; choose another port", port),
            _ => text!("clashes with {}: both want TCP port {}", other_path, port),
        };
        reader.complain(line, path, text);
    }
}

/// TURN shares the page's port where the page listens. A wildcard cannot have it everywhere else: the kernel lets
/// nobody listen on a wildcard beside one of its addresses.
fn complain_about_half_a_shared_port(reader: &mut Reader, config: &Config) {
    let (web, turn) = (&config.web, &config.turn);
    if !turn.tcp || turn.port != web.port {
        return;
    }
    let is_on = |wildcard: &IpAddr| web.bind.contains(wildcard);
    let wildcards = turn.bind.iter().filter(|address| address.is_unspecified() && !is_on(address));
    let beside = |wildcard: &IpAddr| web.bind.iter().copied().find(|one| one.is_ipv4() == wildcard.is_ipv4());
    let Some((wildcard, one)) = wildcards.filter_map(|address| Some((*address, beside(address)?))).next() else {
        return;
    };
    let line_of = |path: &str| reader.lines.get(path).copied().unwrap_or(0);
    let line = line_of("turn.port").max(line_of("web.port"));
    let port = turn.port;
    let text = text!(
        "clashes with web.port: both want TCP port {}, but turn.bind has {} and web.bind only {}; \
         list the same addresses in both",
        port,
        wildcard,
        one
    );
    reader.complain(line, "turn.port", text);
}

#[cfg(test)]
mod tests {
    use crate::config::resolve::{HostFacts, resolve};

    fn facts() -> HostFacts {
        HostFacts { relay_ips: vec!["192.0.2.1".parse().unwrap()], cores: 3 }
    }

    fn complaints(text: &str) -> Vec<String> {
        resolve(text, &facts()).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn listeners_that_want_one_port_clash() {
        assert_eq!(
            complaints("hosts: [a.b]\nweb:\n  port: 8443\n  http_port: 8443\n"),
            ["line 4: web.http_port: clashes with web.port: both are 8443"]
        );
        assert_eq!(
            complaints("hosts: [a.b]\nturn:\n  port: 50000\n"),
            ["line 3: turn.relay_ports: 49160..51159 contains turn.port 50000"]
        );
        assert_eq!(
            complaints("hosts: [a.b]\nturn:\n  peers: custom\n"),
            ["line 3: turn.allow_peers: is empty, but `turn.peers: custom` relays to nothing else"]
        );
    }

    #[test]
    fn no_more_is_listened_on_than_is_kept_for_the_next_start() {
        let on = |addresses: usize, workers: &str| {
            let addresses: Vec<String> = (1..=addresses).map(|number| format!("192.0.2.{number}")).collect();
            format!("hosts: [a.b]\nturn:\n  workers: {workers}\n  bind: [{}]\n", addresses.join(", "))
        };
        assert!(resolve(&on(3, "256"), &facts()).is_ok());
        assert_eq!(
            complaints(&on(4, "256")),
            [
                "line 3: turn.workers: 256 workers on 4 addresses, and 8 sockets for TCP, are 1032 to listen on; 1024 at \
              most, which are all kept while the service is started anew"
            ]
        );
        let facts = HostFacts { cores: 384, ..facts() };
        for (addresses, workers) in [(1, 384), (2, 256), (100, 5)] {
            assert_eq!(resolve(&on(addresses, "auto"), &facts).unwrap().config.turn.workers, workers);
        }
        let many: Vec<String> = (0..600).map(|number| format!("192.0.{}.{}", number / 200, number % 200 + 1)).collect();
        let text = format!("hosts: [a.b]\nweb:\n  bind: [{}]\n", many.join(", "));
        assert!(complaints(&text)[0].starts_with("line 3: web.bind: 3 workers on 2 addresses, and 1202 sockets"));
    }

    #[test]
    fn turn_by_tcp_wants_ports_of_its_own() {
        let turn = |keys: &str| format!("hosts: [a.b]\nweb:\n  http_port: 8080\nturn:\n{keys}");
        assert_eq!(
            complaints(&turn("  port: 8080\n  tls_port: 443\n")),
            [
                "line 5: turn.port: clashes with web.http_port: both want TCP port 8080",
                "line 6: turn.tls_port: clashes with web.port: TCP port 443 takes TURN already; choose another port",
            ]
        );
        assert_eq!(
            complaints(&turn("  tls_port: 3478\n")),
            ["line 5: turn.tls_port: clashes with turn.port: both want TCP port 3478"]
        );
        assert_eq!(
            complaints(&turn("  tcp: off\n  tls_port: 5349\n")),
            ["line 6: turn.tls_port: is 5349, but `turn.tcp: off` takes no client by TLS"]
        );
        let on_one_address = |keys: &str| turn(keys).replace("web:\n", "web:\n  bind: [192.0.2.8]\n");
        assert!(resolve(&turn("  port: 443\n"), &facts()).is_ok());
        for fine in [
            "  port: 443\n  tcp: off\n",
            "  port: 8080\n  tcp: off\n",
            "  tls_port: 5349\n",
            "  bind: [192.0.2.7]\n  port: 443\n",
            "  bind: [192.0.2.7, 192.0.2.8]\n  port: 443\n",
            "  bind: ['::', 192.0.2.8]\n  port: 443\n",
        ] {
            assert!(resolve(&on_one_address(fine), &facts()).is_ok(), "{fine}");
        }
        assert_eq!(
            complaints(&on_one_address("  bind: [0.0.0.0]\n  port: 443\n")),
            [
                "line 7: turn.port: clashes with web.port: both want TCP port 443, but turn.bind has 0.0.0.0 and web.bind \
              only 192.0.2.8; list the same addresses in both"
            ]
        );
    }
}
