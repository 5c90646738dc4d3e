//! The files of the home.

use super::{list, not_looked_at};
use crate::control::protocol::Severity;
use crate::doctor::check::Check;
use crate::doctor::evidence::{ConfigFile, Evidence, Secrets};
use crate::doctor::outcome::{Outcome, Problem, Remedy};
use crate::text;
use crate::words::Text;

/// Less than this keeps logs and state from being written soon.
const LITTLE: u64 = 200 << 20;
const ALMOST_NOTHING: u64 = 20 << 20;
/// Rights of anybody but the owner.
const OTHERS: u32 = 0o077;

pub(super) fn config(evidence: &Evidence) -> Outcome {
    let flag = &evidence.home_flag;
    match &evidence.config {
        None => not_looked_at(),
        Some(ConfigFile::Good(config)) => Outcome::Fine(text!("it is for {}", list(&config.hosts))),
        Some(ConfigFile::Hidden(why)) => Outcome::Unknown(text!("this user may not read it: {}", why)),
        Some(ConfigFile::Absent(path)) => Outcome::Found(
            Problem::of(Check::Config, Severity::Critical, text!("this home was never set up"))
                .seen(text!("there is no `{}`", path.display()))
                .fix(Text::verbatim(format!("rtcctl{} init", flag))),
        ),
        Some(ConfigFile::Bad { told, hint }) => Outcome::Found(
            Problem::of(Check::Config, Severity::Critical, text!("the configuration cannot be used"))
                .seen(told)
                .fix(hint.clone().unwrap_or_else(|| Text::verbatim(format!("rtcctl{} config check", flag)))),
        ),
    }
}

pub(super) fn secrets(evidence: &Evidence) -> Outcome {
    let flag = &evidence.home_flag;
    let problem = |title: Text| Problem::of(Check::Secrets, Severity::Critical, title);
    match evidence.home.as_ref().and_then(|home| home.secrets.as_ref()) {
        None => not_looked_at(),
        Some(Secrets::Good) => Outcome::Fine(text!("whole and private")),
        Some(Secrets::Hidden(why)) => Outcome::Unknown(text!("this user may not read them: {}", why)),
        Some(Secrets::Absent) => Outcome::Found(
            problem(text!("there are no secrets"))
                .seen(text!("secrets.yaml is missing"))
                .fix(Text::verbatim(format!("rtcctl{} init --yes", flag))),
        ),
        Some(Secrets::Bad { told, hint }) => Outcome::Found(
            problem(text!("the secrets cannot be used"))
                .seen(told)
                .fix(hint.clone().unwrap_or_else(|| Text::verbatim(format!("rtcctl{} config check", flag)))),
        ),
    }
}

pub(super) fn permissions(evidence: &Evidence) -> Outcome {
    let Some(home) = &evidence.home else { return not_looked_at() };
    let open: Vec<_> = home.files.iter().filter(|file| file.mode & OTHERS != 0).collect();
    let Some(first) = open.first() else { return Outcome::Fine(text!("{} private files", home.files.len())) };
    let seen = Text::list(
        open.iter().map(|file| text!("`{}` has the mode {}", file.path.display(), format!("{:04o}", file.mode))),
    );
    let paths: Vec<String> = open.iter().map(|file| format!("'{}'", file.path.display())).collect();
    let problem = Problem::of(Check::HomePermissions, Severity::Error, text!("others on this host can read secrets"))
        .seen(seen)
        .fix(Text::verbatim(format!("chmod go= {}", paths.join(" "))));
    // One at a time: the next look finds the next one.
    Outcome::Found(Problem { remedy: Some(Remedy::MakePrivate(first.path.clone())), ..problem })
}

pub(super) fn writable(evidence: &Evidence) -> Outcome {
    let Some(home) = &evidence.home else { return not_looked_at() };
    let Some((path, _)) = home.unwritable.first() else { return Outcome::Fine(text!("every folder")) };
    let seen = Text::list(home.unwritable.iter().map(|(path, why)| text!("`{}`: {}", path.display(), why)));
    Outcome::Found(
        Problem::of(Check::HomeWritable, Severity::Error, text!("this user cannot write what the service writes"))
            .seen(seen)
            .fix(text!("run it as the user that `{}` belongs to, or mount it writable", path.display())),
    )
}

pub(super) fn disk(evidence: &Evidence) -> Outcome {
    let Some(home) = &evidence.home else { return not_looked_at() };
    let told = |disk: &crate::doctor::evidence::Disk| {
        text!("{} MB of {} MB are free at `{}`", disk.free_bytes >> 20, disk.total_bytes >> 20, disk.path.display())
    };
    let Some(fullest) = home.disks.iter().min_by_key(|disk| disk.free_bytes) else {
        return Outcome::Unknown(text!("the system does not tell"));
    };
    let severity = match fullest.free_bytes {
        0..ALMOST_NOTHING => Severity::Critical,
        ALMOST_NOTHING..LITTLE => Severity::Error,
        _ => return Outcome::Fine(told(fullest)),
    };
    Outcome::Found(Problem::of(Check::Disk, severity, text!("the disk is almost full")).seen(told(fullest)).fix(text!(
        "make room: `du -xh --max-depth=2 '{}' | sort -h | tail` shows what is large",
        fullest.path.display()
    )))
}

pub(super) fn stale_socket(evidence: &Evidence) -> Outcome {
    let Some(home) = &evidence.home else { return not_looked_at() };
    let Some(path) = &home.stale_socket else { return Outcome::Fine(text!("none")) };
    // The next start removes it by itself, so it is good to know only.
    let problem =
        Problem::of(Check::StaleSocket, Severity::Info, text!("a daemon that is gone has left its socket behind"))
            .seen(text!("nobody listens on `{}`", path.display()))
            .fix(Text::verbatim(format!("rm '{}'", path.display())));
    Outcome::Found(Problem { remedy: Some(Remedy::RemoveSocket(path.clone())), ..problem })
}
