//! One file a subject; [`super::sim`] is the world they happen in.

mod algorithms;
mod authentication;
mod draft;
mod hostile;
mod lifetimes;
mod limits;
mod malformed;
mod peers;
mod relaying;
mod vectors;
