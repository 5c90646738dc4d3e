//! What `init` does to the machine: facts, plan, apply.

pub mod answers;
