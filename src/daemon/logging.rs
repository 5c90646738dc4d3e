//! From the configuration to the log's own settings.

use std::time::Duration;

use crate::config::{LogConfig, LogFormat, LogLevel};
use crate::sys::log;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What the configuration wants of the log.
pub(super) fn settings(config: &LogConfig) -> log::Settings {
    log::Settings {
        level: match config.level {
            LogLevel::Error => log::Level::Error,
            LogLevel::Warn => log::Level::Warn,
            LogLevel::Info => log::Level::Info,
            LogLevel::Debug => log::Level::Debug,
            LogLevel::Trace => log::Level::Trace,
        },
        format: match config.format {
            LogFormat::Text => log::Format::Text,
            LogFormat::Json => log::Format::Json,
        },
        limits: log::Limits {
            max_size: config.max_size,
            max_age: config.max_age.map(|days| DAY * days),
            keep: config.keep,
        },
    }
}
