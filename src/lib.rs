//! Kindler keeps local Kubernetes clusters as their rows in Postgres declare
//! them.
//!
//! # The map
//! Imports point downwards only; `tests/suite/architecture.rs` checks it.
//!
//! **Outside.** `cli` (commands and their output), `daemon` (the parts of a
//! running process and their end), `http` (page, API, health, metrics), `config`
//! (settings).
//!
//! **Conduct.** `clusters::reconcile` (one pass over one cluster).
//!
//! **Edges, one outside thing each.** `store` (the clusters' tables), `live`
//! (changes, for everybody who looks), `drivers` (clusters on the host),
//! `command` (the only process spawner), `metrics`, `postgres` (the embedded
//! server).
//!
//! **The domain, pure: no async, no clock, no randomness.** [`clusters`]: a row
//! and its spec, observations, reasons, health, and [`clusters::plan`] (what to
//! do); [`access`] (scopes and secrets).
//!
//! **The core.** [`core`]: a reconciler for rows of any table. It imports nothing
//! of clusters, HTTP or the command line.
//!
//! **Pure words.** [`duration`], [`cause`], [`redact`].
//!
//! A reader in a hurry reads [`clusters::plan`], then `clusters::reconcile`.

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
pub mod http;
pub mod live;
pub mod metrics;
pub mod postgres;
pub mod redact;
pub mod store;
