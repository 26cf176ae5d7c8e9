//! A reconciler for the rows of any Postgres table: wake-ups, work queue, workers,
//! leases, fences, backoff and steps. `docs/LIBRARY.md` is the guide.
//!
//! It imports nothing of clusters, HTTP or the command line. From the bottom up:
//! [`backoff`], [`lease`], [`queue`] and [`steps::decide`] are pure; [`database`]
//! and [`listener`] connect to Postgres; [`rows`] claims rows and writes them under
//! leases; [`controller`] runs reconciles and full passes; [`resource`] has the trait
//! to implement, with its contract.

pub mod backoff;
pub mod controller;
pub mod database;
pub mod lease;
pub mod listener;
pub mod metrics;
pub mod object;
pub mod queue;
pub mod refusals;
pub mod resource;
pub mod rows;
pub mod runtime;
pub mod standard;
pub mod steps;
pub mod table;
pub mod trust;
pub mod wakeups;
pub mod work;
pub mod workload;
