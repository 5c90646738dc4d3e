//! Decides what `init` does: answers and facts in, a whole plan or every objection out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::answers::{Answers, Key};
use super::blockers::objection_to_port;
use super::boot::{self, BootFacts, Service};
use super::difference::difference;
use super::one_liner::{answers_file, one_liner};
use super::opening::{FirewallFacts, Opening, objection, opening};
use super::outside::{Outside, outside};
use super::ports::{PortUse, port_uses};
use super::settings::{Setting, settings};
use super::suggest::Surroundings;
use super::trusting::{StoreFacts, Trust, trusting};
use super::wanted::Wanted;
use crate::config::{Access, Host, HostFacts, render_config, resolve, set_value};
use crate::home::Home;
use crate::sys::ports::{Holder, Transport};
use crate::text;
use crate::words::Text;

/// What was found on this host, as far as the plan depends on it.
#[derive(Debug, Clone)]
pub struct Facts {
    pub home: Home,
    pub surroundings: Surroundings,
    pub host: HostFacts,
    pub existing: Option<Existing>,
    pub has_secrets: bool,
    /// Secrets are there without the key of invite links.
    pub lacks_access_key: bool,
    pub certificates: Certificates,
    /// Folders of the home that are not there yet, outermost first.
    pub missing_folders: Vec<PathBuf>,
    /// Folders in which this user cannot write, with the reason.
    pub unwritable: Vec<(PathBuf, String)>,
    /// Ports that the service cannot have, with the reason.
    pub taken: Vec<Taken>,
    pub firewall: FirewallFacts,
    /// The operator's own static files are to be served from a folder that is not there.
    pub lacks_web_root: bool,
    /// Why the wanted certificate cannot be had with the files that were named.
    pub certificate_fault: Option<Text>,
    /// A daemon of this home seems to run.
    pub is_running: bool,
    /// Where the answers are to be kept, and what is there.
    pub answers_file: Option<(PathBuf, Option<String>)>,
    /// It cannot be kept there.
    pub lacks_answers_folder: bool,
    pub boot: BootFacts,
    /// Where this host's programs look whom to trust, if that was asked for.
    pub stores: Vec<StoreFacts>,
    /// What the DNS says against the names that callers use.
    pub names: Vec<NameFault>,
}

/// Something that is wrong with a name, where it is administered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameFault {
    pub what: Text,
    pub hint: Text,
    pub is_proven: bool,
}

/// The configuration that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    pub text: String,
    pub wanted: Wanted,
    /// The permission bits of its file, which stay.
    pub mode: u32,
}

/// What has to be done about the certificates, in words; `None`: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    /// A new local CA, and why.
    pub new_ca: Option<Text>,
    /// A new leaf, and why.
    pub new_leaf: Option<Text>,
    /// Files of either that are there.
    pub present: BTreeSet<PathBuf>,
}

/// A port that something else has, or that this user may not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub key: Key,
    pub transport: Transport,
    pub port: u16,
    pub by: TakenBy,
}

/// Why a port cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenBy {
    Holder(Holder),
    /// A process that this user may not see.
    Hidden,
    /// It is one of root's.
    Root,
}

/// Why the plan cannot be carried out, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// By which `rtcctl explain` has a page on it.
    pub code: &'static str,
    pub what: Text,
    pub hint: Text,
}

/// The codes of objections.
pub const CODES: [&str; 14] = [
    "port-taken",
    "port-needs-root",
    "folder-not-writable",
    "relay-address-unknown",
    "web-root-missing",
    "certificate-unusable",
    "trust-impossible",
    "config-value",
    "config-by-hand",
    "firewall-needs-root",
    "firewall-unreadable",
    "firewall-waits",
    "firewall-refused",
    "boot-service",
];

/// Everything that will be done, and what it leads to.
#[derive(Debug, Clone)]
pub struct Plan {
    pub settings: Vec<Setting>,
    pub steps: Vec<Step>,
    pub ports: Vec<PortUse>,
    /// Stores of this host that are to trust the local CA.
    pub trusting: Trust,
    pub opening: Opening,
    /// What is done so that the service starts with the machine, besides files.
    pub service: Option<Service>,
    pub hosts: Vec<Host>,
    pub config_text: String,
    /// The configuration as it was when this was decided.
    pub config_before: Option<String>,
    /// Lines of an existing configuration that go and come.
    pub difference: Vec<String>,
    pub url: String,
    pub one_liner: String,
    /// The same as a file of answers.
    pub answers: String,
    /// What this host cannot do by itself.
    pub outside: Vec<Outside>,
    pub next: String,
}

