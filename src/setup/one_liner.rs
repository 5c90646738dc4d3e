//! What repeats a set-up: a command for a script, a file of answers.

use std::net::IpAddr;
use std::path::PathBuf;

use super::answers::{Answers, Key};
use super::opening::FirewallChoice;
use super::plan::Facts;
use super::suggest::{Surroundings, defaults};
use super::wanted::{
    access_word, challenge_word, host_text, peers_word, reach_word, source_word, yaml_list, yaml_text,
};
use crate::sys::exec::shell::word;

/// The answers that have to be given to come to what is wanted: the two that are asked for first, and what is not usual.
fn telling(answers: &Answers, surroundings: &Surroundings) -> Vec<(Key, Vec<String>)> {
    let wanted = &answers.wanted;
    let usual = defaults(wanted.reach, &wanted.hosts, surroundings).map(|usual| usual.values());
    let own = wanted.values();
    let is_usual = |key: Key| {
        let of =
            |values: &[(Key, String)]| values.iter().find(|(other, _)| *other == key).map(|(_, value)| value.clone());
        usual.as_ref().is_some_and(|usual| of(usual) == of(&own))
    };
    let texts = |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect();
    let path = |path: &Option<PathBuf>| path.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let certificate = &wanted.certificate;
    let all: [(Key, Vec<String>); 18] = [
        (Key::PublicIp, texts(&wanted.public_ips)),
        (Key::Cert, vec![source_word(certificate.source).to_owned()]),
        (Key::AcmeDirectory, vec![certificate.directory.text.clone()]),
        (Key::AcmeCaRoot, path(&certificate.ca_root)),
        (Key::AcmeChallenge, vec![challenge_word(certificate.challenge).to_owned()]),
        (Key::AcmeDnsCommand, certificate.dns_command.clone()),
        (Key::AcmeName, certificate.names.iter().map(host_text).collect()),
        (Key::CertFile, path(&certificate.cert_file)),
        (Key::KeyFile, path(&certificate.key_file)),
        (Key::Access, vec![access_word(wanted.access).to_owned()]),
        (Key::WebPort, vec![wanted.web_port.to_string()]),
        (Key::HttpPort, vec![wanted.http_port.map_or_else(|| "off".to_owned(), |port| port.to_string())]),
        (Key::WebRoot, path(&wanted.web_root)),
        (Key::TurnPort, vec![wanted.turn_port.to_string()]),
        (Key::RelayPorts, vec![format!("{}-{}", wanted.relay_ports.start(), wanted.relay_ports.end())]),
        (Key::RelayIp, texts(&wanted.relay_ips)),
        (Key::Peers, vec![peers_word(wanted.peers).to_owned()]),
        (Key::AllowPeer, wanted.allow_peers.iter().map(ToString::to_string).collect()),
    ];
    let first = [
        (Key::Reach, vec![reach_word(wanted.reach).to_owned()]),
        (Key::Host, wanted.hosts.iter().map(host_text).collect()),
    ];
    let rest =
        all.into_iter().filter(|(key, values)| certificate.asks_for(*key) && !is_usual(*key) && !values.is_empty());
    let firewall = (answers.firewall != FirewallChoice::default())
        .then(|| (Key::Firewall, vec![answers.firewall.as_str().to_owned()]));
    let boot = (answers.boot != surroundings.boot).then(|| (Key::Boot, vec![answers.boot.as_str().to_owned()]));
    let trust = answers.trust.then(|| (Key::Trust, vec!["yes".to_owned()]));
    first.into_iter().chain(rest).chain(trust).chain(firewall).chain(boot).collect()
}

/// The command that gives the same answers without a question.
pub(super) fn one_liner(answers: &Answers, facts: &Facts) -> String {
    let mut line = format!("rtcctl{} init --yes", facts.home.flag());
    for (key, values) in telling(answers, &facts.surroundings) {
        for value in values {
            line.push_str(&format!(" {} {}", key.flag(), word(&value)));
        }
    }
    line
}

/// The same answers as a file for `--answers`. It holds no secret.
pub(super) fn answers_file(answers: &Answers, surroundings: &Surroundings) -> String {
    let mut text = String::from("# Answers for `rtcctl init --yes --answers FILE`.\n");
    for (key, values) in telling(answers, surroundings) {
        let value = match values.as_slice() {
            [only] if !matches!(key, Key::Host) => yaml_text(only),
            _ => yaml_list(values.into_iter()),
        };
        text.push_str(&format!("{}: {value}\n", key.answer()));
    }
    text
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

    #[test]
    fn the_answers_file_says_the_same_as_the_one_liner() {
        let pairs = [(Key::Host, "a.example,2001:db8::7"), (Key::WebRoot, "/srv/my site"), (Key::HttpPort, "off")];
        let answers = answers(&pairs, None);
        assert_eq!(
            answers_file(&answers, &fresh().surroundings),
            "# Answers for `rtcctl init --yes --answers FILE`.\nreach: \"lan\"\nhost: [\"a.example\", \"2001:db8::7\"]\n\
             http_port: \"off\"\nweb_root: \"/srv/my site\"\n"
        );
    }
}
