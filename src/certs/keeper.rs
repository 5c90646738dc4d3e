//! Keeps the certificate of an authority: carries out what `renewal` decides, and writes down what came of it.
//!
//! Its files, all below `certs/acme` and each whole or absent: `record.json`, what is remembered; `bundle.pem`, key and
//! chain in one, so that no crash leaves one without the other; `pending.json`, an order that is under way; `dns.json`,
//! what it has in the DNS; the accounts.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::{info, warn};

use super::acme::{self, Obtained};
use super::challenge::{Challenges, Kind};
use super::dns01::Hook;
use super::handle::{LastAttempt, RenewalState, RenewalView};
use super::local_ca::sha256_hex;
use super::moment::Moment;
use super::pair::{Labels, assemble, covers};
use super::renewal::{
    self, Alarm, Attempt, Held, Outcome, Purpose, Reason, Record, State, Step, Wish, alarm, next_step,
};
use super::trouble::{Class, Trouble};
use super::work::{Done, OrderWork, Preflight, SessionOf, Work};
use super::{Served, Source};
use crate::config::{ChallengeChoice, Config, Directory, Host, Secrets};
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::sys::fault;
use crate::sys::fs::{create_private_dir, write_atomic};
use crate::text;
use crate::words::Text;

/// Where the certificate of an authority and what belongs to it are kept.
#[derive(Debug, Clone)]
pub struct AcmeFiles {
    dir: PathBuf,
}

impl AcmeFiles {
    #[must_use]
    pub fn of(home: &Home) -> Self {
        Self { dir: home.certs_dir().join("acme") }
    }

    /// Key and chain of the newest certificate.
    #[must_use]
    pub fn bundle(&self) -> PathBuf {
        self.dir.join("bundle.pem")
    }