/// One file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub action: Action,
    pub path: PathBuf,
    pub mode: u32,
    pub subject: Subject,
    pub note: Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Create,
    Change,
    Keep,
}

/// What a step's file or folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Folder,
    Config,
    Secrets,
    Certificates,
    Answers,
    /// What has the service start with the machine.
    Boot,
}

impl Plan {
    /// How many files and folders change, how many commands are run, and whether a service comes to be.
    #[must_use]
    pub fn changes(&self) -> usize {
        let files = self.steps.iter().filter(|step| step.action != Action::Keep).count();
        let service = usize::from(self.service.as_ref().is_some_and(|service| !service.is_settled));
        files + self.trusting.changes.len() + self.opening.changes().len() + service
    }
}

/// Plans, or objects.
///
/// # Errors
/// Every objection at once.
pub fn plan(answers: &Answers, facts: &Facts) -> Result<Plan, Vec<Objection>> {
    let wanted = &answers.wanted;
    let mut objections = Vec::new();
    for (folder, why) in &facts.unwritable {
        objections.push(Objection {
            code: "folder-not-writable",
            what: text!("cannot write to the folder `{}`: {}", folder.display(), why),
            hint: text!("choose another home by `--home DIR`, or run as the user it belongs to"),
        });
    }
    for taken in &facts.taken {
        objections.push(objection_to_port(taken));
    }
    objections.extend(addresses_and_folders(wanted, facts));
    let config_text = match config_text(wanted, facts) {
        Ok(text) => text,
        Err(more) => {
            objections.extend(more);
            String::new()
        }
    };
    let resolved = resolve(&config_text, &facts.host).ok();
    let ports = resolved.map(|resolved| port_uses(&resolved.config)).unwrap_or_default();
    let opening = opening(answers.firewall, &ports, &facts.firewall, &facts.home.tag());
    objections.extend(objection(&opening, &facts.firewall));
    let mut trusts = Trust::default();
    if answers.trust {
        let is_new = facts.certificates.new_ca.is_some();
        match trusting(&facts.stores, &facts.home, wanted.certificate.source, is_new) {
            Ok(changes) => trusts = changes,
            Err(objection) => objections.push(objection),
        }
    }
    let service = boot::plan(answers.boot, &facts.boot).unwrap_or_else(|more| {
        objections.extend(more);
        None
    });
    if !objections.is_empty() {
        return Err(objections);
    }
    let before = facts.existing.as_ref().map(|existing| existing.text.as_str());
    let mut steps =
        steps(facts, &config_text, wanted.access, !opening.changes().is_empty() || !trusts.changes.is_empty());
    let answers_text = answers_file(answers, &facts.surroundings);
    steps.extend(facts.answers_file.as_ref().map(|(path, before)| Step {
        action: match before {
            None => Action::Create,
            Some(before) if *before == answers_text => Action::Keep,
            Some(_) => Action::Change,
        },
        path: path.clone(),
        mode: 0o644,
        subject: Subject::Answers,
        note: text!("these answers, for `--answers`"),
    }));
    steps.extend(service.iter().flat_map(|service| &service.files).map(|file| Step {
        action: match facts.boot.present.get(&file.path) {
            None => Action::Create,
            Some(before) if *before == file.text => Action::Keep,
            Some(_) => Action::Change,
        },
        path: file.path.clone(),
        mode: file.mode,
        subject: Subject::Boot,
        note: file.note.clone(),
    }));
    let changes_anything = steps.iter().any(|step| step.action != Action::Keep);
    let next = match (facts.is_running, changes_anything) {
        (false, _) => "start",
        (true, true) => "restart",
        (true, false) => "status",
    };
    Ok(Plan {
        settings: settings(answers),
        steps,
        ports,
        trusting: trusts,
        opening,
        service,
        difference: before.map(|before| difference(before, &config_text)).unwrap_or_default(),
        hosts: wanted.hosts.clone(),
        config_text,
        config_before: before.map(str::to_owned),
        url: url(wanted),
        one_liner: one_liner(answers, facts),
        answers: answers_text,
        outside: outside(wanted, facts),
        next: format!("rtcctl{} {next}", facts.home.flag()),
    })
}

