//! One file a subject; [`super::sim`] is the world they happen in.

mod algorithms;
mod authentication;
mod conformance;
mod draft;
mod dual;
mod hostile;
mod icmp;
mod lifetimes;
mod limits;
mod live;
mod malformed;
mod model;
mod peers;
mod probes;
mod relaying;
mod shards;
mod vectors;
