//! What `init` does to the machine: facts, plan, apply.
