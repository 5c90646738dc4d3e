//! Keeps tasks alive: decides in `policy`, acts in `driver`.

pub mod board;
pub mod handover;
pub mod service;
