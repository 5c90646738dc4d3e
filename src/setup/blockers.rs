//! Decides what to do about a port that another program has, for the programs that usually have it.

use super::answers::Key;
use super::plan::Taken;
use crate::home::Home;

/// A program that is known to take our ports.
struct Blocker {
    /// The names its processes have; the kernel keeps 15 letters of them.
    processes: &'static [&'static str],
    /// What stops it, and keeps it from coming back.
    stop: &'static str,
    /// What else there is to know.
    why: &'static str,
}

const BLOCKERS: &[Blocker] = &[
    Blocker { processes: &["nginx"], stop: "systemctl disable --now nginx", why: "the web server" },
    Blocker { processes: &["apache2"], stop: "systemctl disable --now apache2", why: "the web server" },
    Blocker { processes: &["httpd"], stop: "systemctl disable --now httpd", why: "the web server" },
    Blocker { processes: &["caddy"], stop: "systemctl disable --now caddy", why: "the web server" },
    Blocker { processes: &["lighttpd"], stop: "systemctl disable --now lighttpd", why: "the web server" },
    Blocker { processes: &["haproxy"], stop: "systemctl disable --now haproxy", why: "the load balancer" },
    Blocker { processes: &["traefik"], stop: "systemctl disable --now traefik", why: "the proxy" },
    Blocker {
        processes: &["turnserver"],
        stop: "systemctl disable --now coturn",
        why: "coturn, which rtcctl's own relay stands in for",
    },
    Blocker {
        processes: &["systemd-resolve"],
        stop: "systemctl disable --now systemd-resolved",
        why: "the resolver; without it `/etc/resolv.conf` needs another name server",
    },
    Blocker {
        processes: &["docker-proxy"],
        stop: "docker ps --format '{{.Names}} {{.Ports}}'",
        why: "a container publishes it; this names it, `docker stop NAME` ends it",
    },
    Blocker {
        processes: &["node", "nodejs"],
        stop: "forever stopall",
        why: "perhaps the tutorial's server, if `forever` runs it",
    },
];

/// What to do about a port that is taken.
pub(super) fn taken_hint(taken: &Taken, home: &Home) -> String {
    let other = other_port(taken.key);
    let Some(holder) = &taken.holder else { return format!("{other}, or stop what holds it") };
    if holder == "rtcctl" {
        return format!(
            "it is a service of another home, or of an earlier set-up: stop it by `rtcctl{} stop` or `rtcctl --home DIR stop`; or {other}",
            home.flag()
        );
    }
    match BLOCKERS.iter().find(|blocker| blocker.processes.contains(&holder.as_str())) {
        Some(Blocker { stop, why, .. }) => format!("`{stop}` ({why}); or {other}"),
        None => format!("{other}, or stop what holds it"),
    }
}

fn other_port(key: Key) -> String {
    let or_off = if key == Key::HttpPort { " or `--http-port off`" } else { "" };
    format!("choose another port by `{} N`{or_off}", key.flag())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn hint(holder: Option<&str>) -> String {
        let holder = holder.map(str::to_owned);
        let taken = Taken { key: Key::HttpPort, what: String::new(), why: String::new(), holder };
        taken_hint(&taken, &Home::under(Path::new("/srv/box")))
    }

    #[test]
    fn a_known_program_is_told_with_what_stops_it() {
        let other = "choose another port by `--http-port N` or `--http-port off`";
        assert_eq!(hint(Some("nginx")), format!("`systemctl disable --now nginx` (the web server); or {other}"));
        assert!(hint(Some("turnserver")).starts_with("`systemctl disable --now coturn`"));
        assert!(hint(Some("rtcctl")).contains("`rtcctl --home /srv/box stop`"));
        assert_eq!(hint(Some("own-server")), format!("{other}, or stop what holds it"));
        assert_eq!(hint(None), format!("{other}, or stop what holds it"));
    }

    #[test]
    fn names_are_such_as_the_kernel_tells() {
        let names = || BLOCKERS.iter().flat_map(|blocker| blocker.processes);
        assert!(names().all(|name| name.len() <= 15));
        assert_eq!(names().collect::<std::collections::BTreeSet<_>>().len(), names().count());
    }
}
