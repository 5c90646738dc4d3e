//! Tells others of findings: runs the operator's command, posts to the operator's webhook.
//!
//! One thread does it, so that whoever hands in an event never waits. What goes out when is decided in `queue`; a
//! command is started by `sys::exec`, a webhook is posted to in `webhook`. What is worth telling is left to the caller.

pub mod queue;
mod webhook;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{info, warn};

use self::queue::{Event, Queue};
use crate::config::NotifyConfig;
use crate::error::{Failure, Result};
use crate::sys::{clock, exec, roots};
use crate::text;
use crate::words::Text;

/// How long one try may take.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a command's output that are kept for the log.
const MAX_OUTPUT: usize = 4096;
/// Events that may wait for the thread.
const INBOX: usize = 64;
/// How long the thread rests at most.
const REST: Duration = Duration::from_secs(3600);

/// Hands events on. Cheap to clone.
#[derive(Clone)]
pub struct Hooks {
    config: Arc<ArcSwap<NotifyConfig>>,
    inbox: SyncSender<Event>,
    error: Arc<Mutex<Option<Text>>>,
}

/// Why somebody could not be told.
#[derive(Debug, PartialEq, Eq)]
struct Failed {
    text: String,
    /// Another try is useless.
    is_final: bool,
}

impl Failed {
    fn for_now(text: String) -> Self {
        Self { text, is_final: false }
    }

    fn for_good(text: String) -> Self {
        Self { text, is_final: true }
    }
}

impl Hooks {
    /// Starts the thread. `own_ca` is the certificate of an authority that is trusted besides those of this host.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(config: NotifyConfig, own_ca: &Path) -> Result<Self> {
        let (inbox, events) = mpsc::sync_channel(INBOX);
        let hooks = Self { config: Arc::new(ArcSwap::from_pointee(config)), inbox, error: Arc::default() };
        let mut teller = Teller {
            config: Arc::clone(&hooks.config),
            error: Arc::clone(&hooks.error),
            own_ca: own_ca.to_path_buf(),
            command: Queue::default(),
            webhook: Queue::default(),
        };
        let spawned = thread::Builder::new().name("hooks".to_owned()).spawn(move || teller.run(&events));
        spawned.map_err(|error| Failure::operator(text!("cannot start the thread `hooks`")).caused_by(error))?;
        Ok(hooks)
    }

    /// Tells others from now on.
    pub fn set_config(&self, config: NotifyConfig) {
        self.config.store(Arc::new(config));
    }

    /// Hands one event in; never waits. With too many waiting it is lost, which is logged.
    pub fn tell(&self, event: Event) {
        let config = self.config.load();
        if config.command.is_empty() && config.webhook.is_none() {
            return;
        }
        if let Err(error) = self.inbox.try_send(event) {
            warn!(%error, "too many events wait to be handed on");
        }
    }

    /// Why an event could not be handed on, if the last try failed.
    #[must_use]
    pub fn error(&self) -> Option<Text> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Teller {
    config: Arc<ArcSwap<NotifyConfig>>,
    error: Arc<Mutex<Option<Text>>>,
    own_ca: PathBuf,
    command: Queue,
    webhook: Queue,
}

impl Teller {
    /// Until nobody can hand anything in any more.
    fn run(&mut self, events: &mpsc::Receiver<Event>) {
        loop {
            let due = [&self.command, &self.webhook].into_iter().filter_map(Queue::poll_timeout).min();
            let rest = due.map_or(REST, |due| due.saturating_duration_since(clock::now().mono));
            match events.recv_timeout(rest) {
                Ok(event) => self.push(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // All that came while somebody was told: some of it may cancel out.
            while let Ok(event) = events.try_recv() {
                self.push(event);
            }
            self.tell();
        }
    }

    fn push(&mut self, event: Event) {
        let (config, now) = (self.config.load(), clock::now().mono);
        if !config.command.is_empty() {
            self.command.push(event.clone(), now);
        }
        if config.webhook.is_some() {
            self.webhook.push(event, now);
        }
    }

    fn tell(&mut self) {
        let config = self.config.load_full();
        if config.command.is_empty() {
            self.command.clear();
        }
        if config.webhook.is_none() {
            self.webhook.clear();
        }
        let command = |event: &Event| run(&config.command, &event.body);
        try_first(&mut self.command, "notify.command", command);
        let own_ca = &self.own_ca;
        let webhook = |event: &Event| match &config.webhook {
            Some(url) => webhook::post(url, &event.body, &roots::of_this_host(own_ca), TOLD_WITHIN),
            None => Ok(()),
        };
        try_first(&mut self.webhook, "notify.webhook", webhook);
        let error = self.command.error().or(self.webhook.error()).map(Text::verbatim);
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

fn try_first(queue: &mut Queue, whom: &str, tell: impl Fn(&Event) -> std::result::Result<(), Failed>) {
    let Some(event) = queue.poll_due(clock::now().mono) else { return };
    match tell(event) {
        Ok(()) => queue.handle_told(),
        Err(Failed { text, is_final }) => {
            if queue.error() != Some(text.as_str()) {
                warn!(whom, error = text, is_final, "an event could not be handed on");
            }
            queue.handle_failed(text, is_final, clock::now().mono, &mut rand::rng());
        }
    }
}

/// Runs the command with the event on its standard input.
fn run(command: &[String], body: &str) -> std::result::Result<(), Failed> {
    let name = command.first().map(String::as_str).unwrap_or_default();
    match exec::run(command, body.as_bytes(), TOLD_WITHIN, MAX_OUTPUT) {
        Ok(ended) if ended.status.success() => {
            if !ended.output.trim().is_empty() {
                info!(command = name, output = ended.output.trim(), "the command of `notify` said something");
            }
            Ok(())
        }
        Ok(ended) => Err(Failed::for_now(format!("`{name}` ended by {}: {}", ended.status, ended.output.trim()))),
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            Err(Failed::for_now(format!("`{name}` did not end within {} s", TOLD_WITHIN.as_secs())))
        }
        Err(error) => Err(Failed::for_now(format!("`{name}` cannot be started: {error}"))),
    }
}
