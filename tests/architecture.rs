//! Keeps the map in the crate's front page true: which folder may use which, and what a pure file may not know.
//!
//! Source is read as text. Test modules at the end of a file are left out: they may use anything.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each folder (or top-level file) may use besides itself. `error` and `home` are open to all but `sys`, `words` to all:
/// whoever has something to say to people marks it as a text.
const ARROWS: &[(&str, &[&str])] = &[
    ("lib", &["cli"]),
    ("access", &["config", "sys"]),
    ("archive", &["certs", "config", "error", "home", "setup", "sys"]),
    (
        "cli",
        &[
            "archive",
            "certs",
            "config",
            "control",
            "daemon",
            "doctor",
            "error",
            "guardian",
            "home",
            "phone",
            "probe",
            "setup",
            "supervisor",
            "sys",
            "turn",
            "upgrade",
            "web",
            "words",
        ],
    ),
    (
        "daemon",
        &[
            "access",
            "certs",
            "config",
            "control",
            "edge",
            "error",
            "findings",
            "guardian",
            "home",
            "hooks",
            "phone",
            "probe",
            "signaling",
            "supervisor",
            "sys",
            "turn",
            "web",
        ],
    ),
    (
        "doctor",
        &["certs", "config", "control", "error", "home", "probe", "setup", "supervisor", "sys", "turn", "words"],
    ),
    ("setup", &["certs", "config", "error", "home", "probe", "sys", "words"]),
    ("config", &["error", "home", "sys"]),
    ("certs", &["config", "error", "home", "supervisor", "sys"]),
    ("guardian", &["control", "error", "home", "supervisor", "sys"]),
    ("supervisor", &["error", "sys"]),
    ("control", &["error", "home", "phone", "supervisor", "sys"]),
    ("findings", &["control", "supervisor", "sys"]),
    ("hooks", &["config", "error", "sys"]),
    ("phone", &["error", "sys"]),
    ("probe", &["error", "sys"]),
    ("edge", &["certs", "config", "error", "supervisor", "sys"]),
    ("web", &["access", "config", "error", "home", "phone", "supervisor", "sys", "turn"]),
    ("signaling", &["access", "config", "error", "supervisor", "sys", "turn"]),
    ("turn", &["config", "error", "supervisor", "sys"]),
    ("upgrade", &["certs", "error", "home", "sys"]),
    ("words", &[]),
    ("home", &["sys"]),
    ("error", &[]),
    ("sys", &["error"]),
];