    /// Key and chain of the one before.
    #[must_use]
    pub fn previous(&self) -> PathBuf {
        self.dir.join("previous.pem")
    }

    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.dir.join("record.json")
    }

    fn pending(&self) -> PathBuf {
        self.dir.join("pending.json")
    }

    /// Records for challenges that are in the DNS.
    #[must_use]
    pub fn dns(&self) -> PathBuf {
        self.dir.join("dns.json")
    }

    /// Removes drafts that a crash left: what they were to become is whole without them.
    fn sweep(&self) {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_ours = name.ends_with(&format!(".{}.new", std::process::id()));
            if name.starts_with('.') && name.ends_with(".new") && !is_ours {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Of each directory its own account: the name is no secret, but it may hold signs that files must not.
    fn account(&self, directory: &str) -> PathBuf {
        let hash = sha256_hex(directory.as_bytes());
        self.dir.join(format!("account-{}.json", &hash[..16]))
    }
}

/// One authority: how the decision sees it, how it is spoken with, and where orders to it are rehearsed.
struct Known {
    authority: acme::Authority,
    twin: Option<acme::Authority>,
}

/// Keeps one home's certificate of an authority.
pub(super) struct Keeper {
    hosts: BTreeSet<Host>,
    kinds: Vec<Kind>,
    known: Vec<Known>,
    files: AcmeFiles,
    challenges: Challenges,
    dns: Option<Hook>,
    preflight: Option<Preflight>,
    state: State,
    under_way: Option<Purpose>,
}

impl Keeper {
    /// Takes up what is on disk.
    pub(super) fn open(config: &Config, secrets: &Secrets, home: &Home, challenges: Challenges, now: Moment) -> Self {
        let acme = &config.certificate.acme;
        let files = AcmeFiles::of(home);
        let hosts = acme.ordered(&config.hosts);
        let authority = |directory: &Directory, root: Option<&PathBuf>| acme::Authority {
            directory: directory.url.clone(),
            root: root.cloned(),
            contact: acme.contact.clone(),
            binding: [&directory.text, &directory.url]
                .iter()
                .find_map(|name| secrets.acme_bindings.get(*name))
                .cloned(),
            profile: acme.profile.clone(),
        };
        let root = acme.ca_root.as_ref();
        let mut known = vec![Known {
            authority: authority(&acme.directory, root),
            twin: acme.staging.as_ref().map(|twin| authority(twin, root)),
        }];
        if let Some(fallback) = &acme.fallback {
            let twin = fallback.twin.as_ref().and_then(|twin| twin.parse().ok());
            let twin = twin.map(|twin: Directory| authority(&twin, root));
            known.push(Known { authority: authority(fallback, root), twin });
        }
        files.sweep();
        let mut record = read_record(&files.record());
        record.recover(now);
        let authorities = known
            .iter()
            .map(|known| renewal::Authority {
                directory: known.authority.directory.clone(),
                has_twin: known.twin.is_some(),
            })
            .collect();
        let wanted = hosts.iter().map(text).collect();
        let kinds = kinds(config, &hosts, record.challenge.as_deref());
        let preflight = acme.directory.is_public.then(|| Preflight {
            own: config.turn.public_ips.clone(),
            issuer: acme.directory.caa,
            is_by_dns: kinds.contains(&Kind::Dns01),
        });
        let dns = acme.may_use_dns().then(|| Hook {
            command: acme.dns_command.clone(),
            servers: acme.dns_servers.clone(),
            file: files.dns(),
        });
        let state = State { authorities, wanted, held: None, record, wish: None };
        Self { hosts, kinds, known, files, challenges, dns, preflight, state, under_way: None }
    }

    /// The newest certificate of an authority if it can be served now: whole, not over, and for one of the hosts.
    pub(super) fn load(&mut self, now: SystemTime) -> Option<Served> {
        let served = match load_bundle(&self.files.bundle()) {
            Ok(served) => served?,
            Err(why) => {
                warn!(why = why.english(), "the certificate of an authority cannot be used; a new one is ordered");
                return None;
            }
        };
        self.clear_pending();
        let names: BTreeSet<String> = served.names.iter().cloned().collect();
        let is_for_us = self.hosts.iter().any(|host| covers(&names, host));
        self.hold(&served);
        (is_for_us && now < served.not_after).then_some(served)
    }

    /// The certificate at hand if it is good by now, though another is served: the clock was wrong for a while.
    pub(super) fn recall(&mut self, now: SystemTime) -> Option<Served> {
        let is_for_us = |held: &Held| self.hosts.iter().any(|host| covers(&held.names, host));
        let is_good = self.state.held.as_ref().is_some_and(|held| held.not_after > now.into() && is_for_us(held));
        if !is_good || self.under_way.is_some() {
            return None;
        }
        // What cannot be loaded any more is not at hand.
        self.state.held = None;
        self.load(now)
    }

    /// An order whose certificate is safe must not be gone on with: it would bring the same one again.
    fn clear_pending(&self) {
        let path = self.files.pending();
        let Ok(bundle) = std::fs::read_to_string(self.files.bundle()) else { return };
        let pending = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<acme::Pending>(&text).ok());
        if pending.and_then(|pending| pending.key_pem).is_some_and(|key| bundle.contains(&key)) {
            let _ = std::fs::remove_file(&path);
        }
    }

    fn hold(&mut self, served: &Served) {
        // Whoever issued it last is who succeeded last.
        let succeeded = |attempt: &&Attempt| attempt.outcome == Outcome::Succeeded && !attempt.rehearsal;
        let last = self.state.record.attempts.iter().rfind(succeeded).map(|attempt| attempt.authority.clone());
        self.state.held = Some(Held {
            fingerprint: served.fingerprint.clone(),
            names: served.names.iter().cloned().collect(),
            not_before: served.not_before.into(),
            not_after: served.not_after.into(),
            authority: last.or_else(|| self.state.authorities.first().map(|first| first.directory.clone())),
        });
    }

    pub(super) fn wish(&mut self, wish: Wish) {
        self.state.wish = Some(wish);
    }

    /// What to do now; `None`: nothing. What is begun is written down.
    ///
    /// # Errors
    /// If it cannot be written down: then it is not begun.
    pub(super) fn next(&mut self, served: Option<&Served>, is_busy: bool, now: Moment) -> Result<Option<Work>> {
        if is_busy {
            return Ok(None);
        }
        let of_authority = served.filter(|served| served.source == Source::Acme);
        let leaf = of_authority.and_then(|served| served.key.cert.first()).cloned();
        match next_step(&self.state, now) {
            Step::Wait { .. } => {
                self.state.wish = None;
                Ok(None)
            }
            Step::AskAdvice { authority } => {
                let (Some(certificate), Some(held)) = (leaf, &self.state.held) else {
                    self.silence(now);
                    return Ok(None);
                };
                let fingerprint = held.fingerprint.clone();
                let session = Box::new(self.session(&self.known[authority].authority));
                Ok(Some(Work::Advice { session, certificate, fingerprint }))
            }
            Step::Order { authority, purpose, replaces, reason } => {
                let known = &self.known[authority];
                let (speak, pending) = match (purpose, &known.twin) {
                    (Purpose::Rehearsal, Some(twin)) => (twin, None),
                    (Purpose::Rehearsal | Purpose::Issue, _) => (&known.authority, Some(self.files.pending())),
                };
                let with = self.session(speak);
                let attempt = Attempt {
                    at: now,
                    authority: known.authority.directory.clone(),
                    rehearsal: purpose == Purpose::Rehearsal,
                    names: self.state.wanted.iter().cloned().collect(),
                    outcome: Outcome::Begun,
                };
                let before = self.state.record.clone();
                self.state.record.begin(attempt);
                if let Err(failure) = self.save() {
                    // An order that nobody remembers may be made again and again.
                    self.state.record = before;
                    return Err(failure);
                }
                fault::point("begun");
                info!(
                    authority = with.authority.directory,
                    reason = reason.as_str(),
                    ?purpose,
                    "ordering a certificate"
                );
                if purpose == Purpose::Issue {
                    self.state.wish = None;
                }
                self.under_way = Some(purpose);
                Ok(Some(Work::Order(Box::new(OrderWork {
                    with,
                    purpose,
                    hosts: self.hosts.clone(),
                    kinds: self.kinds.clone(),
                    replaces: leaf.filter(|_| replaces),
                    challenges: self.challenges.clone(),
                    dns: self.dns.clone(),
                    pending,
                    preflight: self.preflight.clone(),
                }))))
            }
        }
    }

    fn session(&self, authority: &acme::Authority) -> SessionOf {
        SessionOf { authority: authority.clone(), account: self.files.account(&authority.directory) }
    }

    /// Nobody can be asked for advice now.
    fn silence(&mut self, now: Moment) {
        let fingerprint = self.state.held.as_ref().map(|held| held.fingerprint.clone()).unwrap_or_default();
        self.state.record.advise(&fingerprint, None, None, now, 0.0);
    }

    /// What a wish has to wait for; `None`: nothing is due.
    pub(super) fn waits(&self, now: Moment) -> Option<Failure> {
        let Step::Wait { until, reason: Reason::Limited | Reason::Failed } = next_step(&self.state, now) else {
            return None;
        };
        let minutes = until.since(now).as_secs().div_ceil(60);
        let failure = Failure::operator(text!("the authority must not be asked yet"));
        let failure =
            failure.because(text!("its limit, or ours below it, allows the next order in {} minutes", minutes));
        Some(failure.hinted(text!("wait; the renewal goes on by itself then")))
    }

    /// Takes in what came of some work; gives the certificate to serve from now on, if there is a new one. `chance` is
    /// from 0 to 1.
    ///
    /// # Errors
    /// What kept an order or a rehearsal from succeeding.
    pub(super) fn finish(
        &mut self,
        done: Done,
        now: Moment,
        chance: f64,
    ) -> std::result::Result<Option<Served>, Trouble> {
        self.under_way = None;
        let mut failed = None;
        let served = match done {
            Done::Advised { fingerprint, window } => {
                let (window, ask_after) = match window {
                    Ok(Some((window, ask_after))) => (Some(window), Some(ask_after)),
                    Ok(None) => (None, None),
                    Err(trouble) => {
                        warn!(%trouble, "cannot ask the authority when to renew");
                        (None, None)
                    }
                };
                self.state.record.advise(&fingerprint, window, ask_after, now, chance);
                None
            }
            Done::Ordered { purpose: Purpose::Rehearsal, result } => {
                match result {
                    Ok(_) => {
                        info!("the rehearsal of the order succeeded");
                        self.state.record.succeed(now);
                    }
                    Err(trouble) => {
                        if trouble.class == Class::Ours {
                            failed = Some(trouble.clone());
                        }
                        self.fail(trouble, now, chance);
                    }
                }
                None
            }
            Done::Ordered { purpose: Purpose::Issue, result } => {
                match result.and_then(|(obtained, kind)| Ok((self.keep(&obtained, now)?, kind))) {
                    Ok((served, kind)) => {
                        self.state.record.challenge = Some(kind.as_str().to_owned());
                        self.state.record.succeed(now);
                        self.hold(&served);
                        info!(names = ?served.names, issuer = served.issuer, "got a certificate");
                        Some(served)
                    }
                    Err(trouble) => {
                        if ["certificate", "clock"].contains(&trouble.code.as_str()) {
                            // What it brought cannot be used, and would not be another time.
                            let _ = std::fs::remove_file(self.files.pending());
                        }
                        failed = Some(trouble.clone());
                        self.fail(trouble, now, chance);
                        None
                    }
                }
            }
        };
        if let Err(failure) = self.save() {
            warn!(%failure, "cannot write down what came of the order");
        }
        if served.is_some() {
            fault::point("recorded");
            // Only now: until it is written down, the order can be gone on with.
            let _ = std::fs::remove_file(self.files.pending());
        }
        match failed {
            Some(trouble) => {
                self.state.wish = None;
                Err(trouble)
            }
            None => Ok(served),
        }
    }

    fn fail(&mut self, trouble: Trouble, now: Moment, chance: f64) {
        let hint = trouble.hint();
        warn!(%trouble, class = trouble.class.as_str(), hint = hint.as_ref().map(Text::english), "no certificate; what is served stays");
        let left = self.state.held.as_ref().map(|held| held.left(now));
        self.state.record.fail(trouble, left, now, chance);
    }

    /// Checks what an authority sent, and puts it where it survives.
    fn keep(&self, obtained: &Obtained, now: Moment) -> std::result::Result<Served, Trouble> {
        let text = format!("{}{}", obtained.key_pem, obtained.chain_pem);
        let served = read_bundle(&text).map_err(|why| Trouble::new(Class::Theirs, "certificate", why))?;
        let names: BTreeSet<String> = served.names.iter().cloned().collect();
        if !self.state.wanted.is_subset(&names) {
            return Err(Trouble::new(
                Class::Theirs,
                "certificate",
                text!("the certificate lacks names that were ordered"),
            ));
        }
        if Moment::from(served.not_after) <= now {
            let detail = text!("the new certificate is over already by this host's clock");
            return Err(Trouble::new(Class::Ours, "clock", detail));
        }
        let disk = |failure: Failure| Trouble::new(Class::Ours, "disk", failure.told());
        create_private_dir(&self.files.dir).map_err(disk)?;
        let bundle = self.files.bundle();
        if let Ok(old) = std::fs::read(&bundle) {
            write_atomic(&self.files.previous(), &old, 0o600).map_err(disk)?;
        }
        fault::point("obtained");
        write_atomic(&bundle, text.as_bytes(), 0o600).map_err(disk)?;
        fault::point("kept");
        Ok(served)
    }

    fn save(&self) -> Result<()> {
        create_private_dir(&self.files.dir)?;
        let text = serde_json::to_vec_pretty(&self.state.record)
            .map_err(|error| Failure::bug(text!("a record cannot be written")).caused_by(error))?;
        write_atomic(&self.files.record(), &text, 0o600)
    }

    /// Why the service is not what it should be, if an operator must hear of it now.
    pub(super) fn complaint(&self, now: Moment) -> Option<Text> {
        let view = self.view(now);
        let (_, why, hint) = view.last.as_ref()?.failure.clone()?;
        let is_certified = self.state.held.as_ref().is_some_and(|held| held.not_after > now);
        let has_fallen_back = !is_certified && view.failures > 0;
        let is_late = view.alarm >= Some(Alarm::Error);
        let why = match hint {
            Some(hint) => text!("{}; {}", why, hint),
            None => why,
        };
        if has_fallen_back {
            Some(text!("no authority has issued a certificate yet, so the local CA's is served: {}", why))
        } else if is_late {
            Some(text!("the certificate cannot be renewed: {}", why))
        } else {
            None
        }
    }

    /// What is known, for `status`.
    pub(super) fn view(&self, now: Moment) -> RenewalView {
        let last = self.state.record.attempts.last();
        let failure = last.and_then(|attempt| match &attempt.outcome {
            Outcome::Failed(trouble) => Some((trouble.class, trouble.told(), trouble.hint())),
            Outcome::Begun | Outcome::Succeeded => None,
        });
        let failures =
            self.state.authorities.first().map_or(0, |first| self.state.record.standing(&first.directory).failures);
        let loudness = self.state.held.as_ref().map_or(Alarm::Critical, |held| alarm(held.life(), held.left(now)));
        let (due_at, why) = renewal::due(&self.state, now);
        let (next_at, reason) = match next_step(&self.state, now) {
            Step::Wait { until, reason: reason @ (Reason::Failed | Reason::Limited) } => (until, reason),
            Step::Wait { .. } | Step::AskAdvice { .. } => (due_at, why),
            Step::Order { reason, .. } => (now, reason),
        };
        let state = match self.under_way {
            Some(Purpose::Rehearsal) => RenewalState::Rehearsing,
            Some(Purpose::Issue) => RenewalState::Ordering,
            None if due_at <= now => RenewalState::Waiting,
            None => RenewalState::Idle,
        };
        RenewalView {
            state,
            next_at: Some(next_at.system_time()),
            reason: reason.as_str(),
            last: last.map(|attempt| LastAttempt {
                at: attempt.at.system_time(),
                authority: attempt.authority.clone(),
                rehearsal: attempt.rehearsal,
                failure: failure.clone(),
            }),
            failures,
            alarm: failure.map(|_| loudness),
        }
    }
}

