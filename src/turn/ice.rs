//! What a browser is told about this server: ICE URLs that work, with fresh credentials.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Serialize;

use super::credentials::{self, Credentials};
use crate::config::{Config, Host, Secret, Secrets};
use crate::sys::clock::Now;

/// Issues ICE configurations. Cheap to clone.
#[derive(Debug, Clone)]
pub struct IceIssuer {
    hosts: Vec<Host>,
    /// Addresses at which this server answers, besides those among `hosts`.
    addresses: Vec<IpAddr>,
    port: u16,
    /// The HTTPS port, and the port for TLS alone if there is one; `None`: TURN is served over UDP only.
    stream_ports: Option<(u16, Option<u16>)>,
    ttl: u64,
    secret: Secret,
}

/// The issuer of this moment, which a reload replaces. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LiveIce {
    current: Arc<ArcSwap<IceIssuer>>,
}

impl LiveIce {
    #[must_use]
    pub fn new(issuer: IceIssuer) -> Self {
        Self { current: Arc::new(ArcSwap::from_pointee(issuer)) }
    }

    #[must_use]
    pub fn current(&self) -> Arc<IceIssuer> {
        self.current.load_full()
    }

    /// Whoever asks from now on is told by `issuer`.
    pub fn replace(&self, issuer: IceIssuer) {
        self.current.store(Arc::new(issuer));
    }
}

/// An RTCConfiguration with the time for which it holds.
#[derive(Debug, Clone, Serialize)]
pub struct IceConfiguration {
    #[serde(rename = "iceServers")]
    pub ice_servers: Vec<IceServer>,
    /// Seconds.
    pub ttl: u64,
}

/// An RTCIceServer.
#[derive(Clone, Serialize)]
pub struct IceServer {
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServer").field("urls", &self.urls).finish_non_exhaustive()
    }
}

impl IceIssuer {
    #[must_use]
    pub fn new(config: &Config, secrets: &Secrets) -> Self {
        let addresses = [&config.turn.relay_ips, &config.turn.public_ips, &config.turn.bind];
        Self {
            hosts: config.hosts.clone(),
            addresses: addresses.into_iter().flatten().copied().filter(|address| !address.is_unspecified()).collect(),
            port: config.turn.port,
            stream_ports: config.turn.tcp.then_some((config.web.port, config.turn.tls_port)),
            ttl: config.turn.credential_ttl,
            secret: secrets.turn.first().cloned().expect("`Secrets::turn` is never empty"),
        }
    }

    /// All URLs. `via` is the host under which the asking client reached this server: what it resolved once, it
    /// resolves again. A host that is not known to be ours is not repeated, since the client chose that text.
    #[must_use]
    pub fn urls(&self, via: Option<&str>) -> Vec<String> {
        let host = self.host(via);
        std::iter::once(stun_url(&host, self.port)).chain(self.turn_urls(&host)).collect()
    }

    /// From what is best for a call to what passes most firewalls. Four at most, since a browser allocates for each.
    fn turn_urls(&self, host: &Host) -> Vec<String> {
        let turn = |port| format!("turn:{host}:{port}?transport=tcp");
        let turns = |port| format!("turns:{host}:{port}?transport=tcp");
        let mut urls = vec![format!("turn:{host}:{}?transport=udp", self.port)];
        let Some((https_port, tls_port)) = self.stream_ports else { return urls };
        urls.extend([turn(self.port), turns(https_port)]);
        match host {
            // Some clients check the certificate of TURN over TLS against names only.
            Host::Address(_) if self.port != https_port => urls.push(turn(https_port)),
            Host::Address(_) => {}
            Host::Name(_) => urls.extend(tls_port.filter(|port| *port != https_port).map(turns)),
        }
        urls
    }

    /// Credentials for `user`, valid for `ttl` seconds or as long as the configuration says.
    #[must_use]
    pub fn credentials(&self, user: &str, ttl: Option<u64>, now: Now) -> Credentials {
        credentials::issue(&self.secret, user, ttl.unwrap_or(self.ttl), now)
    }

    /// What a browser passes to `RTCPeerConnection`.
    #[must_use]
    pub fn configuration(&self, user: &str, via: Option<&str>, now: Now) -> IceConfiguration {
        let host = self.host(via);
        let issued = self.credentials(user, None, now);
        IceConfiguration {
            ice_servers: vec![
                IceServer { urls: vec![stun_url(&host, self.port)], username: None, credential: None },
                IceServer {
                    urls: self.turn_urls(&host),
                    username: Some(issued.username),
                    credential: Some(issued.credential),
                },
            ],
            ttl: issued.ttl,
        }
    }

