//! Proves by records of the DNS that names are ours: the operator's command adds and removes them.
//!
//! The command is started without a shell, once for each record to be added and once for each to be removed. Records that
//! it was asked to add are written down first, so that those of a service that was killed are removed by the next order.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::dns::{DNS_PORT, Sight, final_name, name_servers, resolvers, sight};
use super::trouble::{Class, Trouble};
use crate::sys::fs::{create_private_dir, write_atomic};
use crate::sys::{clock, exec, fault};
use crate::text;
use crate::words::Text;

/// How long the command may take for one record.
const DONE_WITHIN: Duration = Duration::from_secs(120);
/// Bytes of its output that are kept.
const MAX_OUTPUT: usize = 16 * 1024;
/// How much of the end of its output goes into one line of `status`.
const SHOWN_OUTPUT: usize = 240;
/// How long all name servers may take to have a record. Some providers need minutes.
const SEEN_WITHIN: Duration = Duration::from_secs(300);
const LOOKED_EVERY: Duration = Duration::from_secs(2);
/// The wait where no name server can be asked from here.
const BLIND_WAIT: Duration = Duration::from_secs(60);
/// Records that are remembered; a command that fails to remove them must not fill the disk.
const MAX_REMEMBERED: usize = 64;
/// What stands before the name that is to be proven. RFC 8555, section 8.4.
const LABEL: &str = "_acme-challenge";

/// How records come into the DNS, and who is asked whether they are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// An absolute path, and arguments.
    pub command: Vec<String>,
    /// Empty: the zone's own servers.
    pub servers: Vec<SocketAddr>,
    /// Where records are written down that were asked for.
    pub file: PathBuf,
}

/// A record for a challenge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Record {
    /// What is to be proven, without a star.
    pub domain: String,
    pub value: String,
}

/// What the command is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Present,
    Cleanup,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Present => "present",
            Self::Cleanup => "cleanup",
        })
    }
}

impl Record {
    #[must_use]
    pub fn new(domain: &str, value: String) -> Self {
        let domain = domain.strip_prefix("*.").unwrap_or(domain);
        Self { domain: domain.to_owned(), value }
    }

    /// Where the record belongs.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{LABEL}.{}", self.domain)
    }
}

/// Records that are in the DNS until they are withdrawn.
pub(super) struct Presented<'a> {
    hook: &'a Hook,
    records: Vec<Record>,
}

impl<'a> Presented<'a> {
    /// Removes what a service that was killed has left.
    pub(super) async fn begin(hook: &'a Hook) -> Self {
        let left = read(&hook.file);
        if !left.is_empty() {
            info!(records = left.len(), "removing records of an order that was cut off");
        }
        let presented = Self { hook, records: left };
        presented.withdraw().await;
        Self { hook, records: read(&hook.file) }
    }

    /// Adds a record, and waits until the command says that it did.
    pub(super) async fn add(&mut self, record: Record) -> Result<(), Trouble> {
        if self.records.contains(&record) {
            return Ok(());
        }
        if self.records.len() >= MAX_REMEMBERED {
            self.records.remove(0);
        }
        self.records.push(record.clone());
        write(&self.hook.file, &self.records)?;
        run(self.hook, Action::Present, &record).await?;
        fault::point("presented");
        Ok(())
    }

    /// Waits until every name server has all of `records`.
    pub(super) async fn settle(&self, records: &[Record]) -> Result<(), Trouble> {
        let begun = clock::now().mono;
        for record in records {
            let (servers, record, name) = (self.hook.servers.clone(), record.clone(), record.name());
            let found = blocking(move || {
                final_name(&name, |name| match &servers[..] {
                    [] => name_servers(&resolvers(), name, DNS_PORT),
                    given => given.to_vec(),
                })
            });
            let (name, servers) = found.await?;
            loop {
                let (servers, name, value) = (servers.clone(), name.clone(), record.value.clone());
                let passed = clock::now().mono.saturating_duration_since(begun);
                match blocking(move || sight(&servers, &name, &value)).await? {
                    Sight::Everywhere => break,
                    Sight::Nobody if passed >= BLIND_WAIT => {
                        warn!(
                            name = record.name(),
                            "no name server can be asked whether the record is there; going on"
                        );
                        break;
                    }
                    Sight::MissingAt(servers) if passed >= SEEN_WITHIN => {
                        let servers: Vec<String> = servers.iter().map(|server| server.ip().to_string()).collect();
                        let detail = text!(
                            "after {} s the TXT record of {} is not at {}",
                            SEEN_WITHIN.as_secs(),
                            record.name(),
                            servers.join(", ")
                        );
                        return Err(Trouble::new(Class::Ours, "dns-record", detail));
                    }
                    Sight::Nobody | Sight::MissingAt(_) => tokio::time::sleep(LOOKED_EVERY).await,
                }
            }
        }
        Ok(())
    }

