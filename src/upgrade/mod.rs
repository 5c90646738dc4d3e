//! Another program in the place of this one: looked at, rehearsed, put in place, watched, and taken back if it fails.
//!
//! `program` reads and swaps files; `rehearsal` runs the new one in a home of its own; `watch` decides whether what is
//! seen after the swap is worse than before. Who starts what anew is up to the caller.

mod program;
mod rehearsal;
mod watch;

pub use program::{Candidate, Place, digest_of};
pub use rehearsal::{Program, rehearse};
pub use watch::{Seen, Verdict, judge};
