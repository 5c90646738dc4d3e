//! One kind of failure for everything an operator can see: what, on what, why, and what to do.
//!
//! The [`Kind`] fixes the exit code. Printing is left to `cli`.

use std::fmt;

use crate::text;
use crate::words::Text;

/// Whose move it is after a failure. In the order of the exit codes that scripts rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    /// The operator can fix it.
    Operator,
    /// The command line is wrong.
    Usage,
    /// There is no daemon to talk to.
    NotRunning,
    /// The service runs with a finding.
    Degraded,
    /// A task of the service is down.
    TaskDown,
    /// Something outside this host must be done, and that is proven.
    OutsideHost,
    /// An answer is missing; the message names its flag.
    MissingAnswer,
    /// Another run holds the lock.
    Locked,
    /// Only root may do this.
    NeedsRoot,
    /// The change failed and what it had done was taken back.
    RolledBack,
    /// A broken invariant of ours.
    Bug,
    /// The configuration is bad.
    Config,
    /// Ctrl-C, or SIGTERM to a command in the foreground.
    Interrupted,
}

impl Kind {
    /// The process exit code for this kind.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Operator => 1,
            Self::Usage => 2,
            Self::NotRunning => 3,
            Self::Degraded => 10,
            Self::TaskDown => 11,
            Self::OutsideHost => 12,
            Self::MissingAnswer => 13,
            Self::Locked => 14,
            Self::NeedsRoot => 15,
            Self::RolledBack => 16,
            Self::Bug => 70,
            Self::Config => 78,
            Self::Interrupted => 130,
        }
    }
}

/// A failure with its causes, outermost first, and the next steps for whoever reads it.
///
/// Messages are lowercase, without a period, with values in backticks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    kind: Kind,
    message: Text,
    causes: Vec<Text>,
    hints: Vec<Text>,
}

impl Failure {
    /// A failure of the given kind.
    pub fn new(kind: Kind, message: impl Into<Text>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), hints: Vec::new() }
    }

    /// A failure the operator can fix: exit code 1.
    pub fn operator(message: impl Into<Text>) -> Self {
        Self::new(Kind::Operator, message)
    }

    /// A broken invariant of ours: exit code 70.
    pub fn bug(message: impl Into<Text>) -> Self {
        Self::new(Kind::Bug, message)
    }

    /// Adds the reason, and the reasons behind it.
    #[must_use]
    pub fn caused_by(mut self, error: impl std::error::Error + 'static) -> Self {
        if let Some(failure) = (&error as &dyn std::error::Error).downcast_ref::<Self>() {
            self.causes.push(failure.message.clone());
            self.causes.extend(failure.causes.iter().cloned());
            return self;
        }
        self.causes.push(Text::of_error(&error));
        let mut deeper = error.source();
        while let Some(source) = deeper {
            self.causes.push(Text::of_error(source));
            deeper = source.source();
        }
        self
    }

    /// Adds a reason in words.
    #[must_use]
    pub fn because(mut self, reason: impl Into<Text>) -> Self {
        self.causes.push(reason.into());
        self
    }

    /// Adds a next step.
    #[must_use]
    pub fn hinted(mut self, hint: impl Into<Text>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What this failure's exit code comes from.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What failed, in one line.
    #[must_use]
    pub fn message(&self) -> &Text {
        &self.message
    }

    /// The reasons, outermost first.
    #[must_use]
    pub fn causes(&self) -> &[Text] {
        &self.causes
    }

    /// What failed and why, in one text.
    #[must_use]
    pub fn told(&self) -> Text {
        self.causes.iter().fold(self.message.clone(), |told, cause| text!("{}: {}", told, cause))
    }

    /// What to do next.
    #[must_use]
    pub fn hints(&self) -> &[Text] {
        &self.hints
    }
}

/// The message and its causes on one line, in English, for logs. `cli` prints the long form.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message.english())?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {}", cause.english()))
    }
}

impl std::error::Error for Failure {}

/// The result of anything an operator may hear about.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_collected_through_the_whole_chain() {
        #[derive(Debug)]
        struct Outer(std::io::Error);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("outer")
            }
        }
        impl std::error::Error for Outer {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }
        let failure = Failure::operator("it failed").caused_by(Outer(std::io::Error::other("inner")));
        assert_eq!(failure.causes(), ["outer", "inner"]);
        assert_eq!(failure.to_string(), "it failed: outer: inner");
    }
}
