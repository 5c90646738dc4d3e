//! The commented `config.yaml` that `init` writes.

/// The template, with `{{key.path}}` where a value belongs.
const TEMPLATE: &str = include_str!("../../templates/config.yaml");

/// Fills the template in; `value_of` gives the YAML of each key path it is asked for, empty for the default.
///
/// # Panics
/// If the template has an unclosed placeholder, which its test rules out.
#[must_use]
pub fn render_config(value_of: impl Fn(&str) -> String) -> String {
    let mut text = String::with_capacity(TEMPLATE.len() + 256);
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (path, tail) = after.split_once("}}").expect("every placeholder of the template is closed");
        let value = value_of(path);
        // No blank at the end of a line.
        text.push_str(if value.is_empty() { before.trim_end_matches(' ') } else { before });
        text.push_str(&value);
        rest = tail;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::resolve::{HostFacts, read, resolve};

    fn facts() -> HostFacts {
        HostFacts { relay_ips: vec!["192.0.2.1".parse().unwrap()], cores: 3 }
    }

    /// Every key of the template with the default that its comment states; `None` for `Required.`.
    fn documented() -> BTreeMap<String, Option<String>> {
        let mut keys = BTreeMap::new();
        let mut section = String::new();
        let mut comment = String::new();
        for line in TEMPLATE.lines() {
            let trimmed = line.trim_start();
            if trimmed.is_empty() {
                comment.clear();
            } else if let Some(words) = trimmed.strip_prefix("# ") {
                comment.push_str(words);
                comment.push(' ');
            } else if let Some(name) = line.strip_suffix(':') {
                section = format!("{name}.");
                comment.clear();
            } else {
                let (key, _) =
                    trimmed.trim_start_matches('#').split_once(':').expect("a line of the template is a key");
                let path = if line.starts_with(' ') { format!("{section}{key}") } else { key.to_owned() };
                let default = comment.split_once("Default: ").map(|(_, default)| default.trim().to_owned());
                assert!(default.is_some() || comment.contains("Required."), "{path} says neither default nor required");
                assert!(keys.insert(path, default).is_none());
                comment.clear();
            }
        }
        keys
    }

    #[test]
    fn the_template_has_exactly_the_keys_that_are_read() {
        let (_, keys) = read("hosts: [a.example]\n", &facts());
        let documented: Vec<String> = documented().into_keys().collect();
        let mut read: Vec<String> = keys;
        read.sort();
        assert_eq!(documented, read);
    }

    #[test]
    fn the_defaults_in_the_comments_are_the_true_ones() {
        let bare = resolve("hosts: [a.example]\n", &facts()).unwrap().config;
        let defaults = documented();
        for (path, default) in &defaults {
            let Some(default) = default else { continue };
            let value = if default == "empty" { "" } else { default };
            let (section, key) = path.split_once('.').map_or(("", path.as_str()), |(section, key)| (section, key));
            let line = if section.is_empty() {
                format!("{key}: {value}\n")
            } else {
                format!("{section}: {{{key}: {value}}}\n")
            };
            let resolved = resolve(&format!("hosts: [a.example]\n{line}"), &facts()).unwrap();
            assert_eq!(resolved.config, bare, "{path}: {default}");
        }
        let other = resolve("hosts: [a.example]\nreach: ip\n", &facts()).unwrap().config;
        assert_eq!(other.turn.peers, crate::config::PeerMode::Public);
    }

    #[test]
    fn a_template_filled_with_nothing_but_hosts_is_the_bare_configuration() {
        let text = render_config(|path| if path == "hosts" { "[a.example]".to_owned() } else { String::new() });
        assert!(text.lines().all(|line| line == line.trim_end()));
        let filled = resolve(&text, &facts()).unwrap().config;
        assert_eq!(filled, resolve("hosts: [a.example]\n", &facts()).unwrap().config);
    }
}
