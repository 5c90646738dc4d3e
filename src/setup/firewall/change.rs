//! What is done to the host: a command or a file, shown as what one would type.

use std::path::PathBuf;

use crate::sys::exec::shell::word;

/// One step. Its text is a command for a shell that does the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    Run(Vec<String>),
    /// With permission bits for a file that is new; one that is there keeps its own.
    Write {
        path: PathBuf,
        text: String,
        mode: u32,
    },
    Remove {
        path: PathBuf,
    },
}

impl Change {
    /// A command from words that are separated by single spaces.
    #[must_use]
    pub fn command(line: &str) -> Self {
        Self::Run(line.split(' ').map(str::to_owned).collect())
    }

    /// A command from its words.
    #[must_use]
    pub fn words<const N: usize>(words: [&str; N]) -> Self {
        Self::Run(words.map(str::to_owned).to_vec())
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run(words) => {
                let words: Vec<String> = words.iter().map(|text| word(text)).collect();
                f.write_str(&words.join(" "))
            }
            Self::Write { path, text, mode } => {
                let path = word(&path.to_string_lossy());
                write!(f, "install -m {mode:o} /dev/stdin {path} <<'END'\n{}\nEND", text.trim_end_matches('\n'))
            }
            Self::Remove { path } => write!(f, "rm -f {}", word(&path.to_string_lossy())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_as_one_would_type_it() {
        let rule = Change::words(["nft", "add", "rule", "inet", "filter", "input", "tcp dport { 80 }", "it's"]);
        assert_eq!(rule.to_string(), r"nft add rule inet filter input 'tcp dport { 80 }' 'it'\''s'");
        let file = Change::Write { path: "/etc/a b".into(), text: "x\ny\n".to_owned(), mode: 0o640 };
        assert_eq!(file.to_string(), "install -m 640 /dev/stdin '/etc/a b' <<'END'\nx\ny\nEND");
        assert_eq!(Change::Remove { path: "/etc/a".into() }.to_string(), "rm -f /etc/a");
    }
}
