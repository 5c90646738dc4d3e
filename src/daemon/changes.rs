//! Decides what is different between two configurations, and how each difference comes into force.

use serde_json::Value;

use crate::config::{Config, Secrets, effective};
use crate::signaling;
use crate::supervisor::service::TaskName;
use crate::text;
use crate::words::Text;

/// A key with another value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) key: &'static str,
    /// `Null` for secrets.
    pub(super) from: Value,
    pub(super) to: Value,
    pub(super) how: How,
}

/// How a change comes into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// While everything goes on.
    Live,
    /// TCP listeners: the new ones are bound, then the old ones closed; connections live on.
    Listeners,
    /// Listeners for UDP and TCP: the new ones are bound; the old ones of UDP are served as long as somebody uses them.
    TurnListeners,
    /// By another instance of the task.
    Restart(TaskName),
}

/// Everything that is different, in the order of the file, then of the secrets.
pub(super) fn changes(old: (&Config, &Secrets), new: (&Config, &Secrets)) -> Vec<Change> {
    let before = effective(old.0);
    let after = effective(new.0);
    let pairs = before.into_iter().zip(after).filter(|((_, from), (_, to))| from != to);
    let mut changes: Vec<Change> =
        pairs.map(|((key, from), (_, to))| Change { key, from, to, how: how(key, old.0, new.0) }).collect();
    let secrets = [
        ("turn_secrets", old.1.turn != new.1.turn || old.1.turn_old_until != new.1.turn_old_until),
        ("turn_users", old.1.turn_users != new.1.turn_users),
        ("acme_eab", old.1.acme_bindings != new.1.acme_bindings),
        ("metrics_token", old.1.metrics_token != new.1.metrics_token),
        ("access_key", old.1.access_key != new.1.access_key),
    ];
    let secret = |key| Change { key, from: Value::Null, to: Value::Null, how: How::Live };
    changes.extend(secrets.iter().filter(|(_, is_changed)| *is_changed).map(|(key, _)| secret(key)));
    changes
}

fn how(key: &str, old: &Config, new: &Config) -> How {
    match key {
        "web.bind" | "web.port" | "web.http_port" | "turn.tls_port" => How::Listeners,
        "turn.bind" | "turn.port" => How::TurnListeners,
        // What is bound for a running instance, how many threads it has, and whether one of them is for streams.
        "turn.relay_ports" | "turn.relay_ips" | "turn.workers" | "turn.tcp" => How::Restart(TaskName::Turn),
        "signaling.max_message" if signaling::needs_restart(&old.signaling, &new.signaling) => {
            How::Restart(TaskName::Signaling)
        }
        _ => How::Live,
    }
}

impl Change {
    /// The task that it concerns most; `None`: the daemon itself.
    pub(super) fn task(&self) -> Option<TaskName> {
        match self.key.split_once('.').map_or(self.key, |(section, _)| section) {
            "hosts" | "certificate" | "acme_eab" => Some(TaskName::Certs),
            "access" | "access_key" | "web" | "metrics_token" => Some(TaskName::Web),
            "signaling" => Some(TaskName::Signaling),
            "turn" | "turn_secrets" | "turn_users" => Some(TaskName::Turn),
            _ => None,
        }
    }

    /// What somebody notices of it.
    pub(super) fn note(&self) -> Option<Text> {
        let note = match (self.key, self.how) {
            (_, How::Restart(TaskName::Turn)) => text!("relayed calls made an ICE restart"),
            (_, How::Restart(TaskName::Signaling)) => text!("pages came back to their rooms"),
            (_, How::Restart(TaskName::Certs | TaskName::Web)) => text!("the task was restarted"),
            ("turn.port" | "turn.bind", _) => {
                text!("allocations by UDP stay where they are until they end, for an hour at most; connections stay")
            }
            (_, How::Listeners) => text!("connections stay"),
            ("signaling.max_rate" | "signaling.max_sockets" | "signaling.max_sockets_per_address", _) => {
                text!("for sockets that connect from now on")
            }
            ("turn_secrets", _) => text!("allocations stay; credentials of a secret that is gone are worthless"),
            ("access_key", _) => text!("who is in a room stays; who comes needs the new invite link"),
            ("access", _) => text!("who is in a room stays"),
            ("hosts", _) => text!("a new certificate in new handshakes; connections stay"),
            (_, How::Live | How::TurnListeners) => return None,
        };
        Some(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HostFacts, Secret, resolve};

    fn config(rest: &str) -> Config {
        let facts = HostFacts { relay_ips: vec!["192.0.2.1".parse().unwrap()], cores: 2 };
        resolve(&format!("hosts: [a.example]\n{rest}"), &facts).unwrap().config
    }

    fn secrets(byte: u8) -> Secrets {
        Secrets::of_turn(vec![Secret::new(vec![byte; 32])])
    }

    fn hows(old: &str, new: &str) -> Vec<(&'static str, How)> {
        let secrets = secrets(1);
        let changes = changes((&config(old), &secrets), (&config(new), &secrets));
        changes.into_iter().map(|change| (change.key, change.how)).collect()
    }

    #[test]
    fn the_same_configuration_in_other_words_is_no_change() {
        assert_eq!(hows("", "turn: {port: 3478, workers: 2}\nreach: lan\n"), []);
    }

    #[test]
    fn what_running_tasks_can_take_up_is_applied_while_they_run() {
        let text = "reach: ip\naccess: open\nweb: {root: /srv}\nsignaling: {max_rooms: 7, max_sockets: 8, max_rate: 9}\n\
                    turn: {peers: self, public_ips: [203.0.113.1], user_quota: 3, drain: 1, icmp: off}\n\
                    log: {level: warn, keep: 1}\n";
        let hows = hows("", text);
        assert_eq!(hows.len(), 12, "{hows:?}");
        assert!(hows.iter().all(|(_, how)| *how == How::Live), "{hows:?}");
    }

    #[test]
    fn what_is_bound_by_an_instance_takes_another_one_of_that_task_alone() {
        use How::{Listeners, Live, Restart, TurnListeners};
        let turn = Restart(TaskName::Turn);
        let new = "turn: {relay_ports: 50000-50100, port: 3479, tls_port: 5349, total_quota: 5}\nweb: {port: 8443}\n";
        assert_eq!(
            hows("", new),
            [
                ("web.port", Listeners),
                ("turn.port", TurnListeners),
                ("turn.relay_ports", turn),
                ("turn.total_quota", Live),
                ("turn.tls_port", Listeners),
            ]
        );
        assert_eq!(
            hows("", "signaling: {max_message: 5000, max_rate: 60}\n"),
            [("signaling.max_message", Restart(TaskName::Signaling)), ("signaling.max_rate", Live)]
        );
    }

    #[test]
    fn a_secret_changes_without_being_shown() {
        let config = config("");
        let changes = changes((&config, &secrets(1)), (&config, &secrets(2)));
        assert_eq!(changes, [Change { key: "turn_secrets", from: Value::Null, to: Value::Null, how: How::Live }]);
        assert_eq!(changes[0].task(), Some(TaskName::Turn));
    }
}
