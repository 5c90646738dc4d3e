//! Keeps tasks alive: decides in `policy`, acts in `driver`.

pub mod board;
pub mod driver;
pub mod handover;
pub mod policy;
pub mod service;
