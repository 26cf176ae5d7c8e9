//! The integration tests: one crate, so that they link once and share one Postgres.

mod cli;
mod command;
mod embedded_postgres;
mod kit;
mod kit_itself;