    /// Removes all records. Those that cannot be are tried again at the next order.
    pub(super) async fn withdraw(self) {
        let mut left = Vec::new();
        for record in self.records {
            if let Err(trouble) = run(self.hook, Action::Cleanup, &record).await {
                warn!(%trouble, name = record.name(), "a record of a challenge stays in the DNS");
                left.push(record);
            }
        }
        if let Err(trouble) = write(&self.hook.file, &left) {
            warn!(%trouble, "cannot write down which records are left");
        }
    }
}

/// Adds a record of no meaning, waits until it can be seen, and removes it: whether the command works, without an
/// authority.
///
/// # Errors
/// What an order would fail by.
pub async fn rehearse(hook: &Hook, domain: &str, value: String) -> Result<(), Trouble> {
    let mut presented = Presented { hook, records: Vec::new() };
    let record = Record::new(domain, value);
    let mut done = presented.add(record.clone()).await;
    if done.is_ok() {
        done = presented.settle(std::slice::from_ref(&record)).await;
    }
    let cleaned = run(hook, Action::Cleanup, &record).await;
    write(&hook.file, &[])?;
    done.and(cleaned)
}

/// What is wrong with the command by the look of it, before it is needed.
#[must_use]
pub fn objection(command: &[String]) -> Option<Text> {
    use std::os::unix::fs::PermissionsExt as _;
    let program = Path::new(command.first()?);
    match program.metadata() {
        Err(error) => Some(text!(
            "the command `{}` of `certificate.acme_dns_command`: {}",
            program.display(),
            Text::of_error(&error)
        )),
        Ok(metadata) if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 => {
            Some(text!("`{}` of `certificate.acme_dns_command` is no program that can be run", program.display()))
        }
        Ok(_) => None,
    }
}

async fn run(hook: &Hook, action: Action, record: &Record) -> Result<(), Trouble> {
    let program = hook.command.first().cloned().unwrap_or_default();
    let failed = |how: Text| {
        let detail = text!("`{}` asked to {} the TXT record of {}: {}", program, action, record.name(), how);
        Trouble::new(Class::Ours, "dns-hook", detail)
    };
    let variables = [
        ("RTCCTL_DNS_ACTION", action.to_string()),
        ("RTCCTL_DNS_DOMAIN", record.domain.clone()),
        ("RTCCTL_DNS_NAME", record.name()),
        ("RTCCTL_DNS_VALUE", record.value.clone()),
    ];
    let command = hook.command.clone();
    let ended = blocking(move || exec::run_with(&command, &variables, b"", DONE_WITHIN, MAX_OUTPUT)).await?;
    match ended {
        Ok(ended) if ended.status.success() => Ok(()),
        Ok(ended) => Err(failed(said(ended.status, &ended.output))),
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            Err(failed(text!("it did not end within {} s, and was ended", DONE_WITHIN.as_secs())))
        }
        Err(error) => Err(failed(Text::of_error(&error))),
    }
}

/// The end of what a command said, in one line.
fn said(status: std::process::ExitStatus, output: &str) -> Text {
    let words: Vec<&str> = output.split_whitespace().collect();
    let line = words.join(" ");
    let begin = line.len().saturating_sub(SHOWN_OUTPUT);
    let begin = (begin..=line.len()).find(|at| line.is_char_boundary(*at)).unwrap_or(line.len());
    match &line[begin..] {
        "" => text!("{}, and it said nothing", status),
        end if begin > 0 => text!("{}, it said: …{}", status, end),
        end => text!("{}, it said: {}", status, end),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Trouble> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Trouble::new(Class::Theirs, "interrupted", Text::verbatim(error.to_string())))
}

fn read(file: &Path) -> Vec<Record> {
    let Ok(text) = std::fs::read(file) else { return Vec::new() };
    // What is damaged is lost: a record that stays in the DNS does no harm.
    serde_json::from_slice(&text).unwrap_or_default()
}

