//! Looks what filters on this host. Reads only; needs root.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::act::{answer, tool};
use super::iptables::{Saved, read_saved};
use super::nft_json::{is_of_iptables, read_ruleset};
use super::nftables::{BOOT_FILE, Boot, included_ending, included_folder};
use super::record::Record;
use super::{Detected, firewalld, iptables, nftables, ufw};
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::sys::exec;
use crate::sys::net::{Family, outer_interfaces};
use crate::text;
use crate::words::Text;

/// The files from which rules of iptables are loaded at boot, per family: Debian's and Red Hat's.
const SAVED_FILES: [(Family, [&str; 2]); 2] = [
    (Family::V4, ["/etc/iptables/rules.v4", "/etc/sysconfig/iptables"]),
    (Family::V6, ["/etc/iptables/rules.v6", "/etc/sysconfig/ip6tables"]),
];

/// Where the system's message bus listens.
const SYSTEM_BUS: [&str; 2] = ["/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket"];
/// A chain that ufw has while it is active.
const UFW_CHAIN: &str = "ufw-user-input";
/// What `iptables-save` says of a table that nft has put something into which it cannot say.
const BEYOND: &str = "is incompatible, use 'nft' tool";
/// What `firewall-cmd` exits with if there is no firewalld to ask.
const NOT_RUNNING: i32 = 252;

/// Looks at every layer.
///
/// # Errors
/// If a tool that is there fails: what it hides may be what decides.
pub fn detect(home: &Home) -> Result<Detected> {
    let record = Record::load(home);
    let tag = home.tag();
    let mut found = Detected { interfaces: outer_interfaces(), record, ..Detected::default() };
    found.firewalld = firewalld(&found, &tag)?;
    let ruleset = if exec::is_there("nft") { Some(answer(&["nft", "-j", "list", "ruleset"])?) } else { None };
    // To ask ufw takes a good part of a second; where none of its chains is, it is not active. What we have told it
    // while it was is still there.
    let may_be_ufw = has_legacy_rules()
        || Path::new(ufw::PROFILES).join(&tag).exists()
        || ruleset.as_ref().is_none_or(|text| text.contains(UFW_CHAIN));
    found.ufw = if may_be_ufw { ufw(&tag)? } else { None };
    let mut theirs = None;
    if let Some(text) = ruleset {
        // Without its program, they are rules like any other.
        let program = |family: &str| if family == "ip6" { "ip6tables" } else { "iptables" };
        let mut managed = is_of_iptables(&text);
        managed.retain(|(family, _)| exec::is_there(program(family)));
        // By the same names, but with rules that iptables has no words for: only nft can say what they do.
        let foreign: Vec<&str> =
            ["ip", "ip6"].into_iter().filter(|family| is_beyond_iptables(program(family))).collect();
        managed.retain(|(family, table)| table != "filter" || !foreign.contains(&family.as_str()));
        let is_other = |family: &str, table: &str| {
            found.firewalld.is_some() && table == "firewalld"
                || managed.iter().any(|(one, other)| one == family && other == table)
        };
        let rules = read(&text, &is_other)?;
        let boot = boot(&tag, &is_other);
        theirs = Some(managed);
        found.nftables = Some(nftables::Facts { rules, boot });
    } else {
        found.notes.push(text!("`nft` is not installed: rules of nftables, if there are any, cannot be seen"));
    }
    tables(&mut found, theirs.as_deref())?;
    Ok(found)
}

fn read(text: &str, is_other: &dyn Fn(&str, &str) -> bool) -> Result<super::model::Ruleset> {
    read_ruleset(text, is_other)
        .map_err(|why| Failure::operator(text!("cannot understand the rules of nftables")).because(why))
}

/// Whether the table `filter` that this program calls its own is none that it could show.
fn is_beyond_iptables(program: &str) -> bool {
    let savers = [format!("{program}-nft-save"), format!("{program}-save")];
    let Some(saver) = savers.iter().find(|saver| exec::is_there(saver)) else { return false };
    tool(&[saver, "-t", "filter"]).is_ok_and(|told| format!("{}{}", told.output, told.complaints).contains(BEYOND))
}

/// Whether the old kind of iptables has rules of either family.
fn has_legacy_rules() -> bool {
    ["ip", "ip6"].iter().any(|family| {
        std::fs::read_to_string(format!("/proc/net/{family}_tables_names")).is_ok_and(|names| !names.is_empty())
    })
}

