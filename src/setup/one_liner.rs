//! The command that repeats a set-up: what an operator puts into a script.

use std::net::IpAddr;
use std::path::PathBuf;

use super::answers::Key;
use super::plan::Facts;
use super::suggest::defaults;
use super::wanted::{Wanted, access_word, challenge_word, host_text, peers_word, reach_word, source_word};

/// The command that gives the same answers without a question.
pub(super) fn one_liner(wanted: &Wanted, facts: &Facts) -> String {
    let mut line = format!("rtcctl{} init --yes --reach {}", facts.home.flag(), reach_word(wanted.reach));
    for host in &wanted.hosts {
        line.push_str(&format!(" --host {}", host_text(host)));
    }
    let usual = defaults(wanted.reach, &wanted.hosts, &facts.surroundings).map(|usual| usual.values());
    let own = wanted.values();
    let is_usual = |key: Key| {
        let of =
            |values: &[(Key, String)]| values.iter().find(|(other, _)| *other == key).map(|(_, value)| value.clone());
        usual.as_ref().is_some_and(|usual| of(usual) == of(&own))
    };
    let mut add = |key: Key, values: Vec<String>| {
        if !is_usual(key) {
            for value in values {
                line.push_str(&format!(" {} {}", key.flag(), shell_word(&value)));
            }
        }
    };
    let texts = |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect();
    add(Key::PublicIp, texts(&wanted.public_ips));
    let certificate = &wanted.certificate;
    let path = |path: &Option<PathBuf>| path.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    add(Key::Cert, vec![source_word(certificate.source).to_owned()]);
    for (key, values) in [
        (Key::AcmeDirectory, vec![certificate.directory.text.clone()]),
        (Key::AcmeCaRoot, path(&certificate.ca_root)),
        (Key::AcmeChallenge, vec![challenge_word(certificate.challenge).to_owned()]),
        (Key::AcmeDnsCommand, certificate.dns_command.clone()),
        (Key::AcmeName, certificate.names.iter().map(host_text).collect()),
        (Key::CertFile, path(&certificate.cert_file)),
        (Key::KeyFile, path(&certificate.key_file)),
    ] {
        if certificate.asks_for(key) {
            add(key, values);
        }
    }
    add(Key::Access, vec![access_word(wanted.access).to_owned()]);
    add(Key::WebPort, vec![wanted.web_port.to_string()]);
    add(Key::HttpPort, vec![wanted.http_port.map_or_else(|| "off".to_owned(), |port| port.to_string())]);
    add(Key::WebRoot, wanted.web_root.iter().map(|root| root.to_string_lossy().into_owned()).collect());
    add(Key::TurnPort, vec![wanted.turn_port.to_string()]);
    add(Key::RelayPorts, vec![format!("{}-{}", wanted.relay_ports.start(), wanted.relay_ports.end())]);
    add(Key::RelayIp, texts(&wanted.relay_ips));
    add(Key::Peers, vec![peers_word(wanted.peers).to_owned()]);
    add(Key::AllowPeer, wanted.allow_peers.iter().map(ToString::to_string).collect());
    line
}

fn shell_word(word: &str) -> String {
    let is_safe = |symbol: char| symbol.is_ascii_alphanumeric() || matches!(symbol, '.' | '-' | '/' | '_' | ':' | ',');
    if word.chars().all(is_safe) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::plan::plan;
    use crate::setup::plan::tests::{answers, fresh};

    #[test]
    fn the_one_liner_repeats_what_is_not_usual_and_gives_the_same_answers() {
        let pairs = [(Key::Host, "a.example"), (Key::RelayPorts, "50000-50099"), (Key::WebRoot, "/srv/my site")];
        let plan = plan(&answers(&pairs, None), &fresh()).unwrap();
        assert_eq!(
            plan.one_liner,
            "rtcctl --home /srv/box init --yes --reach lan --host a.example --web-root '/srv/my site' --relay-ports 50000-50099"
        );
    }
}
