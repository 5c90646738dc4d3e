//! Gathers what `init` has to know of this host. Reads, tries to bind, changes nothing.

pub mod host;
pub mod network;
pub mod outside;

use std::env;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::unistd::{AccessFlags, access};

use self::network::routes;
use self::outside::{Outside, Sources, look_outside};
use crate::certs::files::check_files;
use crate::certs::leaf::Step;
use crate::certs::preflight::{Objection, look};
use crate::certs::store::{Files, inspect};
use crate::certs::trust::{Store, stores};
use crate::config::{CertSource, Reach, host_facts, is_public_host, load_config, load_secrets};
use crate::error::Result;
use crate::home::Home;
use crate::setup::answers::Key;
use crate::setup::boot::{self, BootChoice, BootFacts};
use crate::setup::cloud;
use crate::setup::firewall;
use crate::setup::firewall::confirm::Pending;
use crate::setup::opening::{FirewallFacts, Sight};
use crate::setup::plan::{Certificates, Existing, Facts, NameFault, Taken, TakenBy, folders};
use crate::setup::suggest::Surroundings;
use crate::setup::trusting::StoreFacts;
use crate::setup::wanted::Wanted;
use crate::sys::clock;
use crate::sys::net::{Family, default_source, local_addresses};
use crate::sys::ports::{Transport, holder};
use crate::text;
use crate::words::Text;

/// How long the DNS may take to say something against a name.
const NAMES_WITHIN: Duration = Duration::from_secs(3);

/// How long it may take another process to try whether a port is free.
const TRIED_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What defaults depend on.
#[must_use]
pub fn surroundings() -> Surroundings {
    Surroundings {
        is_root: nix::unistd::geteuid().is_root(),
        sources: [Family::V4, Family::V6].into_iter().filter_map(default_source).collect(),
        local_addresses: local_addresses(),
        host_name: nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()),
        seen: Vec::new(),
        is_offline: false,
        boot: BootChoice::default(),
        has_own_browser: false,
    }
}

/// How this host looks from outside, as far as it matters for a setup: `reach` is where callers come from, if that is
/// known by now. Who sets a host up for its own network asks nobody.
#[must_use]
pub fn seen_from_outside(reach: Option<Reach>, sources: &Sources) -> Outside {
    match reach {
        Some(Reach::Lan) => Outside::default(),
        Some(Reach::Ip | Reach::Domain) => look_outside(sources, &routes()),
        // Only a machine that says itself that it is in a cloud is asked about there.
        None => {
            let is_in_a_cloud = cloud::look(false).provider.is_some();
            if is_in_a_cloud { look_outside(sources, &routes()) } else { Outside::default() }
        }
    }
}

/// The configuration of an earlier run, if there is one.
///
/// # Errors
/// If it is there and bad: it is the operator's, so it is not replaced.
pub fn existing(home: &Home) -> Result<Option<Existing>> {
    if !home.config_file().exists() {
        return Ok(None);
    }
    let resolved = load_config(home)?;
    let text = crate::sys::fs::read_to_string(&home.config_file())?;
    let mode = home.config_file().metadata().map_or(0o644, |found| found.mode() & 0o777);
    Ok(Some(Existing { text, wanted: Wanted::of(&resolved), mode }))
}

/// What the plan depends on, once it is known what is wanted.
///
/// # Errors
/// If secrets or certificates are there and cannot be read.
pub fn gather(home: &Home, wanted: &Wanted, existing: Option<Existing>, surroundings: &Surroundings) -> Result<Facts> {
    let has_secrets = home.secrets_file().exists();
    let lacks_access_key = has_secrets && load_secrets(home)?.access_key.is_none();
    let mut unwritable: Vec<(PathBuf, String)> = Vec::new();
    let mut missing_folders = Vec::new();
    for folder in folders(home) {
        let mut parents: Vec<PathBuf> = missing_ancestors(&folder);
        missing_folders.append(&mut parents);
        if let Some((path, why)) = unwritable_ancestor(&folder)
            && !unwritable.iter().any(|(known, _)| *known == path)
        {
            unwritable.push((path, why));
        }
    }
    missing_folders.dedup();
    // What cannot be reached cannot be looked at; the objection says it all.
    let certificates = if unwritable.is_empty() { certificates(home, wanted)? } else { Certificates::default() };
    Ok(Facts {
        home: home.clone(),
        surroundings: surroundings.clone(),
        host: host_facts(),
        taken: taken(wanted, existing.as_ref().map(|existing| &existing.wanted)),
        existing,
        has_secrets,
        lacks_access_key,
        certificates,
        missing_folders: unique(missing_folders),
        unwritable,
        lacks_web_root: wanted.web_root.as_ref().is_some_and(|root| !root.is_dir()),
        certificate_fault: certificate_fault(wanted),
        is_running: home.control_socket().exists(),
        boot: boot(home, wanted),
        stores: Vec::new(),
        answers_file: None,
        lacks_answers_folder: false,
        names: if surroundings.is_offline { Vec::new() } else { names(wanted) },
        firewall: FirewallFacts { tools: firewall::installed().into_iter().collect(), sight: Sight::Unasked },
    })
}