fn firewalld(found: &Detected, tag: &str) -> Result<Option<firewalld::Facts>> {
    if !exec::is_there("firewall-cmd") {
        return Ok(None);
    }
    let file = firewalld::service_file(tag);
    // What it holds of ours comes back with it, so to take it for absent would be to lose sight of that.
    let absent = || {
        if !file.exists() {
            return Ok(None);
        }
        Err(Failure::operator(text!("firewalld does not run, and its configuration has a service of ours"))
            .hinted(text!("start firewalld, and run the same command again"))
            .hinted(text!("or, if it is not to run any more, remove `{}`", file.display())))
    };
    // Without the system's bus there is nobody whom its tool, which takes a second to say so, could ask.
    if !SYSTEM_BUS.iter().any(|path| Path::new(path).exists()) {
        return absent();
    }
    // Each question takes it a good part of a second, so none is asked whose answer is known.
    let told = tool(&["firewall-cmd", "--list-all-zones"])?;
    if !told.status.success() {
        if told.status.code() == Some(NOT_RUNNING)
            || format!("{}{}", told.output, told.complaints).contains("DBUS_ERROR")
        {
            return absent();
        }
        return Err(
            Failure::operator(text!("firewalld does not answer")).because(Text::verbatim(told.complaints.trim()))
        );
    }
    let running = firewalld::read_zones(&told.output);
    let permanent = firewalld::read_zones(&answer(&["firewall-cmd", "--permanent", "--list-all-zones"])?);
    let zone_of = |interface: &String| {
        let has = |zone: &firewalld::Zone| zone.interfaces.iter().any(|one| one == interface);
        running.iter().find(|(_, zone)| has(zone)).map(|(name, _)| name.clone())
    };
    let mut zones: BTreeSet<String> = found.interfaces.iter().filter_map(zone_of).collect();
    // An interface that has no zone of its own is in this one.
    if zones.is_empty() || found.interfaces.iter().any(|interface| zone_of(interface).is_none()) {
        zones.insert(answer(&["firewall-cmd", "--get-default-zone"])?.trim().to_owned());
    }
    let info = format!("--info-service={tag}");
    let ask = |words: &[&str]| -> Result<Option<super::Needs>> {
        let told = tool(words)?;
        Ok(told.status.success().then(|| firewalld::read_service(&told.output)))
    };
    let is_used = |zones: &std::collections::BTreeMap<String, firewalld::Zone>| {
        zones.values().any(|zone| zone.services.iter().any(|service| service == tag))
    };
    let service = if file.exists() { ask(&["firewall-cmd", "--permanent", &info])? } else { None };
    let running_service = if is_used(&running) { ask(&["firewall-cmd", &info])? } else { None };
    let files = ["zones", "services"].iter().flat_map(|folder| list(&Path::new(firewalld::FOLDER).join(folder)));
    let plain = |zone: &&String| {
        let read = |folder: &str| std::fs::read_to_string(format!("{folder}/zones/{zone}.xml")).ok();
        let ours = read(firewalld::FOLDER).map(|text| firewalld::without_service(&text, tag));
        ours.is_some() && ours == read("/usr/lib/firewalld")
    };
    // Policies are made for good only, so none is in force where there is no file; the tool takes its time.
    let has_policies = !list(&Path::new(firewalld::FOLDER).join("policies")).is_empty();
    let policies = if has_policies { tool(&["firewall-cmd", "--list-all-policies"])?.output } else { String::new() };
    Ok(Some(firewalld::Facts {
        policies: firewalld::read_zones(&policies),
        plain_zones: permanent.keys().filter(plain).cloned().collect(),
        zones,
        running,
        permanent,
        service,
        running_service,
        added: found.record.firewalld_added.clone(),
        made_files: found.record.firewalld_made.clone(),
        files: files.collect(),
    }))
}

