//! Spans of time, amounts of data and numbers of things, for people, and lines that fit their terminal.

use std::io::IsTerminal as _;

use dialoguer::console::{Term, measure_text_width, truncate_str};

/// How alike a word must be to be suggested.
const ALIKE: f64 = 0.75;

/// Whole seconds in the two units that matter.
#[must_use]
pub(super) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        (_, _, _) => format!("{days}d {hours}h"),
    }
}

/// Bytes in decimal units, as networks are measured.
#[must_use]
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut tenths = count / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A number of things, by their singular and plural.
#[must_use]
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The columns of the terminal that standard output is; without bounds if it is none.
#[must_use]
pub(super) fn columns_of_output() -> usize {
    let size = Term::stdout().size_checked().filter(|_| std::io::stdout().is_terminal());
    size.map(|(_, columns)| usize::from(columns)).filter(|columns| *columns > 0).unwrap_or(usize::MAX)
}

/// A line that is no wider: symbols of East Asia take two columns, and escape codes none.
#[must_use]
pub(super) fn fitted(line: &str, columns: usize) -> String {
    if measure_text_width(line) <= columns { line.to_owned() } else { truncate_str(line, columns, "~").into_owned() }
}

/// The known word that is most like this one, if it is alike enough to be suggested.
pub(super) fn alike<'a>(known: impl Iterator<Item = &'a str>, word: &str) -> Option<&'a str> {
    let scored = known.map(|known| (strsim::jaro_winkler(known, word), known));
    let best = scored.filter(|(score, _)| *score >= ALIKE).max_by(|one, other| one.0.total_cmp(&other.0));
    best.map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        let texts: Vec<String> = [0, 59, 60, 3599, 3600, 86_399, 86_400, 1_000_000].map(span).into();
        assert_eq!(texts, ["0s", "59s", "1m 0s", "59m 59s", "1h 0m", "23h 59m", "1d 0h", "11d 13h"]);
    }

    #[test]
    fn a_line_is_cut_by_the_columns_that_it_takes() {
        let texts = ["abcdef", "没有内存", "\x1b[31m没有内存\x1b[0m"].map(|line| fitted(line, 6));
        assert_eq!([&texts[0], &texts[1]], ["abcdef", "没有~"]);
        assert!(measure_text_width(&texts[2]) == 5 && texts[2].starts_with("\x1b[31m"), "{:?}", texts[2]);
    }

    #[test]
    fn amounts_keep_one_digit() {
        let texts: Vec<String> = [999, 1000, 999_999, 1_000_000, 123_456_789_000].map(bytes).into();
        assert_eq!(texts, ["999 B", "1.0 kB", "999.9 kB", "1.0 MB", "123.4 GB"]);
    }
}
