//! One file a subject; [`super::sim`] is the world they happen in.

mod authentication;
mod hostile;
mod lifetimes;
mod peers;
mod relaying;
mod vectors;
