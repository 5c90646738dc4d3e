//! Decides what to do about a port that another program has, for the programs that usually have it.

use super::answers::Key;
use super::plan::{Objection, Taken, TakenBy};
use crate::sys::ports::Holder;
use crate::{text, word};

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
    Blocker { processes: &["nginx"], stop: "systemctl disable --now nginx", why: word!("the web server") },
    Blocker { processes: &["apache2"], stop: "systemctl disable --now apache2", why: word!("the web server") },
    Blocker { processes: &["httpd"], stop: "systemctl disable --now httpd", why: word!("the web server") },
    Blocker { processes: &["caddy"], stop: "systemctl disable --now caddy", why: word!("the web server") },
    Blocker { processes: &["lighttpd"], stop: "systemctl disable --now lighttpd", why: word!("the web server") },
    Blocker { processes: &["haproxy"], stop: "systemctl disable --now haproxy", why: word!("the load balancer") },
    Blocker { processes: &["traefik"], stop: "systemctl disable --now traefik", why: word!("the proxy") },
    Blocker {
        processes: &["turnserver"],
        stop: "systemctl disable --now coturn",
        why: word!("coturn, which rtcctl's own relay stands in for"),
    },
    Blocker {
        processes: &["systemd-resolve"],
        stop: "systemctl disable --now systemd-resolved",
        why: word!("the resolver; without it `/etc/resolv.conf` needs another name server"),
    },
    Blocker {
        processes: &["docker-proxy"],
        stop: "docker ps --format '{{.Names}} {{.Ports}}'",
        why: word!("a container publishes it; this names it, `docker stop NAME` ends it"),
    },
    Blocker {
        processes: &["node", "nodejs"],
        stop: "forever stopall",
        why: word!("perhaps the tutorial's server, if `forever` runs it"),
    },
];

/// What is said of a port that cannot be had, and what to do.
pub(super) fn objection_to_port(taken: &Taken) -> Objection {
    let Taken { key, transport, port, by } = taken;
    let flag = key.flag();
    let other = || {
        if *key == Key::HttpPort {
            text!("choose another port by `--http-port N` or `--http-port off`, or stop what holds it")
        } else {
            text!("choose another port by `{} N`, or stop what holds it", flag)
        }
    };
    let (what, hint) = match by {
        TakenBy::Holder(Holder { pid, name }) => {
            let what = text!("cannot use port {}/{}: `{} (pid {})` listens there", port, transport, name, pid);
            let known = BLOCKERS.iter().find(|blocker| blocker.processes.contains(&name.as_str()));
            let hint = match known {
                Some(Blocker { stop, why, .. }) => {
                    text!("`{}` ({}); or choose another port by `{} N`", stop, why, flag)
                }
                None if name == "rtcctl" => text!(
                    "it is a service of another home, or of an earlier set-up: stop it by `rtcctl --home DIR stop`, or choose another port by `{} N`",
                    flag
                ),
                None => other(),
            };
            (what, hint)
        }
        TakenBy::Hidden => (
            text!("cannot use port {}/{}: another process, hidden from this user, listens there", port, transport),
            other(),
        ),
        TakenBy::Root => {
            let what = text!("cannot use port {}/{}: ports below 1024 need root", port, transport);
            return Objection { code: "port-needs-root", what, hint: other() };
        }
    };
    Objection { code: "port-taken", what, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::ports::Transport;

    fn hint(name: &str) -> String {
        let by = TakenBy::Holder(Holder { pid: 7, name: name.to_owned() });
        objection_to_port(&Taken { key: Key::HttpPort, transport: Transport::Tcp, port: 80, by }).hint.to_string()
    }

    #[test]
    fn a_known_program_is_told_with_what_stops_it() {
        let other = "choose another port by `--http-port N`";
        assert_eq!(hint("nginx"), format!("`systemctl disable --now nginx` (the web server); or {other}"));
        assert!(hint("turnserver").starts_with("`systemctl disable --now coturn`"));
        assert!(hint("rtcctl").contains("`rtcctl --home DIR stop`"));
        assert_eq!(hint("own-server"), format!("{other} or `--http-port off`, or stop what holds it"));
    }

    #[test]
    fn names_are_such_as_the_kernel_tells() {
        let names = || BLOCKERS.iter().flat_map(|blocker| blocker.processes);
        assert!(names().all(|name| name.len() <= 15));
        assert_eq!(names().collect::<std::collections::BTreeSet<_>>().len(), names().count());
    }
}