/// Which challenges to try, in order: what worked last, then the usual one where its port is the usual one.
fn kinds(config: &Config, hosts: &BTreeSet<Host>, last: Option<&str>) -> Vec<Kind> {
    let mut kinds = match config.certificate.acme.challenge {
        ChallengeChoice::Http01 => return vec![Kind::Http01],
        ChallengeChoice::TlsAlpn01 => return vec![Kind::TlsAlpn01],
        ChallengeChoice::Dns01 => return vec![Kind::Dns01],
        // A star can be proven by nothing else. RFC 8555, section 8.4.
        ChallengeChoice::Auto if hosts.iter().any(|host| host.below_star().is_some()) => return vec![Kind::Dns01],
        ChallengeChoice::Auto => vec![Kind::Http01, Kind::TlsAlpn01],
    };
    if config.web.http_port.is_none() {
        kinds.retain(|kind| *kind != Kind::Http01);
    }
    if config.certificate.acme.may_use_dns() && hosts.iter().all(|host| matches!(host, Host::Name(_))) {
        kinds.push(Kind::Dns01);
    }
    let is_usual = |kind: &Kind| match kind {
        Kind::Http01 => config.web.http_port == Some(80),
        Kind::TlsAlpn01 => config.web.port == 443,
        // It takes longest, and needs no port at all: before those that are sure to fail, after those that may do.
        Kind::Dns01 => true,
    };
    kinds.sort_by_key(|kind| (last != Some(kind.as_str()), !is_usual(kind)));
    kinds
}

/// The certificate of a bundle; `None` if there is none.
///
/// # Errors
/// In words, if it is damaged.
pub fn load_bundle(path: &Path) -> std::result::Result<Option<Served>, Text> {
    match std::fs::read_to_string(path) {
        Ok(text) => read_bundle(&text).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(text!("cannot read `{}`: {}", path.display(), error)),
    }
}

/// A bundle is both: the key and the chain.
fn read_bundle(text: &str) -> std::result::Result<Served, Text> {
    let labels = Labels { chain: "the certificate of the authority", key: "its key" };
    assemble(text, text, Source::Acme, labels).map(|(_, served)| served)
}

fn read_record(path: &Path) -> Record {
    let Ok(text) = std::fs::read(path) else { return Record::default() };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        warn!(path = %path.display(), %error, "what was remembered of orders is damaged; beginning anew");
        Record::default()
    })
}

fn text(host: &Host) -> String {
    match host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.clone(),
    }
}