/// What would only be noticed when the service starts.
fn addresses_and_folders(wanted: &Wanted, facts: &Facts) -> Vec<Objection> {
    let is_here = |address: &&IpAddr| address.is_loopback() || facts.surroundings.local_addresses.contains(*address);
    let mut objections: Vec<Objection> = wanted
        .relay_ips
        .iter()
        .filter(|address| !is_here(address))
        .map(|address| Objection {
            code: "relay-address-unknown",
            what: text!("no interface of this host has the relay address {}", address),
            hint: text!("give a local address by `--relay-ip`, and the one in front of this host by `--public-ip`"),
        })
        .collect();
    if let Some(fault) = &facts.certificate_fault {
        objections.push(Objection {
            code: "certificate-unusable",
            what: fault.clone(),
            hint: text!(
                "give other files by `--cert-file` and `--key-file`, or `--acme-ca-root` and `--acme-dns-command` for an authority"
            ),
        });
    }
    if facts.lacks_answers_folder {
        objections.push(Objection {
            code: "folder-not-writable",
            what: text!("the folder of the answers file is not there, or cannot be written"),
            hint: text!("give another file by `--save-answers`"),
        });
    }
    if let Some(root) = wanted.web_root.as_ref().filter(|_| facts.lacks_web_root) {
        objections.push(Objection {
            code: "web-root-missing",
            what: text!("`{}` is not a folder this user can see", root.display()),
            hint: text!("give a folder with an index.html by `--web-root`"),
        });
    }
    objections
}

/// The configuration as it should be: the template filled in, or the operator's own file with what differs changed.
fn config_text(wanted: &Wanted, facts: &Facts) -> Result<String, Vec<Objection>> {
    let values = wanted.values();
    let text = match &facts.existing {
        None => {
            let value_of =
                |path: &str| values.iter().find(|(key, _)| key.path() == Some(path)).map(|(_, value)| value.clone());
            render_config(|path| value_of(path).unwrap_or_default())
        }
        Some(existing) => {
            let old = existing.wanted.values();
            let mut text = existing.text.clone();
            for ((key, value), (_, before)) in values.iter().zip(&old) {
                let Some(path) = key.path().filter(|_| value != before) else { continue };
                text = set_value(&text, path, value).ok_or_else(|| vec![by_hand(path, value, facts)])?;
            }
            text
        }
    };
    match resolve(&text, &facts.host) {
        Ok(resolved) if Wanted::of(&resolved) == *wanted => Ok(text),
        Ok(_) => Err(vec![Objection {
            code: "config-by-hand",
            what: text!("the existing config.yaml cannot be changed a value at a time"),
            hint: text!("edit `{}` by hand", facts.home.config_file().display()),
        }]),
        Err(complaints) => {
            Err(complaints.iter().map(|complaint| objection_to(complaint.path.as_str(), &complaint.text)).collect())
        }
    }
}

fn by_hand(path: &str, value: &str, facts: &Facts) -> Objection {
    Objection {
        code: "config-by-hand",
        what: text!("`{}` cannot be changed in config.yaml as it is written", path),
        hint: text!("set `{}` to {} in `{}` by hand", path, value, facts.home.config_file().display()),
    }
}

/// What the configuration's own rules say, with the flag in place of the key.
fn objection_to(path: &str, text: &Text) -> Objection {
    let flag = Key::ALL.into_iter().find(|key| key.path() == Some(path)).map_or("its flag", Key::flag);
    let hint = text!("give another value by `{}`", flag);
    Objection { code: "config-value", what: text!("{}: {}", path, text), hint }
}

