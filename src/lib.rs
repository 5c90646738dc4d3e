//! rtcctl: one binary for a WebRTC 1:1 call service.
//!
//! `rtcctl init` sets a host up, `rtcctl start` keeps three things alive on it: an HTTPS page, Socket.IO
//! signaling and a STUN/TURN relay. The code gathers facts, decides, acts; deciding is pure, so it is tested
//! without a socket, a sleep or root.
//!
//! | folder | subject | decides (pure) | acts |
//! |---|---|---|---|
//! | [`setup`] | what `init` does to the machine, and how it is taken back | `plan`, `answers`, `journal::record` | `facts`, `apply`, `undo` |
//! | [`config`] | YAML text to a typed [`config::Config`] | `resolve`, `lines` | `load` |
//! | [`supervisor`] | keeps tasks alive | `policy`, `fleet` | `driver`, `watchdog` |
//! | [`certs`] | what every TLS listener serves now | `leaf` | `local_ca`, `store`, `task` |
//! | [`access`] | who may call | `limiter`, `session`, `shown` | |
//! | [`turn`] | STUN and TURN | `server`, `credentials`, `framer`, `peers` | `plane`, `sockets` |
//! | [`signaling`] | rooms of two | `rooms`, `message` | `socket` |
//! | [`edge`] | accepts every TCP connection | `demux`, `redirect` | `accept`, `arrival`, `connection` |
//! | [`phone`] | the proof by a phone, `rtcctl phone` | `desk`, `report`, `verdict` | |
//! | [`web`] | the page and the API, without sockets | | `task`, `page`, `api` |
//! | [`probe`] | asks the service what a client would | `turn::message`, `turn::hints`, `schedule` | `https`, `rooms`, `stun`, `turn` |
//! | [`doctor`] | what is wrong with this host and why, on demand | `judge`, `outcome` | `gather` |
//! | [`findings`] | what an operator should know | all of it | |
//! | [`archive`] | a diagnosis without secrets; a home in one file | `redact`, `tarball` | `known`, `backup`, `restore` |
//! | [`upgrade`] | another program in the place of this one | `watch` | `program`, `rehearsal` |
//! | [`hooks`] | tells others of findings | `queue` | `command`, `webhook` |
//! | [`guardian`] | keeps the daemon alive where there is no systemd | `core`, `notice`, `store` | `run` |
//! | [`control`] | one JSON line each over a Unix socket | `protocol` | `server`, `client` |
//! | [`cli`] | the words an operator types and reads | | the only place that prints |
//! | [`words`] | the catalogue of texts in English and Chinese, and `explain` | all of it | |
//! | [`sys`] | the operating system's edge | | clock, files, sockets, signals, logs |
//!
//! The feature `faults` adds `supervisor::faults` and the hidden command `rtcctl fault`, by which tests plant panics,
//! hangs, blocked executors, clock jumps and holes in the peer filter in the running service. A build without debug assertions refuses the feature, so no
//! release has them; `scripts/test` looks that the release binary does not.
//!
//! [`daemon`] is the composition root. Arrows between the folders are kept by `tests/architecture.rs`.

#[cfg(all(feature = "faults", not(debug_assertions)))]
compile_error!("the feature `faults` is for tests: a release must have no requests that plant faults");

pub mod access;
pub mod archive;
pub mod certs;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod doctor;
pub mod edge;
pub mod error;
pub mod findings;
pub mod guardian;
pub mod home;
pub mod hooks;
pub mod phone;
pub mod probe;
pub mod setup;
pub mod signaling;
pub mod supervisor;
pub mod sys;
pub mod turn;
pub mod upgrade;
pub mod web;
pub mod words;

pub use cli::run;
