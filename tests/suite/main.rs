//! The integration tests: one crate, so that they link once and share one Postgres.

mod access;
mod api;
mod cli;
mod command;
mod controller;
mod deploy;
mod driver;
mod embedded_postgres;
mod faults;
mod house;
mod kit;
mod kit_itself;
mod observability;
mod reconcile;
mod schema;
mod steps;
mod telemetry;
