//! Every command that the documents show is one: its words are taken, and what harms nobody is run on a live service.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;

use std::collections::BTreeSet;
use std::path::Path;

use assert_cmd::cargo::cargo_bin_cmd;
use service::Service;

/// What is shown to people.
const DOCUMENTS: [&str; 7] = [
    "README.md",
    "templates/help/en.md",
    "templates/help/zh.md",
    "templates/explain/en.md",
    "templates/explain/zh.md",
    "templates/terraform/README.md",
    "templates/prometheus/alerts.yaml",
];
/// What stands for something that the reader knows.
const PLACEHOLDERS: [(&str, &str); 19] = [
    ("DIGEST", "0000000000000000000000000000000000000000000000000000000000000000"),
    ("FILE", "file"),
    ("URL", "https://dl.example.org/rtcctl"),
    ("ADDRESS", "203.0.113.7"),
    ("DIR", "dir"),
    ("SHELL", "bash"),
    ("TOPIC", "ports"),
    ("COMMAND", "status"),
    ("CODE", "dns"),
    ("CHECK...", "clock"),
    ("CHECK", "clock"),
    ("SPAN", "1h"),
    ("REPORT", "report"),
    ("NAME", "a.example"),
    ("TASK", "web"),
    ("USER", "alice"),
    ("ROOM", "room"),
    ("KEY", "key"),
    ("...", "x"),
];
/// The beginnings of what is only looked at, and why.
const NOT_RUN: [(&str, &str); 19] = [
    ("init", "it changes the home; its own tests run it"),
    ("start", "it runs already"),
    ("run", "it runs already"),
    ("stop", "the others want a service"),
    ("restart", "it takes seconds, and its own tests run it"),
    ("uninstall", "the others want a home"),
    ("undo", "the others want a home"),
    ("firewall", "it is about this machine's own firewall"),
    ("phone", "it waits for a phone"),
    ("probe", "it asks another machine"),
    ("top", "it draws on a terminal"),
    ("upgrade", "its own tests run it"),
    ("restore", "it wants a home where nothing runs"),
    ("cert trust", "it is about this machine's own stores"),
    ("cert untrust", "it is about this machine's own stores"),
    ("cert renew", "there is no authority"),
    ("cert preflight", "it asks authorities"),
    ("doctor", "it asks outside; it is run with --offline below"),
    ("turn test turns:", "it asks a server of the reader's"),
];

/// The words of each command in backticks or behind a prompt.
fn commands(text: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let lines = text.lines().map(str::trim_start);
    let prompted = lines.filter_map(|line| {
        let rest = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")).unwrap_or(line);
        let rest = rest.strip_prefix("sudo ").unwrap_or(rest);
        rest.starts_with("rtcctl ").then(|| rest.to_owned())
    });
    let code = text.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " "));
    for line in prompted.chain(code) {
        let line = line.trim().trim_start_matches("sudo ");
        let Some(rest) = line.strip_prefix("rtcctl ") else { continue };
        // What follows is another command, a remark, or what it prints.
        let rest = rest.split(['|', '>', '#', ';', '&']).next().unwrap();
        let mut words: Vec<String> = Vec::new();
        for word in rest.split_whitespace() {
            let word = word.trim_matches(['\'', '"']).trim_matches(['[', ']']);
            let filled = PLACEHOLDERS.iter().fold(
                word.to_owned(),
                |word, (from, to)| {
                    if word == *from { (*to).to_owned() } else { word }
                },
            );
            words.push(filled);
        }
        let is_command = words
            .first()
            .is_some_and(|word| word.starts_with(|symbol: char| symbol.is_ascii_lowercase() || symbol == '-'));
        // Prose that begins with the name, such as `rtcctl is ready (pid 12570)`.
        let is_said = words
            .iter()
            .any(|word| word.contains(['(', ')', ':', ',']) && !word.contains("://") && !word.contains("turns:"));
        if is_command && !is_said {
            found.insert(words);
        }
    }
    found
}

fn text(words: &[String]) -> String {
    words.join(" ")
}

#[test]
fn every_command_in_the_documents_is_one_and_those_that_harm_nobody_work() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all: BTreeSet<Vec<String>> = DOCUMENTS
        .iter()
        .flat_map(|name| {
            let text = std::fs::read_to_string(root.join(name)).unwrap();
            commands(&text.replace("{{ $labels.task }}", "web").replace("{{ $labels.code }}", "dns"))
        })
        .collect();
    assert!(all.len() > 60, "{all:?}");
    let mut faults = Vec::new();
    for words in &all {
        // Its flags and their values are read first; what is missing besides is what the reader fills in.
        let output = cargo_bin_cmd!("rtcctl").args(words).arg("--help").output().unwrap();
        if !output.status.success() {
            faults.push(format!("`rtcctl {}`: {}", text(words), String::from_utf8_lossy(&output.stderr)));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));

    let service = Service::start(&[("turn.relay_ips", "[127.0.0.1]"), ("turn.peers", "lan")]);
    let dir = tempfile::tempdir().unwrap();
    let mut run = 0;
    for words in &all {
        // A home that the reader has named is this one.
        let words = match words.split_first() {
            Some((flag, rest)) if flag == "--home" => &rest[1..],
            Some(_) | None => &words[..],
        };
        let line = text(words);
        if NOT_RUN.iter().any(|(head, _)| line.starts_with(head))
            || words.is_empty()
            || line.contains("-f") && line.starts_with(['l', 'e'])
        {
            continue;
        }
        let output =
            service.command(&words.iter().map(String::as_str).collect::<Vec<_>>()).current_dir(dir.path()).output();
        let output = output.unwrap();
        let code = output.status.code();
        run += 1;
        if !matches!(code, Some(0 | 10)) {
            faults.push(format!("`rtcctl {line}`: {code:?} {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(run > 25, "{run}");
    service.run(&["stop"]);
}

#[test]
fn the_manual_and_the_completions_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    cargo_bin_cmd!("rtcctl").args(["man", "--dir"]).arg(dir.path()).assert().success();
    let pages: BTreeSet<String> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for page in ["rtcctl.1", "rtcctl-init.1", "rtcctl-turn-rotate-secret.1", "rtcctl-upgrade.1"] {
        assert!(pages.contains(page), "{page}: {pages:?}");
    }
    assert!(!pages.iter().any(|page| page.contains("guardian") || page.contains("fault")), "{pages:?}");
    let page = std::fs::read_to_string(dir.path().join("rtcctl-upgrade.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("sha256"), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        let output = cargo_bin_cmd!("rtcctl").args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("rotate-secret"), "{shell}");
    }
}

#[test]
fn help_is_by_topic_and_by_command_in_both_languages() {
    let told = |args: &[&str]| {
        let output = cargo_bin_cmd!("rtcctl").args(args).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    for topic in ["ports", "clouds", "nat", "certificates", "troubleshooting", "operations"] {
        assert!(told(&["help"]).1.contains(topic));
        let (code, english) = told(&["help", topic, "--lang", "en"]);
        assert!(code == 0 && english.len() > 500, "{topic}");
        let (code, chinese) = told(&["help", topic, "--lang", "zh"]);
        assert!(code == 0 && chinese.chars().any(|symbol| ('\u{4e00}'..='\u{9fff}').contains(&symbol)), "{topic}");
    }
    assert!(told(&["help", "turn", "rotate-secret"]).1.contains("--grace"));
    let (code, text) = told(&["help", "certificate"]);
    assert!(code == 2 && text.contains("did you mean `rtcctl help certificates`?"), "{text}");
    assert_eq!(told(&["help", "guardian"]).0, 2);
}