/// What the service would need to start with the machine, and what there is of it.
fn boot(home: &Home, wanted: &Wanted) -> BootFacts {
    let mut facts = boot::facts::look(home);
    let certificate = &wanted.certificate;
    let files = [&certificate.cert_file, &certificate.key_file, &wanted.web_root].into_iter().flatten();
    boot::facts::look_at_files(&mut facts, files.cloned());
    facts
}

/// Adds where this host's programs look whom to trust.
pub fn look_at_stores(facts: &mut Facts) {
    let name = facts.home.tag();
    let pem = std::fs::read_to_string(Files::of(&facts.home).ca).unwrap_or_default();
    let look = |store: Store| StoreFacts {
        trusts: store.trusts(&name, &pem),
        can_be_changed: store.is_ours_to_change(),
        store,
    };
    facts.stores = stores(&name, env::home_dir().as_deref()).into_iter().map(look).collect();
}

/// Whether a browser of this very machine does not trust the local CA of `home` yet.
#[must_use]
pub fn has_browser_to_tell(home: &Home) -> bool {
    let name = home.tag();
    let pem = std::fs::read_to_string(Files::of(home).ca).unwrap_or_default();
    stores(&name, env::home_dir().as_deref()).iter().any(|store| store.is_of_a_browser() && !store.trusts(&name, &pem))
}

/// Adds what is known of the file that the answers are to be kept in.
pub fn look_at_answers_file(facts: &mut Facts, file: PathBuf) {
    let folder = file.parent().unwrap_or(Path::new("/"));
    facts.lacks_answers_folder = file.is_dir() || access(folder, AccessFlags::W_OK | AccessFlags::X_OK).is_err();
    let before = std::fs::read(&file).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    facts.answers_file = Some((file, before));
}

/// Adds what filters on this host, which takes tools like firewalld's a second or two.
pub fn look_at_firewall(facts: &mut Facts) {
    facts.firewall.sight = if !facts.surroundings.is_root {
        Sight::NeedsRoot
    } else if let Some(pending) = Pending::load(&facts.home) {
        Sight::Waits(pending.left(clock::now().wall).as_secs())
    } else {
        match firewall::detect(&facts.home) {
            Ok(detected) => Sight::Seen(Box::new(detected)),
            Err(failure) => Sight::Hidden(failure.told()),
        }
    };
}

/// What the DNS says against the names, as far as it answers in time. Names that no authority certifies are not asked for.
fn names(wanted: &Wanted) -> Vec<NameFault> {
    if wanted.reach != Reach::Domain {
        return Vec::new();
    }
    let hosts = wanted.hosts.iter().filter(|host| is_public_host(host)).cloned().collect();
    let own = wanted.public_ips.clone();
    let (sender, receiver) = mpsc::channel();
    let asking = thread::Builder::new().name("names".to_owned()).spawn(move || {
        // Whoever waited may have gone on.
        let _ = sender.send(look(&hosts, &own, None, false));
    });
    let found = asking.ok().and_then(|_| receiver.recv_timeout(NAMES_WITHIN).ok()).unwrap_or_default();
    let fault = |found: Objection| NameFault { what: found.what, hint: found.hint, is_proven: found.is_certain };
    found.into_iter().map(fault).collect()
}

