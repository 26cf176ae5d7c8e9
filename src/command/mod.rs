//! Runs one host command safely: bounded in time and output, and never outliving its right.
//!
//! This is the only place that starts host commands on behalf of clusters. It must not know what
//! a cluster is, judge whether a command did its work, or retry: it reports how a command ended.
//!
//! # How a command is kept in hand
//!
//! ```text
//! daemon ──lifeline (socket)──> guard ──> command ──> whatever it starts
//!        <──reports────────────         (own process group, stdin /dev/null)
//!        <──stdout, stderr (pipes)──────
//! ```
//!
//! The daemon never starts a command itself. It starts a [guard], a tiny process that
//! adopts every orphan below it and ends the whole tree when the daemon says so, when the daemon
//! is gone, or when the daemon's [trust](Trust) in its lease has run out: also when the daemon is
//! stopped (SIGSTOP) and could not do it. `setsid` and double forks do not escape it.
//!
//! # Guarantees
//!
//! - [`Runner::run`] returns only after the tree is gone, or names the processes that even
//!   SIGKILL did not end ([`Finished::survivors`]).
//! - Dropping the future of `run`, or killing the daemon, ends the tree: SIGTERM at
//!   once, SIGKILL at most two seconds later.
//! - Memory is bounded whatever a command prints, and its output is always drained.
//!
//! # Limits
//!
//! A guard killed with SIGKILL cannot guard. The daemon then kills the command's process group
//! and everything that carries the run's [mark](RUN_MARK); only a process that left the group
//! *and* cleared its environment escapes. Where the daemon is killed with it, or both stand still
//! (SIGSTOP), another daemon on the machine does the same ([`Orphans`]). Linux 5.3 or
//! newer (pidfd) is needed.

mod capture;
mod environment;
mod follow;
pub mod guard;
mod guard_process;
mod hunt;
mod lifeline;
mod line;
mod log;
mod log_error;
mod log_owner;
mod mark;
mod orphans;
mod outcome;
mod run;
mod tree;

pub use crate::core::trust::{MonotonicDeadline, Trust};
pub use capture::{STDOUT_KEPT, TAIL_LINE_CHARS, TAIL_LINES, clean_line};
pub use environment::{PASSED_ENV, RUN_MARK, WITHHELD_ENV};
pub use follow::{Follow, tail};
pub use line::{CommandLine, Limits};
pub use log::{CommandLog, LOG_BYTES, LogDir};
pub use log_error::LogError;
pub use log_owner::{Heading, LogFile, LogOwner};
pub use orphans::{Orphans, OrphansEnded};
pub use outcome::{Ending, Finished, SpawnError};
pub use run::{Runner, unconditional_trust};
