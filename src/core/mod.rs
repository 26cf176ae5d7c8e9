//! A reconciler for rows of any Postgres table: wake-ups, queue, workers,
//! leases, fences, backoff and steps. Its guide is `docs/LIBRARY.md`.
//!
//! It imports nothing of clusters, HTTP or the command line. From the bottom
//! up: [`backoff`], [`lease`] and [`queue`] are pure; [`database`] and
//! [`listener`] reach Postgres; [`controller`] runs them.

pub mod backoff;
pub mod controller;
pub mod database;
pub mod lease;
pub mod listener;
pub mod metrics;
pub mod queue;
pub mod trust;
pub mod wakeups;
