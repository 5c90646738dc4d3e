//! What `init` does to the machine: answers and facts become a plan, the plan is shown, carried out and verified.

pub mod answers;
pub mod apply;
pub mod blockers;
pub mod boot;
pub mod bootstrap;
pub mod by_product;
pub mod certificate;
pub mod closing;
pub mod cloud;
pub mod deeds;
pub mod describe;
pub mod difference;
pub mod facts;
pub mod firewall;
pub mod journal;
mod one_liner;
pub mod opening;
pub mod outside;
pub mod plan;
pub mod ports;
pub mod questions;
pub mod settings;
pub mod suggest;
pub mod trusting;
pub mod undo;
pub mod wanted;
