//! Decides what a fresh machine is told so that it becomes a node by itself: user-data without secrets.

use std::fmt::Write as _;

use super::ports::PortUse;
use crate::sys::exec::shell::word;
use crate::text;
use crate::words::Text;

/// The script, with places for what differs.
const SCRIPT: &str = include_str!("../../../templates/bootstrap/node.sh");
/// Bytes of user-data that every provider takes; AWS takes no more.
pub const MAX_USER_DATA: usize = 16 * 1024;
/// Where cloud-init puts the script.
const PATH: &str = "/var/lib/rtcctl-bootstrap.sh";

/// In which form it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    CloudInit,
    Shell,
    Terraform,
}

impl Emit {
    pub const ALL: [Self; 3] = [Self::CloudInit, Self::Shell, Self::Terraform];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CloudInit => "cloud-init",
            Self::Shell => "shell",
            Self::Terraform => "terraform",
        }
    }
}

/// What a node is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where the program can be fetched, in the order in which they are tried.
    pub urls: Vec<String>,
    /// The SHA-256 of the program, in hexadecimal.
    pub sha256: String,
    /// What `init` is told besides `--yes`.
    pub init: Vec<String>,
    /// What callers must reach.
    pub ports: Vec<PortUse>,
}

/// Why there is no user-data of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit(pub Text);

/// Renders the node.
///
/// # Errors
/// If an address or an argument cannot stand in a script, or if it grows too long.
pub fn render(emit: Emit, node: &Node) -> Result<String, Unfit> {
    let script = script(node)?;
    let user_data = match emit {
        Emit::Shell => script,
        Emit::CloudInit | Emit::Terraform => cloud_config(&script),
    };
    let length = user_data.len();
    if length >= MAX_USER_DATA {
        return Err(Unfit(text!("it has {} bytes; providers take less than {}", length, MAX_USER_DATA)));
    }
    Ok(match emit {
        Emit::Shell | Emit::CloudInit => user_data,
        Emit::Terraform => terraform(&user_data, &node.ports),
    })
}

fn script(node: &Node) -> Result<String, Unfit> {
    if node.urls.is_empty() {
        return Err(Unfit(text!("no address is given from which the program can be fetched")));
    }
    for url in &node.urls {
        let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic() && !b"'\"\\`$<>*?[]".contains(&byte));
        let is_safe = url.starts_with("https://") || url.starts_with("file:///");
        // A question mark would be a pattern for the shell, and what is behind it is often a token.
        if !is_plain || !is_safe {
            return Err(Unfit(text!("`{}` is no plain `https://` address", url.escape_debug())));
        }
    }
    let words: Vec<String> = node.init.iter().map(|text| word(text)).collect();
    Ok(SCRIPT
        .replace("@SHA256@", &node.sha256)
        .replace("@URLS@", &node.urls.join(" "))
        .replace("@INIT@", &words.join(" ")))
}

fn cloud_config(script: &str) -> String {
    let mut text = String::from("#cloud-config\nwrite_files:\n");
    let _ = writeln!(text, "  - path: {PATH}\n    permissions: \"0700\"\n    owner: root:root\n    content: |");
    for line in script.lines() {
        if line.is_empty() {
            text.push('\n');
        } else {
            let _ = writeln!(text, "      {line}");
        }
    }
    let _ = writeln!(text, "runcmd:\n  - [sh, {PATH}]");
    text
}

/// Values for the examples beside `templates/terraform`: what a machine is told, and what is let through to it.
fn terraform(user_data: &str, ports: &[PortUse]) -> String {
    let mut text = String::from("locals {\n  rtcctl_ports = {\n");
    for port in ports {
        let (first, last) = (port.ports.start(), port.ports.end());
        let _ = writeln!(
            text,
            "    \"{}-{first}\" = {{ protocol = \"{0}\", first = {first}, last = {last}, why = \"{}\" }}",
            port.transport, port.why
        );
    }
    text.push_str("  }\n\n  rtcctl_user_data = <<RTCCTL_USER_DATA\n");
    // What HCL would fill in.
    text.push_str(&user_data.replace("${", "$${").replace("%{", "%%{"));
    text.push_str("RTCCTL_USER_DATA\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ports::Transport;

    fn node() -> Node {
        Node {
            urls: vec!["https://dl.example/rtcctl".to_owned(), "https://mirror.example/rtcctl".to_owned()],
            sha256: "ab".repeat(32),
            init: ["--reach", "domain", "--host", "call.example.org", "--acme-name", "*.it's.example"]
                .map(str::to_owned)
                .to_vec(),
            ports: vec![PortUse { transport: Transport::Udp, ports: 3478..=3478, why: "STUN and TURN" }],
        }
    }

    #[test]
    fn everything_is_filled_in_and_quoted() {
        let text = render(Emit::Shell, &node()).unwrap();
        assert!(text.starts_with("#!/bin/sh\n") && !text.contains("@SHA256@") && !text.contains("@INIT@"));
        assert!(text.contains("set -- --reach domain --host call.example.org --acme-name '*.it'\\''s.example'\n"));
        assert!(text.contains("urls='https://dl.example/rtcctl https://mirror.example/rtcctl'\n"));
        assert!(text.len() < MAX_USER_DATA / 2);
    }

    #[test]
    fn cloud_init_reads_the_same_script_back() {
        let shell = render(Emit::Shell, &node()).unwrap();
        let document: serde_yaml::Value = serde_yaml::from_str(&render(Emit::CloudInit, &node()).unwrap()).unwrap();
        assert_eq!(document["write_files"][0]["content"].as_str().unwrap(), shell);
        assert_eq!(document["runcmd"][0][1].as_str().unwrap(), document["write_files"][0]["path"].as_str().unwrap());
    }

    #[test]
    fn terraform_fills_nothing_in() {
        let text = render(Emit::Terraform, &node()).unwrap();
        assert!(
            text.contains("\"udp-3478\" = { protocol = \"udp\", first = 3478, last = 3478, why = \"STUN and TURN\" }")
        );
        let bare = text.replace("$${", "").replace("%%{", "");
        assert!(!bare.contains("${") && !bare.contains("%{"), "{bare}");
    }

    #[test]
    fn what_cannot_stand_in_a_script_or_grows_too_long_is_refused() {
        for url in [
            "http://x/a",
            "https://x/a b",
            "https://x/';rm -rf /;'",
            "https://x/$(id)",
            "https://x/?token=1",
            "ftp://x",
        ] {
            assert!(render(Emit::Shell, &Node { urls: vec![url.to_owned()], ..node() }).is_err(), "{url}");
        }
        assert!(render(Emit::Shell, &Node { urls: Vec::new(), ..node() }).is_err());
        let long = Node { init: vec!["x".repeat(16_000)], ..node() };
        assert!(render(Emit::CloudInit, &long).unwrap_err().0.contains("bytes; providers take less"));
    }
}
