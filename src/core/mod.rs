//! A reconciler for rows of any Postgres table: wake-ups, queue, workers,
//! leases, fences, backoff and steps. Its guide is `docs/LIBRARY.md`.
//!
//! It imports nothing of clusters, HTTP or the command line. From the bottom up:
//! [`backoff`], [`lease`], [`queue`] and [`steps::decide`] are pure; [`database`]
//! and [`listener`] reach Postgres; [`rows`] are claimed and written under leases;
//! [`controller`] runs passes; [`resource`] is the trait to implement, and its
//! comment the contract.

pub mod backoff;
pub mod controller;
pub mod database;
pub mod lease;
pub mod listener;
pub mod metrics;
pub mod object;
pub mod queue;
pub mod resource;
pub mod rows;
pub mod runtime;
pub mod standard;
pub mod steps;
pub mod table;
pub mod trust;
pub mod wakeups;
pub mod work;