/// Removes what runs that were killed have left halfway written. Only for who holds the lock.
pub(super) fn sweep(tag: &str) {
    let included = std::fs::read_to_string(BOOT_FILE).ok().and_then(|text| {
        let name = format!("{tag}.{}", included_ending(&text));
        included_folder(&text).map(|folder| folder.join(name))
    });
    let saved = SAVED_FILES.iter().flat_map(|(_, files)| files.iter().map(PathBuf::from));
    for path in saved.chain([Path::new(ufw::PROFILES).join(tag)]).chain(included) {
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) {
            super::act::sweep(folder, name);
        }
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn ufw(tag: &str) -> Result<Option<ufw::Facts>> {
    if !exec::is_there("ufw") {
        return Ok(None);
    }
    let profile = std::fs::read_to_string(Path::new(ufw::PROFILES).join(tag)).ok();
    let is_active = answer(&["ufw", "status"])?.starts_with("Status: active");
    if !is_active && profile.is_none() {
        return Ok(None);
    }
    let defaults = std::fs::read_to_string("/etc/default/ufw").unwrap_or_default();
    Ok(Some(ufw::Facts {
        is_active,
        profile,
        added: answer(&["ufw", "show", "added"])?,
        has_ipv6: !defaults.lines().any(|line| line.trim().eq_ignore_ascii_case("ipv6=no")),
    }))
}

/// What nftables' service would load, tried in a network of its own.
fn boot(tag: &str, is_other: &dyn Fn(&str, &str) -> bool) -> Boot {
    let Ok(text) = std::fs::read_to_string(BOOT_FILE) else { return Boot::default() };
    let Some(folder) = included_folder(&text) else {
        return Boot::Unknown(text!("`{}` does not end by loading a folder of files", BOOT_FILE));
    };
    if !folder.is_dir() {
        return Boot::Unknown(text!("`{}`, which `{}` loads, is no folder", folder.display(), BOOT_FILE));
    }
    let is_service = |folder: &PathBuf| folder.join("nftables.service").symlink_metadata().is_ok();
    let has_systemd = Path::new("/run/systemd/system").is_dir();
    if has_systemd && !list(Path::new("/etc/systemd/system")).iter().any(is_service) {
        return Boot::Unknown(text!("nftables.service does not start with this machine"));
    }
    let script = format!("nft -f {BOOT_FILE} && exec nft -j list ruleset");
    let tried = answer(&["unshare", "--net", "sh", "-c", &script]).and_then(|text| read(&text, is_other));
    match tried {
        Ok(rules) => {
            let file = folder.join(format!("{tag}.{}", included_ending(&text)));
            Boot::Known { rules, text: std::fs::read_to_string(&file).ok(), file }
        }
        Err(failure) => Boot::Unknown(text!("`{}` cannot be tried: {}", BOOT_FILE, failure)),
    }
}

/// Both families' iptables, of the kind that is in use.
fn tables(found: &mut Detected, of_nft: Option<&[(String, String)]>) -> Result<()> {
    for (family, name, word) in [(Family::V4, "iptables", "ip"), (Family::V6, "ip6tables", "ip6")] {
        let has_nft = exec::is_there(name)
            && of_nft.is_none_or(|tables| tables.iter().any(|(one, table)| one == word && table == "filter"));
        // To ask the old kind would make its tables, so the kernel is asked first whether there are any.
        let names = format!("/proc/net/{}_tables_names", if family == Family::V4 { "ip" } else { "ip6" });
        let has_legacy = std::fs::read_to_string(names).is_ok_and(|names| names.lines().any(|table| table == "filter"));
        let default_is_legacy = exec::is_there(name) && tool(&[name, "-V"])?.output.contains("legacy");
        let mut kinds = Vec::new();
        for (is_there, is_default, suffix) in
            [(has_nft, !default_is_legacy, "-nft"), (has_legacy, default_is_legacy, "-legacy")]
        {
            let program = if is_default { name.to_owned() } else { format!("{name}{suffix}") };
            if !is_there || !exec::is_there(&program) {
                continue;
            }
            let text = answer(&[&format!("{program}-save"), "-t", "filter"])?;
            let rules = read_saved(&text, &program, family);
            if rules.chains.values().any(|chain| chain.policy.is_some()) {
                kinds.push(iptables::Facts { program, family, rules, saved: saved(family) });
            }
        }
        let filters = |facts: &iptables::Facts| {
            facts.rules.chains.values().any(|chain| {
                chain.policy == Some(super::model::Policy::Drop) || chain.policy.is_some() && !chain.rules.is_empty()
            })
        };
        if kinds.iter().filter(|facts| filters(facts)).count() > 1 {
            found.mixed = true;
        }
        found.iptables.extend(kinds);
    }
    Ok(())
}

fn saved(family: Family) -> Option<Saved> {
    let (_, files) = SAVED_FILES.iter().find(|(one, _)| *one == family)?;
    files.iter().find_map(|path| {
        let path = PathBuf::from(path);
        let text = std::fs::read_to_string(&path).ok()?;
        let mode = std::fs::metadata(&path).ok()?.permissions().mode() & 0o777;
        Some(Saved { path, text, mode })
    })
}
