//! Kindler reconciles local Kubernetes clusters with their rows in Postgres.
//!
//! # The map
//! Imports point downwards only; `tests/suite/architecture.rs` checks it.
//!
//! **Outside.** `cli` (commands and their output), `daemon` (the parts of a running
//! process), `http` (page, API, health, metrics), `config` (settings).
//!
//! **Reconcile.** `clusters::reconcile` (one reconcile of one cluster).
//!
//! **Edges.** `store` (the clusters' tables), `live` (changes, for every open page
//! and stream), `drivers` (clusters on the host), `command` (runs host commands),
//! `metrics`, `postgres` (the embedded server). Besides `command`, only `postgres`
//! (its server programs) and the sandbox driver (its nodes) start processes.
//!
//! **The domain, pure: no async, no clock, no randomness.** [`clusters`] (except
//! `clusters::reconcile`): rows and specs, observations, reasons, health, and
//! [`clusters::plan`] (decides the next action); [`access`] (scopes and secrets).
//!
//! **The core.** [`core`]: a reconciler for rows of any table. It imports nothing of
//! clusters, HTTP or the command line.
//!
//! **Texts.** [`duration`], [`cause`], [`redact`], pure; [`findings`] (what is wrong around
//! a daemon).
//!
//! SQL is in `sql/`, [`core`], `store` and `postgres` only. To start reading, take
//! [`clusters::plan`], then `clusters::reconcile`.

// The tests share a sample row, which names this crate.
#[cfg(test)]
extern crate self as kindler;

pub mod access;
pub mod cause;
pub mod cli;
pub mod clusters;
pub mod command;
pub mod config;
pub mod core;
pub mod daemon;
pub mod drivers;
pub mod duration;
pub mod findings;
pub mod http;
pub mod live;
pub mod metrics;
pub mod postgres;
pub mod redact;
pub mod store;
