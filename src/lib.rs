//! Kindler keeps local Kubernetes clusters as their rows in Postgres declare
//! them.
//!
//! # The map
//! Imports go downwards only; `tests/suite/house.rs` holds the source to it.
//!
//! **Floor 3, outside.** `cli` (commands and their output), `daemon` (the
//! parts of a running process and their end), `http` (health, readiness,
//! metrics), `config` (settings).
//!
//! **Floor 2, conduct.** `reconcile` (one pass over one cluster),
//! `controller` (queue, workers and resync of any reconciler over any table;
//! it knows no cluster).
//!
//! **Floor 1, edges, one outside thing each.** `store` (the only SQL),
//! `listener` (wake-ups), `live` (changes, for everybody who looks), `driver`
//! (clusters on the host), `command` (the only process spawner), `metrics`,
//! `postgres` (the embedded server).
//!
//! **Floor 0, pure: no async, no clock, no randomness.** [`plan`] (what to
//! do), [`cluster`] (a row), [`observation`], [`event`] (reasons), [`health`],
//! [`backoff`], [`lease`], [`queue`], [`duration`], [`cause`], [`redact`],
//! [`access`] (scopes and secrets).
//!
//! A reader in a hurry reads [`plan`], then `reconcile`.

pub mod access;
pub mod backoff;
pub mod cause;
pub mod cli;
pub mod cluster;
pub mod command;
pub mod config;
pub mod controller;
pub mod daemon;
pub mod driver;
pub mod duration;
pub mod event;
pub mod health;
pub mod http;
pub mod lease;
pub mod listener;
pub mod live;
pub mod metrics;
pub mod observation;
pub mod plan;
pub mod postgres;
pub mod queue;
pub mod reconcile;
pub mod redact;
pub mod store;
