//! The log: what is logged becomes records, which go to files, to standard error, or to systemd's journal.
//!
//! Which records are written at all is decided by level here and by repetition in `collapse`; what is logged from
//! a thread counts as its task's.

mod collapse;
mod file;
mod journal;
pub mod record;

use std::fmt::Debug;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use self::collapse::Collapse;
use self::file::LogFile;
use self::journal::Journal;
use super::clock;
use super::tail::TailLayer;
pub use file::{Limits, numbered};
pub use record::{Format, Level, Record};

/// What is written, and for how long it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub level: Level,
    pub format: Format,
    pub limits: Limits,
}

/// Where records go.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// To systemd's journal if standard error leads there, or else to standard error itself.
    Stderr,
    File(&'a Path),
}

/// Changes the log while it is written. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Mutex<Inner>>,
    filter: reload::Handle<EnvFilter, Registry>,
    verbose: u8,
}

struct Inner {
    sink: Sink,
    format: Format,
    collapse: Collapse,
}

enum Sink {
    File(LogFile),
    Stderr { colour: bool },
    Journal { journal: Journal, lost: u64 },
}

/// Has everything that is logged from now on written to `target`. `RTCCTL_LOG` overrides what `settings` ask for, and
/// so does `verbose` where it asks for more.
///
/// # Errors
/// If the file cannot be opened.
pub fn init(target: Target<'_>, settings: &Settings, verbose: u8) -> io::Result<Control> {
    let sink = match target {
        Target::File(path) => Sink::File(LogFile::open(path, settings.limits, clock::now().wall)?),
        Target::Stderr => match Journal::behind_stderr() {
            Some(journal) => Sink::Journal { journal, lost: 0 },
            None => Sink::Stderr { colour: io::stderr().is_terminal() },
        },
    };
    let inner = Arc::new(Mutex::new(Inner { sink, format: settings.format, collapse: Collapse::default() }));
    let (layer, filter) = reload::Layer::new(filter(settings.level, verbose));
    // A second call, as in tests, changes nothing.
    let records = Records { inner: Arc::clone(&inner) };
    let _ = tracing_subscriber::registry().with(layer).with(records).with(TailLayer).try_init();
    Ok(Control { inner, filter, verbose })
}

fn filter(level: Level, verbose: u8) -> EnvFilter {
    if let Some(wanted) = std::env::var("RTCCTL_LOG").ok().and_then(|wanted| EnvFilter::try_new(wanted).ok()) {
        return wanted;
    }
    let asked = match verbose {
        0 => Level::Error,
        1 => Level::Debug,
        _ => Level::Trace,
    };
    // The STUN codec warns about every malformed datagram, of which a public port gets many.
    EnvFilter::new(format!("{},stun_types=error,turn_types=error", level.max(asked).as_str()))
}

impl Control {
    /// Goes by other settings from now on.
    pub fn apply(&self, settings: &Settings) {
        // It fails only if nobody logs any more.
        let _ = self.filter.reload(filter(settings.level, self.verbose));
        let mut inner = self.lock();
        inner.format = settings.format;
        if let Sink::File(file) = &mut inner.sink {
            file.set_limits(settings.limits, clock::now().wall);
        }
    }

    /// Opens the file by its name again: somebody may have moved it away.
    ///
    /// # Errors
    /// What the kernel says; the old file is still written then.
    pub fn reopen(&self) -> io::Result<()> {
        match &mut self.lock().sink {
            Sink::File(file) => file.reopen(clock::now().wall),
            Sink::Stderr { .. } | Sink::Journal { .. } => Ok(()),
        }
    }

    /// Does what time brings: tells of repetitions, puts old files aside. To be called every few seconds.
    pub fn tick(&self) {
        let now = clock::now();
        let mut inner = self.lock();
        let records = inner.collapse.handle_timeout(now);
        inner.write(&records);
        if let Sink::File(file) = &mut inner.sink {
            file.tick(now.wall);
        }
    }

    /// Tells of repetitions that were not told yet: this process ends.
    pub fn finish(&self) {
        let mut inner = self.lock();
        let records = inner.collapse.finish();
        inner.write(&records);
    }