fn steps(facts: &Facts, config_text: &str, access: Access, opens: bool) -> Vec<Step> {
    let home = &facts.home;
    let folder = |path: &PathBuf| Step {
        action: Action::Create,
        path: path.clone(),
        mode: 0o700,
        subject: Subject::Folder,
        note: match *path == home.setup_dir() {
            true => text!("what was there before, for `rtcctl undo`"),
            false => Text::default(),
        },
    };
    let mut steps: Vec<Step> = facts.missing_folders.iter().map(folder).collect();
    let config = match &facts.existing {
        None => Action::Create,
        Some(existing) if existing.text == config_text => Action::Keep,
        Some(_) => Action::Change,
    };
    let config_mode = facts.existing.as_ref().map_or(0o644, |existing| existing.mode);
    let file = |action, path, mode, subject, note: Text| Step { action, path, mode, subject, note };
    steps.push(file(config, home.config_file(), config_mode, Subject::Config, text!("every key documented")));
    let (secrets, note) = match (facts.has_secrets, access) {
        (false, _) => (Action::Create, text!("TURN secret, 256 random bits, and the key of invite links")),
        (true, Access::Key) if facts.lacks_access_key => (Action::Change, text!("the key of invite links is added")),
        (true, _) => (Action::Keep, text!("TURN secret, 256 random bits, and the key of invite links")),
    };
    steps.push(file(secrets, home.secrets_file(), 0o600, Subject::Secrets, note));
    let dir = home.certs_dir();
    let certificates = &facts.certificates;
    for (name, mode, why, what) in [
        ("ca.pem", 0o644, &certificates.new_ca, text!("the local CA, to be trusted by devices")),
        ("ca.key", 0o600, &certificates.new_ca, text!("its key")),
        ("leaf.pem", 0o644, &certificates.new_leaf, text!("what the page is served with")),
        ("leaf.key", 0o600, &certificates.new_leaf, text!("its key")),
    ] {
        let path = dir.join(name);
        let action = match why {
            None => Action::Keep,
            Some(_) if certificates.present.contains(&path) => Action::Change,
            Some(_) => Action::Create,
        };
        let note = match (action, why) {
            (Action::Change, Some(why)) => text!("{}: {}", what, why),
            _ => what,
        };
        steps.push(file(action, path, mode, Subject::Certificates, note));
    }
    // A home of an earlier version has no journal, which by itself is no reason to change it.
    let journal = home.setup_dir();
    let is_change = |step: &Step| step.action != Action::Keep && step.path != journal;
    if !opens && !steps.iter().any(is_change) {
        steps.retain(|step| step.path != journal);
    }
    steps
}

fn url(wanted: &Wanted) -> String {
    let host = wanted.hosts.first().map(Host::to_string).unwrap_or_default();
    if wanted.web_port == 443 { format!("https://{host}/") } else { format!("https://{host}:{}/", wanted.web_port) }
}

