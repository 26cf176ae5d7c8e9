//! The ID of a run, which every process of the run has in its environment. It names the daemon that
//! started the run, and the time. This module does not signal processes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::environment::RUN_ID;
use super::tree::{self, ProcessInfo};
use crate::core::trust::MonotonicDeadline;

/// Identifies one run of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunId {
    /// The PID of the daemon.
    daemon: u32,
    /// The number of runs that the daemon started before.
    number: u64,
    /// The time of the start, in nanoseconds since boot.
    started: u64,
}

impl RunId {
    /// The ID of a run that this process starts now.
    pub(super) fn new() -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        Self {
            daemon: std::process::id(),
            number: RUNS.fetch_add(1, Ordering::Relaxed),
            started: MonotonicDeadline::in_(Duration::ZERO).as_nanos(),
        }
    }

    /// The value of [`RUN_ID`]: unique on this machine until the next boot.
    pub(super) fn value(self) -> String {
        format!("{}-{}-{}", self.daemon, self.number, self.started)
    }

    /// Parses `NAME=value`, as in an environment.
    pub(super) fn parse(variable: &str) -> Option<Self> {
        let mut parts = variable.strip_prefix(RUN_ID)?.strip_prefix('=')?.split('-');
        let id = Self {
            daemon: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(id)
    }

    /// The PID of the daemon that started the run.
    pub(super) fn daemon_pid(self) -> u32 {
        self.daemon
    }

    /// The daemon that started the run, if it still runs. A process that started after the run only
    /// reuses its PID.
    pub(super) fn daemon(self) -> Option<ProcessInfo> {
        let daemon = i32::try_from(self.daemon).ok().and_then(tree::process);
        daemon.filter(|daemon| daemon.started().as_nanos() <= self.started.into())
    }
}

#[cfg(test)]
mod tests {
    use super::RunId;

    #[test]
    fn a_run_id_is_parsed_as_it_was_written() {
        let id = RunId::new();
        let variable = format!("KINDLER_RUN={}", id.value());
        assert_eq!(RunId::parse(&variable), Some(id));
        for other in [
            "KINDLER_RUN=x-1-2",
            "KINDLER_RUN=1-2",
            "KINDLER_RUN=1-2-3-4",
            "PATH=1-2-3",
            "KINDLER_RUNS=1-2-3",
        ] {
            assert_eq!(RunId::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_process_that_reuses_the_pid_is_not_the_daemon() {
        let now = RunId::new();
        assert!(now.daemon().is_some());
        let before_it_started = RunId { started: 0, ..now };
        assert!(before_it_started.daemon().is_none());
        let no_process = RunId {
            daemon: u32::MAX,
            ..now
        };
        assert!(no_process.daemon().is_none());
    }
}
