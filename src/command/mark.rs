//! The mark that every process of a run bears in its environment, and what it tells: which daemon
//! began the run, and when. This module must not signal a process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::environment::RUN_MARK;
use super::tree::{self, Member};
use crate::core::trust::MonotonicDeadline;

/// The run that a mark names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The process id of its daemon.
    daemon: u32,
    /// How many runs that daemon began before.
    number: u64,
    /// When it began, in nanoseconds since the machine was booted.
    began: u64,
}

impl Run {
    /// A run of this process that begins now.
    pub(super) fn begin() -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        Self {
            daemon: std::process::id(),
            number: RUNS.fetch_add(1, Ordering::Relaxed),
            began: MonotonicDeadline::in_(Duration::ZERO).as_nanos(),
        }
    }

    /// The value of [`RUN_MARK`]: no other run on this machine has it until the next boot.
    pub(super) fn value(self) -> String {
        format!("{}-{}-{}", self.daemon, self.number, self.began)
    }

    /// Reads `NAME=value` as it stands in an environment.
    pub(super) fn parse(mark: &str) -> Option<Self> {
        let mut parts = mark.strip_prefix(RUN_MARK)?.strip_prefix('=')?.split('-');
        let run = Self {
            daemon: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
            began: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(run)
    }

    /// The process that began it, if it is still there. One that was born after the run only
    /// got its number.
    pub(super) fn daemon(self) -> Option<Member> {
        let daemon = i32::try_from(self.daemon).ok().and_then(tree::look);
        daemon.filter(|daemon| daemon.born().as_nanos() <= self.began.into())
    }
}

#[cfg(test)]
mod tests {
    use super::Run;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let run = Run::begin();
        let mark = format!("KINDLER_RUN={}", run.value());
        assert_eq!(Run::parse(&mark), Some(run));
        for other in [
            "KINDLER_RUN=x-1-2",
            "KINDLER_RUN=1-2",
            "KINDLER_RUN=1-2-3-4",
            "PATH=1-2-3",
            "KINDLER_RUNS=1-2-3",
        ] {
            assert_eq!(Run::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_process_that_only_got_the_number_is_no_daemon() {
        let now = Run::begin();
        assert!(now.daemon().is_some());
        let before_its_birth = Run { began: 0, ..now };
        assert!(before_its_birth.daemon().is_none());
        let nobody = Run {
            daemon: u32::MAX,
            ..now
        };
        assert!(nobody.daemon().is_none());
    }
}
