//! Breaks what is told to people at the width of their terminal: between words, and never inside of a command, which is
//! to be copied.

use dialoguer::console::{Term, measure_text_width as width};

/// What is written to somebody who reads it in fewer columns is not broken any more.
const NARROWEST: usize = 40;
/// A last column that is narrower than this goes to lines of its own.
const NARROW_CELL: usize = 24;
/// How far such lines are indented.
const INDENT: usize = 6;

/// Breaks the rows of a plan if standard output is a terminal.
pub(super) fn for_terminal(text: &str) -> String {
    match Term::stdout().size_checked() {
        Some((_, columns)) if Term::stdout().is_term() => rows(text, columns.into()),
        Some(_) | None => text.to_owned(),
    }
}

/// Each line by itself: the last cell of a row of a table, and prose that begins at the margin.
pub(super) fn rows(text: &str, columns: usize) -> String {
    let lines: Vec<String> = text.lines().map(|line| row(line, columns)).collect();
    lines.join("\n")
}

fn row(line: &str, columns: usize) -> String {
    if columns < NARROWEST || width(line) <= columns {
        return line.to_owned();
    }
    let body = line.trim_start();
    let indent = line.len() - body.len();
    match body.rfind("  ") {
        Some(gap) => {
            let (before, cell) = line.split_at(indent + gap + 2);
            let at = width(before);
            if columns >= at + NARROW_CELL {
                return fill(before, cell, at, columns);
            }
            format!("{}\n{}", before.trim_end(), fill(&" ".repeat(INDENT), cell, INDENT, columns))
        }
        None if indent == 0 => fill("", line, 0, columns),
        // A command, or a path.
        None => line.to_owned(),
    }
}

/// A line that is broken at so many columns, with what follows indented. What has lines of its own stays as it is.
pub(super) fn prose(line: &str, indent: usize, columns: usize) -> String {
    if columns < NARROWEST || line.contains('\n') || width(line) <= columns {
        return line.to_owned();
    }
    let begin = line.len() - line.trim_start().len();
    fill(&line[..begin], &line[begin..], indent, columns)
}

/// The columns of the terminal that standard error is; without bounds if it is none.
pub(super) fn columns_of_talk() -> usize {
    let term = Term::stderr();
    let size = term.size_checked().filter(|_| term.is_term());
    size.map_or(usize::MAX, |(_, columns)| columns.into())
}

/// Prose behind `start`, with all following lines indented.
pub(super) fn fill(start: &str, prose: &str, indent: usize, columns: usize) -> String {
    let mut filled = start.to_owned();
    let mut at = width(start);
    for (index, word) in words(prose).into_iter().enumerate() {
        let is_first = index == 0;
        if !is_first && at + width(word.trim_end()) > columns {
            filled.truncate(filled.trim_end().len());
            filled.push('\n');
            filled.push_str(&" ".repeat(indent));
            at = indent;
        }
        filled.push_str(word);
        at += width(word);
    }
    filled.truncate(filled.trim_end().len());
    filled
}

/// What stays together, each with the blanks behind it: words, and Chinese signs with the punctuation that may not begin
/// a line.
fn words(prose: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut is_typed) = (0, false);
    let symbols: Vec<(usize, char)> = prose.char_indices().collect();
    for pair in symbols.windows(2) {
        let [(_, one), (at, next)] = *pair else { continue };
        // What is typed stays in one piece.
        is_typed ^= one == '`';
        let is_break = !is_typed
            && match (one, next) {
                (_, ' ') => false,
                (' ', _) => true,
                (_, '，' | '。' | '；' | '：' | '、' | '）' | '？' | '！' | ')' | '`') => false,
                ('（' | '(' | '`', _) => false,
                (one, next) => is_wide(one) || is_wide(next),
            };
        if is_break {
            words.push(&prose[start..at]);
            start = at;
        }
    }
    words.push(&prose[start..]);
    words
}

/// Chinese signs and their punctuation.
fn is_wide(symbol: char) -> bool {
    matches!(symbol, '\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ff60}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_broken_in_either_language_and_a_short_one_or_one_of_several_is_not() {
        let english = "  raise the limit: `LimitNOFILE=` of the unit, or `ulimit -n`";
        let wanted = "  raise the limit: `LimitNOFILE=` of the\n    unit, or `ulimit -n`";
        assert_eq!(prose(english, 4, 40), wanted);
        let chinese = "  提高上限：单元文件中的 `LimitNOFILE=`，或先执行 `ulimit -n`";
        for columns in [40, 50, 60] {
            let told = prose(chinese, 4, columns);
            assert!(told.lines().all(|line| width(line) <= columns), "{told}");
            assert!(told.contains("`LimitNOFILE=`") && told.contains("`ulimit -n`"), "{told}");
        }
        for same in ["short", "one\n  of several lines of which this one is a long one"] {
            assert_eq!(prose(same, 2, 40), same);
        }
    }

    #[test]
    fn rows_are_broken_between_words_and_commands_not_at_all() {
        let text =
            "  cert         self-signed              default       by a local authority; a device may trust it once";
        let broken = rows(text, 80);
        let lines: Vec<&str> = broken.lines().collect();
        assert!(lines.len() == 2 && lines.iter().all(|line| width(line) <= 80), "{broken}");
        assert!(lines[1].starts_with(&" ".repeat(54)), "{broken}");
        let narrow = rows(text, 60);
        let expected =
            "  cert         self-signed              default\n      by a local authority; a device may trust it once";
        assert_eq!(narrow, expected);
        let command = format!("    nft insert rule inet filter input {}", "tcp dport 443 accept ".repeat(4).trim_end());
        assert_eq!(rows(&command, 60), command);
        assert_eq!(rows(text, 20), text);
    }

    #[test]
    fn chinese_is_broken_at_its_own_width_and_no_line_begins_with_a_comma() {
        let text = "  peers        lan                      默认值        局域网的呼叫者使用内网地址，中继必须能到达";
        for columns in [60, 79, 80, 81] {
            let broken = rows(text, columns);
            assert!(broken.lines().all(|line| width(line) <= columns + 2), "{columns}: {broken}");
            assert!(broken.lines().all(|line| !line.trim_start().starts_with('，')), "{broken}");
        }
        assert_eq!(fill("", "用 `rtcctl start` 启动", 0, 17), "用 `rtcctl start`\n启动");
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_but_blanks(prose in "[a-z 中文，]{0,80}", columns in 10_usize..90) {
            let bare = |text: &str| text.chars().filter(|symbol| !symbol.is_whitespace()).collect::<String>();
            proptest::prop_assert_eq!(bare(&fill("", &prose, 2, columns)), bare(&prose));
        }
    }
}