/// Why the operator's own pair, or the root of a private authority, cannot be used.
fn certificate_fault(wanted: &Wanted) -> Option<Text> {
    let certificate = &wanted.certificate;
    match certificate.source {
        CertSource::SelfSigned => None,
        CertSource::Acme => {
            if let Some(fault) = crate::certs::dns01::objection(&certificate.dns_command) {
                return Some(fault);
            }
            let root = certificate.ca_root.as_ref()?;
            let read = crate::sys::fs::read_to_string(root);
            match read {
                Ok(text) if text.contains("BEGIN CERTIFICATE") => None,
                Ok(_) => Some(text!("`{}` holds no certificate in PEM", root.display())),
                Err(failure) => Some(failure.told()),
            }
        }
        CertSource::Files => {
            // That one is missing is told with the configuration.
            let (chain, key) = (certificate.cert_file.as_ref()?, certificate.key_file.as_ref()?);
            check_files(chain, key, &wanted.hosts, clock::now().wall).err().map(|failure| failure.told())
        }
    }
}

fn certificates(home: &Home, wanted: &Wanted) -> Result<Certificates> {
    let inspection = inspect(&wanted.hosts, home, clock::now())?;
    let files = Files::of(home);
    let new_leaf = match inspection.step {
        Step::Keep => None,
        Step::Renew(reason) => Some(reason.told()),
    };
    // Without a CA there is no whole leaf, so a new CA always comes with a new leaf.
    let new_ca = inspection.ca.err().map(|why| why.unwrap_or_else(|| text!("there is none yet")));
    let present =
        [files.ca, files.ca_key, files.leaf, files.leaf_key].into_iter().filter(|path| path.exists()).collect();
    Ok(Certificates { new_ca, new_leaf, present })
}

fn unique(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

fn missing_ancestors(folder: &Path) -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> =
        folder.ancestors().take_while(|path| !path.exists()).map(Path::to_path_buf).collect();
    missing.retain(|path| !path.as_os_str().is_empty());
    missing.reverse();
    missing
}

/// The nearest folder that exists, if this user cannot write in it; a file in its place, too.
fn unwritable_ancestor(folder: &Path) -> Option<(PathBuf, String)> {
    let nearest = folder.ancestors().find(|path| path.symlink_metadata().is_ok())?;
    if !nearest.is_dir() {
        return Some((nearest.to_path_buf(), "it is not a folder".to_owned()));
    }
    match access(nearest, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => None,
        Err(error) => Some((nearest.to_path_buf(), error.desc().to_lowercase())),
    }
}

/// The ports that cannot be had. Those of the existing configuration are not asked for: the running service has them.
fn taken(wanted: &Wanted, existing: Option<&Wanted>) -> Vec<Taken> {
    let web = (Key::WebPort, Transport::Tcp, Some(wanted.web_port), existing.map(|old| old.web_port));
    let http = (Key::HttpPort, Transport::Tcp, wanted.http_port, existing.and_then(|old| old.http_port));
    let turn = (Key::TurnPort, Transport::Udp, Some(wanted.turn_port), existing.map(|old| old.turn_port));
    let old_turn = existing.map(Wanted::turn_tcp_ports).unwrap_or_default();
    let turn_tcp = wanted.turn_tcp_ports().into_iter().map(|port| {
        let old = old_turn.contains(&port).then_some(port);
        (Key::TurnPort, Transport::Tcp, Some(port), old)
    });
    [web, http, turn]
        .into_iter()
        .chain(turn_tcp)
        .filter_map(|(key, transport, port, old)| {
            let port = port.filter(|port| Some(*port) != old)?;
            let by = problem(transport, port, false)?;
            Some(Taken { key, transport, port, by })
        })
        .collect()
}

/// What keeps us from the port. Another `init` may just be trying it as well, so it is tried again unless `is_last`.
fn problem(transport: Transport, port: u16, is_last: bool) -> Option<TakenBy> {
    for address in [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)] {
        let address = SocketAddr::new(address, port);
        let tried = match transport {
            Transport::Tcp => TcpListener::bind(address).map(drop),
            Transport::Udp => UdpSocket::bind(address).map(drop),
        };
        let Err(error) = tried else { continue };
        let kind = error.kind();
        if kind == ErrorKind::AddrInUse {
            if is_last {
                return Some(holder(transport, port).map_or(TakenBy::Hidden, TakenBy::Holder));
            }
            thread::park_timeout(TRIED_AGAIN_AFTER);
            return problem(transport, port, true);
        }
        if kind == ErrorKind::PermissionDenied {
            return Some(TakenBy::Root);
        }
        // Anything else is a family that this host does not have.
    }
    None
}