fn write(file: &Path, records: &[Record]) -> Result<(), Trouble> {
    let disk = |why: Text| Trouble::new(Class::Ours, "disk", why);
    if records.is_empty() {
        return match std::fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(disk(Text::verbatim(error.to_string()))),
            Ok(()) | Err(_) => Ok(()),
        };
    }
    let text = serde_json::to_vec(records).map_err(|error| disk(Text::verbatim(error.to_string())))?;
    if let Some(folder) = file.parent() {
        create_private_dir(folder).map_err(|failure| disk(failure.told()))?;
    }
    write_atomic(file, &text, 0o600).map_err(|failure| disk(failure.told()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// A command that writes down what it is asked for, and then does what the script says.
    fn hook(dir: &Path, script: &str) -> Hook {
        let line = "echo \"$1 $RTCCTL_DNS_ACTION $RTCCTL_DNS_DOMAIN $RTCCTL_DNS_NAME $RTCCTL_DNS_VALUE\"";
        let script = format!("{line} >> {}/asked; {script}", dir.display());
        let command = ["/bin/sh", "-c", &script, "hook", "argument"].map(str::to_owned).to_vec();
        Hook { command, servers: Vec::new(), file: dir.join("dns.json") }
    }

    fn asked(dir: &Path) -> String {
        std::fs::read_to_string(dir.join("asked")).unwrap()
    }

    #[test]
    fn the_command_gets_its_words_by_the_environment_and_each_record_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let hook = hook(dir.path(), "true");
        block_on(async {
            let mut presented = Presented::begin(&hook).await;
            for value in ["one", "two", "one"] {
                presented.add(Record::new("*.rtc.dev", value.to_owned())).await.unwrap();
            }
            assert_eq!(read(&hook.file).len(), 2);
            presented.withdraw().await;
        });
        let line = |action: &str, value: &str| format!("argument {action} rtc.dev _acme-challenge.rtc.dev {value}\n");
        let lines =
            [line("present", "one"), line("present", "two"), line("cleanup", "one"), line("cleanup", "two")].concat();
        assert_eq!(asked(dir.path()), lines);
        assert!(!hook.file.exists());
    }

    #[test]
    fn a_command_that_fails_is_told_with_what_it_said_last() {
        let dir = tempfile::tempdir().unwrap();
        let hook = hook(dir.path(), "echo 'the token\nis wrong' >&2; exit 7");
        let trouble = block_on(async {
            let mut presented = Presented::begin(&hook).await;
            presented.add(Record::new("rtc.dev", "v".to_owned())).await.unwrap_err()
        });
        assert_eq!((trouble.class, trouble.code.as_str()), (Class::Ours, "dns-hook"));
        assert!(trouble.detail.contains("present") && trouble.detail.contains("exit status: 7"), "{trouble}");
        assert!(trouble.detail.ends_with("it said: the token is wrong"), "{trouble}");
        let missing = Hook { command: vec!["/nonexistent/hook".to_owned()], ..hook.clone() };
        let trouble = block_on(rehearse(&missing, "rtc.dev", "v".to_owned())).unwrap_err();
        assert!(trouble.detail.contains("/nonexistent/hook") && trouble.detail.contains("No such file"), "{trouble}");
    }

    #[test]
    fn records_that_a_killed_service_left_are_removed_by_the_next_order_even_if_that_fails_at_first() {
        let dir = tempfile::tempdir().unwrap();
        let hook = hook(dir.path(), "test $RTCCTL_DNS_ACTION = present");
        block_on(async {
            let mut presented = Presented::begin(&hook).await;
            presented.add(Record::new("rtc.dev", "old".to_owned())).await.unwrap();
            // It is killed here.
            drop(presented);
            Presented::begin(&hook).await;
        });
        assert_eq!(read(&hook.file), [Record::new("rtc.dev", "old".to_owned())]);
        let works = Hook { command: self::hook(dir.path(), "true").command, ..hook };
        block_on(Presented::begin(&works));
        assert!(!works.file.exists());
        assert_eq!(asked(dir.path()).matches("cleanup").count(), 2);
    }

    #[test]
    fn what_cannot_be_run_is_objected_to() {
        let objection = |program: &str| objection(&[program.to_owned()]);
        assert_eq!(objection("/bin/sh"), None);
        assert!(objection("/nonexistent/hook").unwrap().contains("No such file"));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(objection(file.path().to_str().unwrap()).unwrap().contains("no program"));
        assert!(objection("/etc").unwrap().contains("no program"));
    }

    proptest::proptest! {
        #[test]
        fn no_output_makes_it_panic(output in ".{0,600}") {
            proptest::prop_assert!(said(std::process::ExitStatus::default(), &output).len() < SHOWN_OUTPUT + 60);
        }
    }
}
