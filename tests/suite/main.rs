//! The integration tests: one crate, so that they link once and share one Postgres.

mod command;
mod driver;
mod embedded_postgres;
mod kit;
mod kit_itself;
