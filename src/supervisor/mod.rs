//! Keeps tasks alive: decides in `policy`, acts in `driver`.

pub mod board;
pub mod capsule;
pub mod driver;
pub mod events;
pub mod handover;
pub mod policy;
pub mod service;
