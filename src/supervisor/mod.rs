//! Keeps tasks alive: decides in `policy`, `fleet` and `silence`, acts in `driver` and `watchdog`, remembers in `events`.

pub mod board;
pub mod capsule;
pub mod driver;
pub mod events;
#[cfg(feature = "faults")]
pub mod faults;
pub mod fleet;
pub mod handover;
pub mod instance;
pub mod panics;
pub mod policy;
pub mod service;
mod silence;
pub mod watchdog;