    /// Whether `host` is a name or an address of this server.
    #[must_use]
    pub fn is_ours(&self, host: &str) -> bool {
        self.known(host).is_some()
    }

    fn known(&self, host: &str) -> Option<Host> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            let host = Host::Address(address);
            return (self.addresses.contains(&address) || self.hosts.contains(&host)).then_some(host);
        }
        let is_same = |host: &&Host| matches!(host, Host::Name(name) if name.eq_ignore_ascii_case(bare));
        self.hosts.iter().find(is_same).cloned()
    }

    fn host(&self, via: Option<&str>) -> Host {
        let host = via.and_then(|host| self.known(host));
        host.or_else(|| self.hosts.first().cloned()).expect("`Config::hosts` is never empty")
    }
}

fn stun_url(host: &Host, port: u16) -> String {
    format!("stun:{host}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer() -> IceIssuer {
        IceIssuer {
            hosts: vec![Host::Name("call.example".to_owned()), Host::Address("2001:db8::7".parse().unwrap())],
            addresses: vec!["192.168.1.5".parse().unwrap()],
            port: 3478,
            stream_ports: Some((443, Some(5349))),
            ttl: 3600,
            secret: Secret::new(vec![b'x'; 64]),
        }
    }

    #[test]
    fn urls_use_the_host_by_which_the_client_came_if_it_is_ours() {
        let first = |via| issuer().urls(via)[0].clone();
        assert_eq!(first(None), "stun:call.example:3478");
        assert_eq!(first(Some("CALL.example")), "stun:call.example:3478");
        assert_eq!(first(Some("192.168.1.5")), "stun:192.168.1.5:3478");
        assert_eq!(first(Some("[2001:db8::7]")), "stun:[2001:db8::7]:3478");
        for foreign in ["evil.example", "8.8.8.8", "", "call.example\r\nx", "[::1]"] {
            assert_eq!(first(Some(foreign)), "stun:call.example:3478", "{foreign}");
        }
    }

    #[test]
    fn urls_go_from_udp_to_what_passes_a_web_proxy() {
        assert_eq!(
            issuer().urls(None),
            [
                "stun:call.example:3478",
                "turn:call.example:3478?transport=udp",
                "turn:call.example:3478?transport=tcp",
                "turns:call.example:443?transport=tcp",
                "turns:call.example:5349?transport=tcp",
            ]
        );
        assert_eq!(
            issuer().urls(Some("192.168.1.5")),
            [
                "stun:192.168.1.5:3478",
                "turn:192.168.1.5:3478?transport=udp",
                "turn:192.168.1.5:3478?transport=tcp",
                "turns:192.168.1.5:443?transport=tcp",
                "turn:192.168.1.5:443?transport=tcp",
            ]
        );
    }

    #[test]
    fn only_what_is_served_is_told() {
        let udp_only = IceIssuer { stream_ports: None, ..issuer() };
        assert_eq!(udp_only.urls(None), ["stun:call.example:3478", "turn:call.example:3478?transport=udp"]);
        let one_port = IceIssuer { port: 443, stream_ports: Some((443, Some(443))), ..issuer() };
        let tcp = ["turn:call.example:443?transport=tcp", "turns:call.example:443?transport=tcp"];
        assert_eq!(one_port.urls(None)[2..], tcp);
        assert_eq!(one_port.urls(Some("192.168.1.5")).len(), 4);
    }

    #[test]
    fn only_turn_servers_carry_credentials() {
        let told = issuer().configuration("anna", None, crate::sys::clock::now());
        let document = serde_json::to_value(&told).unwrap();
        assert_eq!(document["iceServers"][0], serde_json::json!({ "urls": ["stun:call.example:3478"] }));
        assert_eq!(document["iceServers"][1]["urls"][0], "turn:call.example:3478?transport=udp");
        assert!(document["iceServers"][1]["username"].as_str().unwrap().ends_with(":anna"));
        assert_eq!(document["ttl"], 3600);
        assert!(!format!("{told:?}").contains(document["iceServers"][1]["credential"].as_str().unwrap()));
    }
}
