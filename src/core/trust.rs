//! Until when the owner's lease is trusted, as an instant that two processes read alike.
//! This module must not decide what happens when trust ends.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The right to run, kept fresh by the owner of the lease.
///
/// When the sender is dropped the last deadline stands: nothing extends it any more.
pub type Trust = tokio::sync::watch::Receiver<MonotonicDeadline>;

/// An absolute instant on a clock that is never set and that counts time in suspend.
///
/// It is `CLOCK_BOOTTIME`, the monotonic clock that goes on while the machine sleeps: a laptop
/// that wakes up after its lease ran out must not believe that no time has passed. The daemon
/// and its guards share the machine, so the bare number means the same to both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonotonicDeadline {
    nanos: u64,
}

impl MonotonicDeadline {
    /// This long from now. Take it *before* asking the database for the lease, so that the time
    /// of the request is not trusted twice.
    pub fn in_(after: Duration) -> Self {
        let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Self {
            nanos: now_nanos().saturating_add(after),
        }
    }

    /// A deadline that does not come: for commands that need no lease.
    pub const fn never() -> Self {
        Self { nanos: u64::MAX }
    }

    /// Whether the instant has come.
    pub fn passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// The time left, zero once it has passed.
    pub fn remaining(self) -> Duration {
        Duration::from_nanos(self.nanos.saturating_sub(now_nanos()))
    }

    /// The number that travels to the guard.
    pub(crate) fn as_nanos(self) -> u64 {
        self.nanos
    }

    /// The instant that the number from the daemon means.
    pub(crate) fn from_nanos(nanos: u64) -> Self {
        Self { nanos }
    }
}

fn now_nanos() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::MonotonicDeadline;

    #[test]
    fn a_deadline_of_no_time_has_passed() {
        assert!(MonotonicDeadline::in_(Duration::ZERO).passed());
        assert!(!MonotonicDeadline::in_(Duration::from_secs(60)).passed());
    }

    #[test]
    fn never_does_not_pass_and_the_longest_duration_does_not_overflow() {
        assert!(!MonotonicDeadline::never().passed());
        assert_eq!(
            MonotonicDeadline::in_(Duration::MAX),
            MonotonicDeadline::never()
        );
    }

    #[test]
    fn the_number_means_the_same_instant_to_the_guard() {
        let deadline = MonotonicDeadline::in_(Duration::from_secs(5));
        assert_eq!(MonotonicDeadline::from_nanos(deadline.as_nanos()), deadline);
    }
}