    /// Lines that could not be written since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        match &self.lock().sink {
            Sink::File(file) => file.lost(),
            Sink::Journal { lost, .. } => *lost,
            Sink::Stderr { .. } => 0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, records: &[Record]) {
        for record in records {
            match &mut self.sink {
                Sink::File(file) => file.write(&record.line(self.format), record.at),
                Sink::Stderr { colour } => {
                    let line = record.line(self.format);
                    let line = if *colour && self.format == Format::Text { painted(record, &line) } else { line };
                    // Whoever has closed it does not want to hear anything.
                    let _ = io::stderr().lock().write_all(line.as_bytes());
                }
                Sink::Journal { journal, lost } => {
                    if journal.write(record).is_err() {
                        *lost += 1;
                    }
                }
            }
        }
    }
}

fn painted(record: &Record, line: &str) -> String {
    let code = match record.level {
        Level::Error => "31",
        Level::Warn => "33",
        Level::Info => "32",
        Level::Debug | Level::Trace => "2",
    };
    let word = format!("{:>5}", record.level.as_str().to_ascii_uppercase());
    line.replacen(&word, &format!("\x1b[{code}m{word}\x1b[0m"), 1)
}

/// Turns what is logged into records.
struct Records {
    inner: Arc<Mutex<Inner>>,
}

impl<S: Subscriber> Layer<S> for Records {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let now = clock::now();
        let thread = std::thread::current();
        let mut record = Record {
            at: now.wall,
            level: level(*event.metadata().level()),
            task: record::part(thread.name()).to_owned(),
            message: String::new(),
            fields: Vec::new(),
        };
        // Before the lock is taken: values may do anything to show themselves.
        event.record(&mut Visitor(&mut record));
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let records = inner.collapse.handle(record, now);
        inner.write(&records);
    }
}

fn level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        _ => Level::Trace,
    }
}

struct Visitor<'a>(&'a mut Record);

impl Visitor<'_> {
    fn put(&mut self, name: &str, value: String) {
        match name {
            "message" => self.0.message = value,
            // What the supervisor says of a task is of interest to whoever looks at that task.
            "task" => self.0.task = value,
            _ => self.0.fields.push((name.to_owned(), value)),
        }
    }
}

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field.name(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing::{debug, info, warn};

    use super::*;

    const SETTINGS: Settings = Settings {
        level: Level::Info,
        format: Format::Text,
        limits: Limits { max_size: 1 << 20, max_age: None, keep: 1 },
    };

    /// What is written to a file while `log` runs on a thread named `turn-3`.
    fn written(log: impl FnOnce(&Control) + Send + 'static) -> Vec<Record> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rtcctl.log");
        let sink = Sink::File(LogFile::open(&path, SETTINGS.limits, clock::now().wall).unwrap());
        let inner = Arc::new(Mutex::new(Inner { sink, format: Format::Text, collapse: Collapse::default() }));
        let (layer, filter) = reload::Layer::new(filter(Level::Info, 0));
        let subscriber = tracing_subscriber::registry().with(layer).with(Records { inner: Arc::clone(&inner) });
        let control = Control { inner, filter, verbose: 0 };
        let run = move || tracing::subscriber::with_default(subscriber, || log(&control));
        std::thread::Builder::new().name("turn-3".to_owned()).spawn(run).unwrap().join().unwrap();
        std::fs::read_to_string(path).unwrap().lines().map(|line| Record::parse(line).unwrap()).collect()
    }

    #[test]
    fn a_line_says_when_how_bad_whose_and_what() {
        let records = written(|_| {
            info!(port = 443, host = "a b", "listening");
            warn!(task = %"web", cause = ?Some("it broke"), "failed");
        });
        let texts: Vec<String> =
            records.iter().map(|one| format!("{} {} {}", one.level.as_str(), one.task, one.text())).collect();
        assert_eq!(
            texts,
            ["info turn listening port=443 host=\"a b\"", "warn web failed cause=\"Some(\\\"it broke\\\")\""]
        );
    }

    #[test]
    fn level_and_format_change_while_it_is_written() {
        let records = written(|control| {
            debug!("unheard");
            control.apply(&Settings { level: Level::Debug, format: Format::Json, ..SETTINGS });
            debug!("heard");
            control.apply(&Settings { level: Level::Warn, ..SETTINGS });
            info!("unheard");
        });
        assert_eq!(records.iter().map(|record| record.message.as_str()).collect::<Vec<_>>(), ["heard"]);
    }

    #[test]
    fn repetitions_are_told_at_the_end() {
        let records = written(|control| {
            for _ in 0..42 {
                info!("the same");
            }
            control.finish();
        });
        let messages: Vec<String> = records.into_iter().map(|record| record.message).collect();
        assert_eq!(messages, ["the same", "the same (repeated 41 times)"]);
    }
}
