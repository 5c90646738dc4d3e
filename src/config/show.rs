//! The effective configuration, key by key, for people and for scripts.

use serde_json::{Value, json};

use super::certificate::{CERT_SOURCES, CHALLENGES};
use super::resolve::{ACCESSES, LATENCIES, LOG_FORMATS, LOG_LEVELS, PEER_MODES, REACHES};
use super::{CertificateConfig, Config, Host};

/// Every key path with its effective value, in the order of the template.
#[must_use]
pub fn effective(config: &Config) -> Vec<(&'static str, Value)> {
    let word =
        |words: &[(&'static str, _)], wanted| words.iter().find(|(_, value)| *value == wanted).map(|(word, _)| *word);
    let peers = PEER_MODES.iter().find(|(_, mode)| *mode == config.turn.peers).map(|(word, _)| *word);
    let latency = LATENCIES.iter().find(|(_, latency)| *latency == config.turn.latency).map(|(word, _)| *word);
    let access = ACCESSES.iter().find(|(_, access)| *access == config.access).map(|(word, _)| *word);
    let hosts: Vec<String> = config
        .hosts
        .iter()
        .map(|host| match host {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        })
        .collect();
    let (web, signaling, turn, log) = (&config.web, &config.signaling, &config.turn, &config.log);
    let level = LOG_LEVELS.iter().find(|(_, level)| *level == log.level).map(|(word, _)| *word);
    let format = LOG_FORMATS.iter().find(|(_, format)| *format == log.format).map(|(word, _)| *word);
    let allow_peers: Vec<String> = turn.allow_peers.iter().map(ToString::to_string).collect();
    let mut shown = vec![
        ("version", json!(1)),
        ("reach", json!(word(REACHES, config.reach))),
        ("hosts", json!(hosts)),
        ("access", json!(access)),
    ];
    shown.extend(certificate(&config.certificate));
    shown.extend([
        ("web.bind", json!(web.bind)),
        ("web.port", json!(web.port)),
        ("web.http_port", or_off(web.http_port)),
        ("web.root", json!(web.root)),
        ("signaling.max_rooms", json!(signaling.max_rooms)),
        ("signaling.max_sockets", json!(signaling.max_sockets)),
        ("signaling.max_message", json!(signaling.max_message)),
        ("signaling.max_rate", json!(signaling.max_rate)),
        ("signaling.max_sockets_per_address", json!(signaling.max_sockets_per_address)),
        ("signaling.max_rooms_per_socket", json!(signaling.max_rooms_per_socket)),
        ("signaling.max_joins_per_address", json!(signaling.max_joins_per_address)),
        ("signaling.max_queue", json!(signaling.max_queue)),
        ("turn.bind", json!(turn.bind)),
        ("turn.port", json!(turn.port)),
        ("turn.relay_ports", json!(format!("{}-{}", turn.relay_ports.start(), turn.relay_ports.end()))),
        ("turn.relay_ips", json!(turn.relay_ips)),
        ("turn.public_ips", json!(turn.public_ips)),
        ("turn.peers", json!(peers)),
        ("turn.allow_peers", json!(allow_peers)),
        ("turn.realm", json!(turn.realm)),
        ("turn.workers", json!(turn.workers)),
        ("turn.user_quota", json!(turn.user_quota)),
        ("turn.total_quota", json!(turn.total_quota)),
        ("turn.credential_ttl", json!(turn.credential_ttl)),
        ("turn.tcp", json!(if turn.tcp { "on" } else { "off" })),
        ("turn.tls_port", or_off(turn.tls_port)),
        ("turn.latency", json!(latency)),
        ("turn.icmp", json!(if turn.icmp { "on" } else { "off" })),
        ("turn.allocation_bandwidth", or_off(turn.allocation_bandwidth)),
        ("turn.total_bandwidth", or_off(turn.total_bandwidth)),
        ("turn.drain", json!(turn.drain.as_secs())),
        ("log.level", json!(level)),
        ("log.format", json!(format)),
        ("log.max_size", json!(log.max_size)),
        ("log.max_age", or_off(log.max_age)),
        ("log.keep", json!(log.keep)),
        ("notify.command", json!(config.notify.command)),
        ("notify.webhook", json!(config.notify.webhook.as_ref().map(ToString::to_string))),
    ]);
    shown
}

fn certificate(certificate: &CertificateConfig) -> [(&'static str, Value); 13] {
    let acme = &certificate.acme;
    let source = CERT_SOURCES.iter().find(|(_, source)| *source == certificate.source).map(|(word, _)| *word);
    let challenge = CHALLENGES.iter().find(|(_, kind)| *kind == acme.challenge).map(|(word, _)| *word);
    let servers: Vec<String> = acme.dns_servers.iter().map(ToString::to_string).collect();
    let servers = if servers.is_empty() { json!("auto") } else { json!(servers) };
    let twin = acme.directory.twin.as_deref();
    let staging = match &acme.staging {
        Some(staging) if twin == Some(staging.url.as_str()) => json!("auto"),
        None if twin.is_none() => json!("auto"),
        staging => or_off(staging.as_ref().map(|staging| staging.text.clone())),
    };
    [
        ("certificate.source", json!(source)),
        ("certificate.acme_directory", json!(acme.directory.text)),
        ("certificate.acme_ca_root", json!(acme.ca_root)),
        ("certificate.acme_challenge", json!(challenge)),
        ("certificate.acme_dns_command", json!(acme.dns_command)),
        ("certificate.acme_dns_servers", servers),
        ("certificate.acme_names", json!(acme.names.iter().map(ToString::to_string).collect::<Vec<_>>())),
        ("certificate.acme_contact", json!(acme.contact)),
        ("certificate.acme_profile", json!(acme.profile.as_deref().unwrap_or("auto"))),
        ("certificate.acme_staging", staging),
        ("certificate.acme_fallback", or_off(acme.fallback.as_ref().map(|fallback| fallback.text.clone()))),
        ("certificate.cert_file", json!(certificate.cert_file)),
        ("certificate.key_file", json!(certificate.key_file)),
    ]
}

fn or_off(number: Option<impl Into<Value>>) -> Value {
    number.map_or_else(|| json!("off"), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resolve::{HostFacts, read, resolve};

    #[test]
    fn what_is_shown_is_every_key_and_means_the_same_when_read() {
        let facts = HostFacts { relay_ips: vec!["192.0.2.1".parse().unwrap()], cores: 3 };
        let (resolved, mut keys) = read("hosts: [a.example, '2001:db8::1']\nweb: {http_port: off}\n", &facts);
        let config = resolved.unwrap().config;
        let shown = effective(&config);
        let mut shown_keys: Vec<String> = shown.iter().map(|(path, _)| (*path).to_owned()).collect();
        let mut text = String::new();
        let mut section = "";
        for (path, value) in &shown {
            let (head, key) = path.split_once('.').unwrap_or(("", path));
            if head != section && !head.is_empty() {
                text.push_str(&format!("{head}:\n"));
            }
            section = head;
            text.push_str(&format!("{}{key}: {value}\n", if head.is_empty() { "" } else { "  " }));
        }
        keys.sort();
        shown_keys.sort();
        assert_eq!(shown_keys, keys);
        assert_eq!(resolve(&text, &facts).unwrap().config, config, "{text}");
    }
}
