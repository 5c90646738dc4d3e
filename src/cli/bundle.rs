//! `rtcctl bundle`: everything that somebody who helps needs to see, and no secret.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::asked::Asked;
use super::backup::refuse_present;
use super::{Frame, doctor, guardian, status};
use crate::archive::{Member, Redactor, known_secrets, pack};
use crate::config::{effective, load_config, load_resolved};
use crate::control::protocol::SCHEMA_VERSION;
use crate::error::{Failure, Result};
use crate::setup::facts::host::host_kind;
use crate::sys::clock::{self, rfc3339_seconds};
use crate::sys::fs::write_atomic;
use crate::sys::process;
use crate::text;

/// Bytes of the end of a log.
const MAX_LOG: u64 = 2 * 1024 * 1024;
/// Configured values that may have tokens in them: only that they are there is told, and which program it is.
const COMMANDS: [&str; 2] = ["notify.command", "certificate.acme_dns_command"];
/// What the kernel says of this host.
const KERNEL: [&str; 16] = [
    "/proc/version",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/self/limits",
    "/proc/self/cgroup",
    "/proc/net/dev",
    "/proc/net/snmp",
    "/proc/net/sockstat",
    "/proc/net/route",
    "/proc/sys/net/core/rmem_max",
    "/proc/sys/net/core/wmem_max",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/net/ipv4/ip_local_port_range",
    "/proc/sys/net/netfilter/nf_conntrack_max",
    "/proc/sys/net/netfilter/nf_conntrack_count",
];
/// Bytes of one of them.
const MAX_KERNEL: u64 = 64 * 1024;

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Where to write it; `rtcctl-bundle-TIME.tar.gz` in this folder if nothing is said
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    asked: Asked,
}

pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    let now = clock::now().wall;
    let stamp = rfc3339_seconds(now).replace([':', '-'], "");
    let file = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("rtcctl-bundle-{stamp}.tar.gz")));
    refuse_present(&file, args.force)?;
    let redactor = Redactor::new(known_secrets(&frame.home));
    let mut members = gather(frame, args, now)?;
    for member in &mut members {
        let redacted = redactor.redact(&String::from_utf8_lossy(&member.bytes)).into_bytes();
        member.bytes = redacted;
        if redactor.finds_any_in(&member.bytes) {
            return Err(Failure::bug(text!("`{}` would have a secret in it, so nothing is written", member.name)));
        }
    }
    let names: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
    let folder = format!("rtcctl-bundle-{stamp}");
    for member in &mut members {
        member.name = format!("{folder}/{}", member.name);
    }
    write_atomic(&file, &pack(&members, now), 0o600)?;
    if frame.json {
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "file": file, "members": names }));
    } else {
        frame.print(file.display().to_string());
        frame.say(text!(
            "Secrets are left out of it. Names and addresses of this host are in it, and where `log.level` is"
        ));
        frame.say(text!("debug or trace, those of callers. Look at it before you send it: `tar tzf`, `tar xzOf`."));
    }
    Ok(ExitCode::SUCCESS)
}

fn gather(frame: &Frame, args: &Args, now: SystemTime) -> Result<Vec<Member>> {
    let home = &frame.home;
    let json = |name: &str, value: &Value| {
        Member::new(name, serde_json::to_vec_pretty(value).expect("documents of ours have string keys only"))
    };
    let mut members = vec![
        json("about.json", &about(frame, now)),
        json("config.json", &configuration(frame)),
        json("status.json", &what_runs(frame)),
        json("doctor.json", &doctor::diagnosis(frame, &args.asked)?),
        Member::new("kernel.txt", kernel()),
        Member::new("files.txt", files(frame)),
    ];
    let events = home.events_file();
    let aside = |path: &Path| PathBuf::from(format!("{}.1", path.display()));
    for (name, path) in [
        ("events.jsonl.1", aside(&events)),
        ("events.jsonl", events),
        ("rtcctl.log.1", aside(&home.log_file())),
        ("rtcctl.log", home.log_file()),
    ] {
        if let Some(text) = end_of(&path, MAX_LOG) {
            members.push(Member::new(name, text));
        }
    }
    Ok(members)
}

