//! The integration tests: one crate, so that they link once and share one Postgres.

mod access;
mod api;
mod architecture;
mod cli;
mod command;
mod controller;
mod deploy;
mod driver;
mod embedded_postgres;
mod faults;
mod induced;
mod kit;
mod kit_tests;
mod native;
mod observability;
mod reconcile;
mod schema;
mod steps;
mod telemetry;
