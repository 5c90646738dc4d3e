//! Decides what is to be done about the certificate of an authority, and when: plain data and `now` in, one step out.
//!
//! `record` is what is remembered between steps, and survives the process. What a step does is left to `task`; so is
//! the certificate that is served meanwhile, which is always the old one.

pub mod record;
mod rehearse;
mod step;

pub use record::{Advice, Attempt, Outcome, Record, Standing};
pub use rehearse::{Scenario, Story, rehearse, scenarios};
pub use step::{Alarm, Authority, Held, Purpose, Reason, State, Step, Wish, alarm, due, next_step};