/// Files and folders that decide: plain data in, plain data out.
const PURE: &[&str] = &[
    "access/limiter.rs",
    "access/session.rs",
    "access/shown.rs",
    "archive/redact.rs",
    "archive/tarball.rs",
    "certs/dns/message.rs",
    "certs/leaf.rs",
    "certs/moment.rs",
    "certs/pair.rs",
    "certs/preflight/here.rs",
    "certs/preflight/judge.rs",
    "certs/renewal",
    "certs/trouble.rs",
    "config/authority.rs",
    "config/certificate.rs",
    "cli/top/screen.rs",
    "config/clashes.rs",
    "config/edit.rs",
    "config/forms.rs",
    "config/lines.rs",
    "config/migrate.rs",
    "config/notify.rs",
    "config/raw.rs",
    "config/resolve.rs",
    "control/protocol.rs",
    "daemon/changes.rs",
    "doctor/check.rs",
    "doctor/evidence.rs",
    "doctor/judge",
    "doctor/outcome.rs",
    "doctor/rules.rs",
    "edge/demux.rs",
    "edge/redirect.rs",
    "findings",
    "guardian/core.rs",
    "guardian/notice.rs",
    "guardian/protocol.rs",
    "guardian/store.rs",
    "home.rs",
    "hooks/queue.rs",
    "phone/desk.rs",
    "phone/report.rs",
    "phone/verdict.rs",
    "probe/fault.rs",
    "probe/histogram.rs",
    "probe/schedule.rs",
    "probe/turn/hints.rs",
    "probe/turn/message.rs",
    "probe/turn/report.rs",
    "probe/turn/url.rs",
    "setup/answers.rs",
    "setup/blockers.rs",
    "setup/bootstrap",
    "setup/by_product.rs",
    "setup/certificate.rs",
    "setup/cloud/answers.rs",
    "setup/cloud/provider.rs",
    "setup/describe.rs",
    "setup/difference.rs",
    "setup/firewall/change.rs",
    "setup/firewall/firewalld.rs",
    "setup/firewall/iptables.rs",
    "setup/firewall/model.rs",
    "setup/firewall/needs.rs",
    "setup/firewall/nft_json.rs",
    "setup/firewall/nftables.rs",
    "setup/firewall/part.rs",
    "setup/firewall/tools.rs",
    "setup/firewall/ufw.rs",
    "setup/firewall/walk.rs",
    "setup/journal/record.rs",
    "setup/one_liner.rs",
    "setup/outside.rs",
    "setup/plan.rs",
    "setup/ports",
    "setup/settings.rs",
    "setup/suggest.rs",
    "setup/wanted.rs",
    "signaling/engine/heartbeats.rs",
    "signaling/engine/payload.rs",
    "signaling/engine/request.rs",
    "signaling/message.rs",
    "signaling/rooms.rs",
    "supervisor/fleet.rs",
    "supervisor/policy",
    "supervisor/silence.rs",
    "sys/log/collapse.rs",
    "sys/log/record.rs",
    "turn/credentials.rs",
    "turn/framer.rs",
    "turn/insiders.rs",
    "turn/peers.rs",
    "turn/plane/connections.rs",
    "turn/plane/flows.rs",
    "turn/plane/gather.rs",
    "turn/plane/hold.rs",
    "turn/plane/offload.rs",
    "turn/plane/patience.rs",
    "turn/server",
    "upgrade/watch.rs",
    "words",
];

/// Words that betray a clock, a socket, a file, a thread or a runtime.
const BANNED: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "clock::now",
    "std::env",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::os",
    "std::process",
    "std::thread",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "tokio::",
    "hyper::",
    "axum::",
    "nix::",
    "libc::",
    "thread_rng",
    "rand::rng(",
    "async fn",
    ".await",
];

#[test]
fn folders_use_only_what_lies_below_them() {
    let complaints: Vec<String> = sources().iter().flat_map(|(path, text)| arrow_complaints(path, text)).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn pure_files_know_no_clock_no_socket_and_no_file() {
    let sources = sources();
    for pure in PURE {
        assert!(sources.keys().any(|path| path.starts_with(pure)), "`{pure}` is listed as pure but does not exist");
    }
    let complaints: Vec<String> = sources.iter().flat_map(|(path, text)| purity_complaints(path, text)).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn no_source_file_grows_past_six_hundred_lines() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 600, "src/{} has {lines} lines: split it by subject", path.display());
    }
}

#[test]
fn a_planted_violation_is_caught() {
    let upward = arrow_complaints(Path::new("sys/fs.rs"), "use crate::config::Config;\n");
    assert_eq!(upward, ["src/sys/fs.rs:1: `sys` may not use `config`"]);
    let grouped = arrow_complaints(Path::new("turn/ice.rs"), "use crate::{\n    error::Failure,\n    web::Page,\n};\n");
    assert_eq!(grouped, ["src/turn/ice.rs:1: `turn` may not use `web`"]);
    let inline = arrow_complaints(Path::new("web/mod.rs"), "fn f() { crate::daemon::start() }\n");
    assert_eq!(inline, ["src/web/mod.rs:1: `web` may not use `daemon`"]);
    let impure = purity_complaints(Path::new("signaling/rooms.rs"), "fn f() { let t = Instant::now(); }\n");
    assert_eq!(impure, ["src/signaling/rooms.rs:1: a pure file may not say `Instant::now`"]);
    let in_tests = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::daemon::start;\n    use std::fs;\n}\n";
    assert_eq!(arrow_complaints(Path::new("web/mod.rs"), in_tests), Vec::<String>::new());
    assert_eq!(purity_complaints(Path::new("signaling/rooms.rs"), in_tests), Vec::<String>::new());
    let in_a_comment = "//! Never calls `Instant::now`; see [`crate::daemon`].\n";
    assert_eq!(purity_complaints(Path::new("signaling/rooms.rs"), in_a_comment), Vec::<String>::new());
    assert_eq!(arrow_complaints(Path::new("web/mod.rs"), in_a_comment), Vec::<String>::new());
}

