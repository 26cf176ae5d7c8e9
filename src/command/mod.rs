//! Runs one host command with limits on time and output, and ends its whole process tree when the
//! daemon may no longer run it.
//!
//! Only this module starts host commands on behalf of clusters. It does not know clusters, does
//! not judge whether a command did its work, and does not retry: it reports how a command ended.
//!
//! # Processes
//!
//! ```text
//! daemon ──control socket──────> guard ──> command ──> its child processes
//!        <──reports─────────────        (own process group, stdin /dev/null)
//!        <──stdout, stderr (pipes)─────
//! ```
//!
//! The daemon starts a [guard] for each command: a small supervisor process that starts the
//! command, adopts every orphan of its process tree, and ends the whole tree when the daemon
//! requests it, when the daemon dies, or when the daemon's [trust](Trust) in its lease expires. The
//! guard also does so while the daemon is stopped (SIGSTOP). `setsid` and double forks do not
//! escape it.
//!
//! # Guarantees
//!
//! - [`Runner::run`] returns only after the process tree has ended, or names the processes that
//!   survived SIGKILL ([`FinishedCommand::survivors`]).
//! - Dropping the future of `run`, or killing the daemon, ends the process tree: SIGTERM at once,
//!   SIGKILL at most two seconds later.
//! - While a process of the tree exists, the [lock](OwnerLocks) of the daemon that started it is
//!   held, unless the process closed the file.
//! - Memory is bounded whatever a command prints, and its output is always drained.
//!
//! # Limits
//!
//! If the guard is killed with SIGKILL, the daemon kills the command's process group and every
//! process with the run's [ID](RUN_ID) in its environment; only a process that left the group *and*
//! cleared its environment escapes. If the daemon is killed too, or both are stopped (SIGSTOP),
//! another daemon on the machine does this ([`Orphans`]). Linux 5.3 or newer (pidfd) is required.

mod capture;
mod control_socket;
mod environment;
mod files;
mod follow;
mod format;
pub mod guard;
mod guard_process;
mod kill_tree;
mod line;
mod log;
mod log_error;
mod log_owner;
mod orphans;
mod outcome;
mod owner_lock;
mod run;
mod run_id;
mod tree;

pub use crate::core::trust::{MonotonicDeadline, Trust};
pub use capture::{STDOUT_KEPT, TAIL_LINE_CHARS, TAIL_LINES, clean_line};
pub use environment::{PASSED_ENV, RUN_ID, WITHHELD_ENV};
pub use files::{FILE_DEADLINE, FileThread, script_files, state_files};
pub use follow::{Follow, LogText, tail, whole};
pub use format::format_problem;
pub use line::{CommandLimits, CommandLine};
pub use log::{CommandLog, LOG_BYTES, LogDir};
pub use log_error::LogError;
pub use log_owner::{Heading, LogFile, LogOwner};
pub use orphans::{Orphans, OrphansEnded, daemons_of_left_runs};
pub use outcome::{Ending, FinishedCommand, SpawnError};
pub use owner_lock::{EndedOwner, OwnerLock, OwnerLocks};
pub use run::{Runner, unconditional_trust};
