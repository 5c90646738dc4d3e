//! The certificate on disk and the ones that are served.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::{list, not_looked_at, without_config};
use crate::certs::pair::covers;
use crate::config::CertSource;
use crate::control::protocol::Severity;
use crate::doctor::check::Check;
use crate::doctor::evidence::{Evidence, Leaf};
use crate::doctor::outcome::{Outcome, Problem};
use crate::text;
use crate::words::Text;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A certificate with a life as usual should have been renewed by then.
const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 3600);
/// One with a shorter life, when this share of it is left.
const LAST_PART: u32 = 6;

pub(super) fn files(evidence: &Evidence) -> Outcome {
    let Some(certificate) = &evidence.certificate else {
        return if evidence.good_config().is_none() { without_config() } else { not_looked_at() };
    };
    match &certificate.leaf {
        Ok(leaf) => Outcome::Fine(text!("{}, for {}", certificate.source, list(&leaf.names))),
        Err(why) if certificate.is_hidden => Outcome::Unknown(text!("this user may not read it: {}", why)),
        Err(why) => {
            let flag = &evidence.home_flag;
            let (severity, fix) = match certificate.source {
                "files" => (Severity::Critical, text!("correct `certificate.cert_file` and `certificate.key_file`")),
                // The service makes it, or orders it, at its start.
                "acme" => (Severity::Info, Text::verbatim(format!("rtcctl{} cert renew", flag))),
                _ => (Severity::Error, Text::verbatim(format!("rtcctl{} init --yes", flag))),
            };
            Outcome::Found(
                Problem::of(Check::CertificateFiles, severity, text!("the certificate cannot be used"))
                    .seen(why)
                    .fix(fix),
            )
        }
    }
}

/// The certificate that counts: the one that is served, where one is.
fn leaf(evidence: &Evidence) -> Option<&Leaf> {
    let served = evidence.answers.iter().find_map(|answer| answer.leaf.as_ref());
    served.or_else(|| evidence.certificate.as_ref()?.leaf.as_ref().ok())
}

/// Whether somebody who knows the authorities of this host, and no other, believes the page.
pub(super) fn trusted(evidence: &Evidence) -> Outcome {
    let Some(config) = evidence.good_config() else { return without_config() };
    let is_own = config.certificate.source == CertSource::SelfSigned;
    match &evidence.trust {
        None => Outcome::Idle(text!("the service does not run")),
        Some(Err(why)) => Outcome::Unknown(why.clone()),
        Some(Ok(Ok(()))) => Outcome::Fine(text!("this host trusts it")),
        // By choice: each device is told once.
        Some(Ok(Err(_))) if is_own => Outcome::Idle(text!(
            "it is by the local authority: a device trusts it by the page /trust, this host by `rtcctl{} cert trust`",
            evidence.home_flag
        )),
        Some(Ok(Err(why))) => {
            let is_private =
                config.certificate.acme.ca_root.is_some() || config.certificate.source == CertSource::Files;
            let (severity, fix) = if is_private {
                let fix = text!(
                    "append the authority's intermediate certificates to the chain, or have the devices trust it"
                );
                (Severity::Warning, fix)
            } else {
                (Severity::Error, Text::verbatim(format!("rtcctl{} cert show", evidence.home_flag)))
            };
            Outcome::Found(
                Problem::of(
                    Check::CertificateTrusted,
                    severity,
                    text!("browsers may not trust the certificate that is served"),
                )
                .seen(why)
                .fix(fix),
            )
        }
    }
}

pub(super) fn dates(evidence: &Evidence, now: SystemTime) -> Outcome {
    let Some(leaf) = leaf(evidence) else { return Outcome::Unknown(text!("there is no certificate to look at")) };
    let days = |span: Duration| text!("{} days", format!("{:.1}", span.as_secs_f64() / DAY.as_secs_f64()));
    let fix = match evidence.certificate.as_ref().map(|certificate| certificate.source) {
        Some("files") => text!("put a new pair in place of `certificate.cert_file` and `certificate.key_file`"),
        Some(_) | None => Text::verbatim(format!("rtcctl{} cert renew --force", evidence.home_flag)),
    };
    let problem = |severity, title: Text| Problem::of(Check::CertificateDates, severity, title).fix(fix.clone());
    if let Ok(wait) = leaf.not_before.duration_since(now)
        && !wait.is_zero()
    {
        return Outcome::Found(
            problem(Severity::Critical, text!("the certificate is not valid yet"))
                .seen(text!("it begins in {}; is the clock right?", days(wait))),
        );
    }
    let left = match leaf.not_after.duration_since(now) {
        Ok(left) => left,
        Err(over) => {
            return Outcome::Found(
                problem(Severity::Critical, text!("the certificate has expired"))
                    .seen(text!("it ended {} ago, and browsers refuse the page", days(over.duration()))),
            );
        }
    };
    let life = leaf.not_after.duration_since(leaf.not_before).unwrap_or_default();
    if left < ENDS_SOON.min(life / LAST_PART) {
        return Outcome::Found(
            problem(Severity::Error, text!("the certificate ends soon and was not renewed")).seen(text!(
                "{} of {} are left",
                days(left),
                days(life)
            )),
        );
    }
    Outcome::Fine(text!("{} are left", days(left)))
}

