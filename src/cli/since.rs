//! `--since`: a span before now, or a moment.

use std::time::{Duration, SystemTime};

use crate::sys::log::record::moment;

/// From when on something is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    Ago(Duration),
    At(SystemTime),
}

impl Since {
    /// Reads `90s`, `10m`, `2h`, `3d` or a moment like `2026-11-25T19:00:00Z`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(at) = moment(text) {
            return Ok(Self::At(at));
        }
        span(text)
            .map(Self::Ago)
            .ok_or_else(|| "write a span like 90s, 10m, 2h or 3d, or a moment like 2026-11-25T19:00:00Z".to_owned())
    }

    pub(super) fn moment(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ago(span) => now.checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH),
            Self::At(at) => at,
        }
    }
}

/// Reads `90s`, `10m`, `2h` or `3d`.
pub(super) fn span(text: &str) -> Option<Duration> {
    let factor = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return None,
    };
    let digits = text.get(..text.len() - 1)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = digits.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(factor)?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_moments_are_read_and_nothing_else() {
        let seconds = |text: &str| match Since::parse(text) {
            Ok(Since::Ago(span)) => span.as_secs(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(["90s", "10m", "2h", "3d", "0s"].map(seconds), [90, 600, 7200, 259_200, 0]);
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(Since::parse("2023-11-14T22:13:20Z"), Ok(Since::At(at)));
        for bad in ["", "5", "m", "-1m", "+1m", "1w", "yesterday", "99999999999999999999d", "1é"] {
            assert!(Since::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Since::Ago(Duration::MAX).moment(at), SystemTime::UNIX_EPOCH);
    }
}
