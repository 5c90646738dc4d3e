//! The Chinese for each text that is marked in the source, by its English, in a table for each subject.
//!
//! What stands in backticks is typed and stays as it is; values keep their places, or are counted where Chinese wants
//! them in another order.

mod certs;
mod checks;
mod cli;
mod config;
mod doctor;
mod findings;
mod host;
mod probe;
mod rest;
mod setup;

const TABLES: [&[(&str, &str)]; 10] = [
    certs::TABLE,
    checks::TABLE,
    cli::TABLE,
    config::TABLE,
    doctor::TABLE,
    findings::TABLE,
    host::TABLE,
    probe::TABLE,
    rest::TABLE,
    setup::TABLE,
];

pub(super) fn all() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    TABLES.into_iter().flatten()
}