/// The folders a home consists of, outermost first.
#[must_use]
pub fn folders(home: &Home) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let certs = home.certs_dir();
    let setup = home.setup_dir();
    for folder in [home.config_dir(), home.state_dir(), setup.as_path(), home.log_dir(), certs.as_path()] {
        if !folders.iter().any(|known| known == Path::new(folder)) {
            folders.push(folder.to_path_buf());
        }
    }
    folders
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::setup::answers::{Draft, Given, Origin};
    use crate::setup::firewall::Tool;

    pub(in crate::setup) fn answers(pairs: &[(Key, &str)], existing: Option<&Wanted>) -> Answers {
        let given = |value: &str| Given { origin: Origin::Flag, values: vec![value.to_owned()] };
        let given: BTreeMap<Key, Given> = pairs.iter().map(|(key, value)| (*key, given(value))).collect();
        Draft::read(&given, Path::new("/")).unwrap().settle(existing, &Surroundings::default()).unwrap()
    }

    /// A host with nothing on it yet.
    pub(in crate::setup) fn fresh() -> Facts {
        let home = Home::under(Path::new("/srv/box"));
        Facts {
            surroundings: Surroundings::default(),
            host: HostFacts { relay_ips: vec!["192.0.2.1".parse().unwrap()], cores: 2 },
            existing: None,
            has_secrets: false,
            lacks_access_key: false,
            certificates: Certificates {
                new_ca: Some("there is none yet".into()),
                new_leaf: Some("there is none yet".into()),
                present: BTreeSet::new(),
            },
            missing_folders: folders(&home),
            unwritable: Vec::new(),
            taken: Vec::new(),
            firewall: FirewallFacts { tools: vec![Tool::Ufw], ..FirewallFacts::default() },
            lacks_web_root: false,
            certificate_fault: None,
            is_running: false,
            answers_file: None,
            lacks_answers_folder: false,
            boot: BootFacts::default(),
            stores: Vec::new(),
            names: Vec::new(),
            home,
        }
    }

    /// The same host after the plan was carried out.
    pub(in crate::setup) fn settled(plan: &Plan, wanted: &Wanted) -> Facts {
        let existing = Some(Existing { text: plan.config_text.clone(), wanted: wanted.clone(), mode: 0o644 });
        let certificates = Certificates::default();
        Facts { existing, has_secrets: true, certificates, missing_folders: Vec::new(), ..fresh() }
    }

    #[test]
    fn what_a_plan_led_to_needs_no_change() {
        let answers = answers(&[(Key::Host, "a.example,2001:db8::7"), (Key::WebRoot, "/srv/my site")], None);
        let first = plan(&answers, &fresh()).unwrap();
        assert_eq!(first.changes(), 11);
        let second = plan(&answers, &settled(&first, &answers.wanted)).unwrap();
        assert_eq!(second.changes(), 0);
        assert_eq!(second.config_text, first.config_text);
    }

    #[test]
    fn a_changed_answer_changes_its_line_only() {
        let first_answers = answers(&[(Key::Host, "a.example")], None);
        let first = plan(&first_answers, &fresh()).unwrap();
        let changed = answers(&[(Key::WebPort, "9443")], Some(&first_answers.wanted));
        let second = plan(&changed, &settled(&first, &first_answers.wanted)).unwrap();
        assert_eq!(second.difference, ["-   port: 8443", "+   port: 9443"]);
        let changing: Vec<&Path> =
            second.steps.iter().filter(|step| step.action != Action::Keep).map(|step| step.path.as_path()).collect();
        assert_eq!(changing, [Path::new("/srv/box/config.yaml")]);
    }

    #[test]
    fn every_objection_comes_at_once() {
        let mut facts = fresh();
        facts.unwritable.push(("/srv".into(), "read-only file system".to_owned()));
        let by = TakenBy::Holder(Holder { pid: 7, name: "nginx".to_owned() });
        facts.taken.push(Taken { key: Key::WebPort, transport: Transport::Tcp, port: 8443, by });
        let pairs = [(Key::Host, "a.example"), (Key::HttpPort, "8443"), (Key::Peers, "custom")];
        let objections = plan(&answers(&pairs, None), &facts).unwrap_err();
        let told: Vec<String> = objections.iter().map(|objection| objection.what.to_string()).collect();
        assert_eq!(
            told,
            [
                "cannot write to the folder `/srv`: read-only file system",
                "cannot use port 8443/tcp: `nginx (pid 7)` listens there",
                "web.http_port: clashes with web.port: both are 8443",
                "turn.allow_peers: is empty, but `turn.peers: custom` relays to nothing else",
            ]
        );
        assert!(objections[1].hint.to_string().contains("--web-port"));
        assert!(objections[3].hint.to_string().contains("--allow-peer"));
    }

    #[test]
    fn what_the_service_could_not_start_with_is_objected_to() {
        let pairs = [(Key::Host, "a.example"), (Key::RelayIp, "198.51.100.7"), (Key::WebRoot, "/nowhere")];
        let facts = Facts { lacks_web_root: true, ..fresh() };
        let told: Vec<String> = plan(&answers(&pairs, None), &facts)
            .unwrap_err()
            .into_iter()
            .map(|objection| objection.what.to_string())
            .collect();
        assert_eq!(
            told,
            [
                "no interface of this host has the relay address 198.51.100.7",
                "`/nowhere` is not a folder this user can see",
            ]
        );
    }

    #[test]
    fn a_running_service_is_restarted_only_if_something_changed() {
        let answers = answers(&[(Key::Host, "a.example")], None);
        let first = plan(&answers, &Facts { is_running: true, ..fresh() }).unwrap();
        assert_eq!(first.next, "rtcctl --home /srv/box restart");
        let facts = Facts { is_running: true, ..settled(&first, &answers.wanted) };
        assert_eq!(plan(&answers, &facts).unwrap().next, "rtcctl --home /srv/box status");
    }

    #[test]
    fn the_url_leaves_out_what_a_browser_adds() {
        let url_of = |pairs: &[(Key, &str)]| plan(&answers(pairs, None), &fresh()).unwrap().url;
        assert_eq!(url_of(&[(Key::Host, "a.example"), (Key::WebPort, "443")]), "https://a.example/");
        assert_eq!(url_of(&[(Key::Host, "2001:db8::7")]), "https://[2001:db8::7]:8443/");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_wanted_is_what_the_written_file_means(
            name in "[a-z]{1,9}(\\.[a-z0-9]{1,9}){0,3}",
            root in "/[ -~]{0,20}",
            port in 1_u16..,
        ) {
            let mut answers = answers(&[(Key::Host, &name), (Key::TurnPort, "1024")], None);
            answers.wanted.web_root = Some(root.into());
            answers.wanted.web_port = port;
            answers.wanted.http_port = None;
            let plan = plan(&answers, &fresh()).unwrap();
            let resolved = resolve(&plan.config_text, &fresh().host).unwrap();
            proptest::prop_assert_eq!(Wanted::of(&resolved), answers.wanted);
        }
    }
}
