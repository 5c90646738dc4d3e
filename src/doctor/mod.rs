//! What is wrong with this host, and why: named checks over evidence that is gathered on demand.
//!
//! `gather` looks, which takes seconds and changes nothing; `judge` decides each check by what was seen; `outcome` puts
//! causes before what follows from them. What cannot be known here is *unknown*, which is neither fine nor a finding. The
//! running service watches itself by `findings`; those are among what is looked at.

pub mod check;
pub mod evidence;
pub mod gather;
pub mod judge;
pub mod outcome;
pub mod remedy;
mod rules;
pub mod vantage;
