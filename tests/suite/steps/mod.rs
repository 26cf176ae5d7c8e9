//! Steps end to end: the real binary, real Postgres, real sandbox nodes. Faults
//! come from outside: kill -9, ordered failures and delays, files and rows that are
//! changed by hand. The oracle is outside too: the rows of `cluster_steps` and
//! `cluster_events`, the process table, the files of the sandbox.

mod batches;
mod boundaries;
mod drift;
mod failures;
mod hangs;
mod identity;
mod log;
mod removal;
mod resume;
pub mod rig;
mod standard;
mod statements;
mod stops;
mod tables;
mod things;
mod versions;

/// The steps of a sandbox cluster, first to last.
const STEPS: [&str; 5] = ["folder", "port", "process", "ready", "about"];
