//! Steps end to end: the real binary, real Postgres, real sandbox nodes. Faults are
//! injected from outside: kill -9, configured failures and delays, files and rows that
//! are changed by hand. The tests check the rows of `cluster_steps` and
//! `cluster_events`, the process table and the files of the sandbox.

mod batches;
mod boundaries;
mod drift;
mod failures;
mod hangs;
mod hung_folder;
mod identity;
mod removal;
mod resume;
pub mod rig;
mod standard;
mod statement_log;
mod statements;
mod stops;
mod tables;
mod two_tables;
mod versions;

/// The steps of a sandbox cluster, first to last.
const STEPS: [&str; 5] = ["folder", "port", "process", "ready", "about"];
