//! What an operator takes along: a diagnosis without secrets, and a home with them.
//!
//! `redact` decides what of a text is left out; `known` finds the secrets of a home, by which it decides; `tarball`
//! makes and reads archives in memory, and refuses what is not one of ours; `backup` and `restore` are the two ends of
//! a home's way into a file.

mod backup;
mod known;
mod redact;
mod restore;
mod tarball;

pub use backup::{Backup, Kept, back_up};
pub use known::known_secrets;
pub use redact::Redactor;
pub use restore::{Restored, restore};
pub use tarball::{Member, pack};
