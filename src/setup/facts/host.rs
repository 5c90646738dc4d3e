//! What this host is: its distribution, what starts its services, and whether it is a container.

use std::path::Path;

/// The operating system, as it calls itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Such as `debian`; empty where it does not tell.
    pub id: String,
    /// What it is made from, nearest first.
    pub like: Vec<String>,
    pub version: String,
    /// For people.
    pub title: String,
}

/// What starts services here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    Systemd,
    OpenRc,
    /// The first process has this name, and starts nothing that is known.
    Other(String),
}

/// What a host is, by signs that anyone may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKind {
    pub distribution: Distribution,
    pub init: Init,
    /// What contains it, if it is no machine of its own: `docker`, `lxc`, `wsl` and others.
    pub container: Option<String>,
}

/// The signs that a [`HostKind`] is read from.
#[derive(Debug, Clone, Default)]
struct Signs {
    os_release: String,
    first_process: String,
    has_systemd: bool,
    has_openrc: bool,
    /// What systemd noted of the container it is in.
    noted: String,
    has_docker_file: bool,
    has_podman_file: bool,
    first_groups: String,
    kernel: String,
}

/// Reads the signs of this host.
#[must_use]
pub fn host_kind() -> HostKind {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let exists = |path: &str| Path::new(path).exists();
    let own = read("/etc/os-release");
    judge(&Signs {
        os_release: if own.is_empty() { read("/usr/lib/os-release") } else { own },
        first_process: read("/proc/1/comm").trim().to_owned(),
        has_systemd: exists("/run/systemd/system"),
        has_openrc: exists("/run/openrc/softlevel"),
        noted: read("/run/systemd/container").trim().to_owned(),
        has_docker_file: exists("/.dockerenv"),
        has_podman_file: exists("/run/.containerenv"),
        first_groups: read("/proc/1/cgroup"),
        kernel: read("/proc/sys/kernel/osrelease"),
    })
}

fn judge(signs: &Signs) -> HostKind {
    let init = if signs.has_systemd {
        Init::Systemd
    } else if signs.has_openrc {
        Init::OpenRc
    } else {
        Init::Other(signs.first_process.clone())
    };
    HostKind { distribution: read_os_release(&signs.os_release), init, container: container(signs) }
}

fn container(signs: &Signs) -> Option<String> {
    let groups = |word: &str| signs.first_groups.contains(word);
    let found = if !signs.noted.is_empty() {
        signs.noted.as_str()
    } else if signs.has_podman_file || groups("/libpod") {
        "podman"
    } else if signs.has_docker_file || groups("/docker") {
        "docker"
    } else if groups("/kubepods") {
        "kubernetes"
    } else if groups("/lxc") {
        "lxc"
    } else if signs.kernel.to_ascii_lowercase().contains("microsoft") {
        "wsl"
    } else {
        return None;
    };
    Some(found.chars().filter(|symbol| symbol.is_ascii_graphic()).take(32).collect())
}

/// Reads an `os-release` file: assignments as a shell would take them.
fn read_os_release(text: &str) -> Distribution {
    let mut found = Distribution::default();
    for line in text.lines() {
        let Some((name, value)) = line.trim().split_once('=') else { continue };
        let value = value.trim();
        let bare = value.strip_prefix(['"', '\'']).and_then(|rest| rest.strip_suffix(['"', '\''])).unwrap_or(value);
        let bare: String = bare.chars().filter(|symbol| !symbol.is_control() && *symbol != '\\').collect();
        match name {
            "ID" => found.id = bare,
            "ID_LIKE" => found.like = bare.split_whitespace().map(str::to_owned).collect(),
            "VERSION_ID" => found.version = bare,
            "PRETTY_NAME" => found.title = bare,
            _ => {}
        }
    }
    if found.title.is_empty() {
        found.title = if found.id.is_empty() { "an unknown system".to_owned() } else { found.id.clone() };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_read_as_a_shell_would() {
        let text =
            "PRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nID=ubuntu\nID_LIKE='debian'\nVERSION_ID=\"24.04\"\n# ID=no\ngarbage\n";
        let found = read_os_release(text);
        assert_eq!((found.id.as_str(), found.version.as_str()), ("ubuntu", "24.04"));
        assert_eq!((found.like, found.title.as_str()), (vec!["debian".to_owned()], "Ubuntu 24.04.1 LTS"));
        assert_eq!(read_os_release("").title, "an unknown system");
        assert_eq!(read_os_release("ID=alpine").title, "alpine");
    }

    #[test]
    fn containers_and_what_starts_services_are_told_apart() {
        let kind = |signs: Signs| judge(&signs).container;
        let text = str::to_owned;
        assert_eq!(kind(Signs::default()), None);
        assert_eq!(kind(Signs { noted: text("systemd-nspawn"), ..Signs::default() }), Some(text("systemd-nspawn")));
        assert_eq!(kind(Signs { has_docker_file: true, ..Signs::default() }), Some(text("docker")));
        assert_eq!(
            kind(Signs { has_podman_file: true, has_docker_file: true, ..Signs::default() }),
            Some(text("podman"))
        );
        assert_eq!(kind(Signs { first_groups: text("0::/kubepods/x"), ..Signs::default() }), Some(text("kubernetes")));
        assert_eq!(kind(Signs { kernel: text("5.15-Microsoft-standard"), ..Signs::default() }), Some(text("wsl")));
        let init = |signs: Signs| judge(&signs).init;
        assert_eq!(init(Signs { has_systemd: true, ..Signs::default() }), Init::Systemd);
        assert_eq!(init(Signs { has_openrc: true, ..Signs::default() }), Init::OpenRc);
        assert_eq!(init(Signs { first_process: text("tini"), ..Signs::default() }), Init::Other(text("tini")));
    }
}