pub(super) fn names(evidence: &Evidence) -> Outcome {
    let Some(config) = evidence.good_config() else { return without_config() };
    let Some(leaf) = leaf(evidence) else { return Outcome::Unknown(text!("there is no certificate to look at")) };
    let names: BTreeSet<String> = leaf.names.iter().cloned().collect();
    let missing: Vec<String> =
        config.hosts.iter().filter(|host| !covers(&names, host)).map(ToString::to_string).collect();
    if missing.is_empty() {
        return Outcome::Fine(Text::verbatim(list(&leaf.names)));
    }
    let fix = match evidence.certificate.as_ref().map(|certificate| certificate.source) {
        Some("files") => text!("order a certificate for all hosts: `rtcctl cert csr` prints a request"),
        Some(_) | None => Text::verbatim(format!("rtcctl{} cert renew --force", evidence.home_flag)),
    };
    Outcome::Found(
        Problem::of(Check::CertificateNames, Severity::Error, text!("the certificate lacks a configured host"))
            .seen(text!("it is for {}, and not for {}", list(&leaf.names), missing.join(", ")))
            .fix(fix),
    )
}

pub(super) fn served(evidence: &Evidence) -> Outcome {
    let leaves: Vec<_> = evidence.answers.iter().filter_map(|one| Some((one.at, one.leaf.as_ref()?))).collect();
    if leaves.is_empty() {
        return Outcome::Idle(text!("nothing is served by TLS"));
    }
    // What the service says it serves is what it took from disk.
    let current = evidence.status().and_then(|status| status.certificate.as_ref());
    let Some(current) = current.map(|certificate| certificate.fingerprint_sha256.as_str()) else {
        return Outcome::Unknown(text!("the service does not tell its certificate"));
    };
    let on_disk = evidence.certificate.as_ref().and_then(|certificate| certificate.leaf.as_ref().ok());
    let short = |fingerprint: &str| fingerprint.get(..16).unwrap_or(fingerprint).to_owned();
    let problem = |seen: Text| {
        Outcome::Found(
            Problem::of(Check::CertificateServed, Severity::Error, text!("an old certificate is served"))
                .seen(seen)
                .fix(Text::verbatim(format!("rtcctl{} restart", evidence.home_flag))),
        )
    };
    if let Some((at, leaf)) = leaves.iter().find(|(_, leaf)| leaf.fingerprint != current) {
        return problem(text!("{} serves {}, and the service's is {}", at, short(&leaf.fingerprint), short(current)));
    }
    if let Some(disk) = on_disk.filter(|disk| disk.fingerprint != current) {
        // A pair that was just put there is taken within a moment, if it can be.
        return problem(text!("served is {}, and on disk is {}", short(current), short(&disk.fingerprint)));
    }
    Outcome::Fine(text!("{} listeners serve {}", leaves.len(), short(current)))
}

pub(super) fn renewal(evidence: &Evidence) -> Outcome {
    let Some(status) = evidence.status() else { return Outcome::Unknown(text!("the service does not run")) };
    let Some(renewal) = status.certificate.as_ref().and_then(|certificate| certificate.renewal.as_ref()) else {
        return Outcome::Idle(text!("no authority is asked"));
    };
    let severity = match renewal.alarm.as_deref() {
        Some("critical") => Severity::Critical,
        Some("error") => Severity::Error,
        Some("warning") => Severity::Warning,
        Some("info") => Severity::Info,
        Some(_) | None => {
            return Outcome::Fine(match &renewal.next_at {
                Some(next) => text!("{}, next at {}", renewal.state, next),
                None => text!("{}, next when it is due", renewal.state),
            });
        }
    };
    let last = renewal.last.as_ref();
    let error = last.and_then(|last| last.error.clone()).unwrap_or_else(|| text!("it does not say why"));
    let fix = last.and_then(|last| last.hint.clone());
    let is_theirs = last.and_then(|last| last.class.as_deref()) == Some("theirs");
    let problem = Problem::of(Check::CertificateRenewal, severity, text!("the last renewal has failed"))
        .seen(text!("{} ({} in a row)", error, renewal.failures))
        .fix(fix.unwrap_or_else(|| Text::verbatim(format!("rtcctl{} cert preflight", evidence.home_flag))));
    // What the authority's own fault is, passes.
    Outcome::Found(if is_theirs { Problem { severity: Severity::Info, ..problem } } else { problem })
}