fn about(frame: &Frame, now: SystemTime) -> Value {
    let host = host_kind();
    let own = process::own_program();
    let variables: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("RTCCTL_"))
        .collect();
    json!({
        "schema_version": SCHEMA_VERSION,
        "made_at": rfc3339_seconds(now),
        "version": env!("CARGO_PKG_VERSION"),
        "program": own,
        "architecture": std::env::consts::ARCH,
        "user": if nix::unistd::geteuid().is_root() { "root" } else { "not root" },
        "home": frame.home.config_dir(),
        "state": frame.home.state_dir(),
        "distribution": host.distribution.title,
        "init": format!("{:?}", host.init),
        "container": host.container,
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        // Their values are told by what they do.
        "variables_set": variables,
    })
}

fn configuration(frame: &Frame) -> Value {
    let resolved = match load_config(&frame.home) {
        Ok(resolved) => resolved,
        Err(failure) => return json!({ "error": failure.message(), "causes": failure.causes() }),
    };
    let shown = |key: &str, value: Value| match (key, value) {
        (key, Value::Array(words)) if COMMANDS.contains(&key) && !words.is_empty() => {
            json!([words[0], format!("and {} words that are left out", words.len() - 1)])
        }
        ("notify.webhook", Value::String(url)) => {
            let origin: Vec<&str> = url.splitn(4, '/').take(3).collect();
            json!(format!("{}/...", origin.join("/")))
        }
        (_, value) => value,
    };
    let values: serde_json::Map<String, Value> =
        effective(&resolved.config).into_iter().map(|(key, value)| (key.to_owned(), shown(key, value))).collect();
    let lines: serde_json::Map<String, Value> =
        resolved.lines.iter().map(|(key, line)| (key.clone(), json!(line))).collect();
    let complaints = load_resolved(&frame.home).err().map(|failure| failure.causes().to_vec());
    json!({ "values": values, "set_on_line": lines, "complaints": complaints })
}

fn what_runs(frame: &Frame) -> Value {
    let guardian = guardian::Known::of(&frame.home);
    match status::ask_for(&frame.home) {
        Ok(status) => guardian::with_report(&status, &guardian),
        Err(failure) => json!({ "error": failure.to_string(), "guardian": guardian::row(&guardian).1 }),
    }
}

fn kernel() -> String {
    let mut text = String::new();
    for path in KERNEL {
        let told = end_of(Path::new(path), MAX_KERNEL).unwrap_or_else(|| "not to be read\n".to_owned());
        text.push_str(&format!("== {path}\n{told}\n"));
    }
    text
}

/// What lies in the folders of the home, with modes and sizes; not what is in it.
fn files(frame: &Frame) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let home = &frame.home;
    let mut folders = vec![
        home.config_dir().to_path_buf(),
        home.certs_dir(),
        home.certs_dir().join("acme"),
        home.state_dir().to_path_buf(),
        home.log_dir().to_path_buf(),
        home.run_dir().to_path_buf(),
    ];
    folders.sort();
    folders.dedup();
    let mut text = String::new();
    for folder in folders {
        text.push_str(&format!("== {}\n", folder.display()));
        let mut entries: Vec<_> = std::fs::read_dir(&folder).into_iter().flatten().flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            if let Ok(data) = entry.metadata() {
                let name = entry.file_name();
                let (mode, owner, size) = (data.mode(), data.uid(), data.len());
                text.push_str(&format!("{mode:o} {owner} {size:>10} {}\n", name.to_string_lossy()));
            }
        }
    }
    text
}

/// The last bytes of a file, from the beginning of a line on.
fn end_of(path: &Path, limit: u64) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let begin = length.saturating_sub(limit);
    file.seek(SeekFrom::Start(begin)).ok()?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Some(match text.split_once('\n') {
        Some((_, rest)) if begin > 0 => rest.to_owned(),
        Some(_) | None => text,
    })
}