/// All files under `src`, by their path below it.
fn sources() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(&root).unwrap().to_path_buf(), text);
            }
        }
    }
    found
}

/// The lines that are compiled outside tests, numbered from one, without comments.
fn code_lines(path: &Path, text: &str) -> Vec<(usize, String)> {
    let is_test_file = path.file_name().is_some_and(|name| name == "tests.rs" || name == "sim.rs");
    let in_test_folder = path.components().any(|part| part.as_os_str() == "tests");
    if is_test_file || in_test_folder {
        return Vec::new();
    }
    let lines: Vec<&str> = text.lines().collect();
    // `#[cfg(test)] mod sim;` only names a file; a module with a body is the end of the code.
    let starts_tests = |at: &usize| {
        lines[*at].trim_start().starts_with("#[cfg(test)]") && lines.get(at + 1).is_some_and(|next| next.ends_with('{'))
    };
    let end = (0..lines.len()).find(starts_tests).unwrap_or(lines.len());
    lines[..end]
        .iter()
        .enumerate()
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default().to_owned()))
        .collect()
}

fn arrow_complaints(path: &Path, text: &str) -> Vec<String> {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    let from = first.trim_end_matches(".rs");
    if from == "main" {
        return Vec::new();
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(folder, _)| *folder == from) else {
        return vec![format!("src/{}: `{from}` is missing from ARROWS", path.display())];
    };
    let always: &[&str] = if from == "sys" || from == "error" { &["words"] } else { &["error", "home", "words"] };
    let mut complaints = Vec::new();
    for (line, target) in uses_of_crate(&code_lines(path, text)) {
        // Macros stand at the top of the crate, whoever they belong to.
        let target = if matches!(target.as_str(), "text" | "word") { "words".to_owned() } else { target };
        let fine = target == from || allowed.contains(&target.as_str()) || always.contains(&target.as_str());
        if !fine {
            complaints.push(format!("src/{}:{line}: `{from}` may not use `{target}`", path.display()));
        }
    }
    complaints
}

/// The first segment after each `crate::`, groups in braces included, with the line where the path starts.
fn uses_of_crate(lines: &[(usize, String)]) -> Vec<(usize, String)> {
    let mut text = String::new();
    let mut starts = Vec::new();
    for (number, line) in lines {
        starts.push((text.len(), *number));
        text.push_str(line);
        text.push('\n');
    }
    let line_at = |offset: usize| starts.iter().take_while(|(start, _)| *start <= offset).last().unwrap().1;
    let mut found = Vec::new();
    for (offset, matched) in text.match_indices("crate::") {
        let rest = &text[offset + matched.len()..];
        let heads: Vec<String> = rest.strip_prefix('{').map_or_else(|| vec![word(rest)], group_heads);
        found.extend(heads.into_iter().filter(|head| !head.is_empty()).map(|head| (line_at(offset), head)));
    }
    found
}

/// The first word of each member of a group `{a::b, c::{d, e}}` whose opening brace is already consumed.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, symbol) in group.char_indices() {
        match symbol {
            '{' => depth += 1,
            ',' if depth == 0 => {
                heads.push(word(group[start..at].trim_start()));
                start = at + 1;
            }
            '}' if depth == 0 => {
                heads.push(word(group[start..at].trim_start()));
                return heads;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> String {
    text.chars().take_while(|symbol| symbol.is_alphanumeric() || *symbol == '_').collect()
}

fn purity_complaints(path: &Path, text: &str) -> Vec<String> {
    if !PURE.iter().any(|pure| path.starts_with(pure)) {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (number, line) in code_lines(path, text) {
        for banned in BANNED.iter().filter(|banned| line.contains(**banned)) {
            complaints.push(format!("src/{}:{number}: a pure file may not say `{banned}`", path.display()));
        }
    }
    complaints
}
