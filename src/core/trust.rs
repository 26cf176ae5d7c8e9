//! Until when the owner trusts its lease: an instant of a clock that all processes of the
//! machine share.
//! This module must not decide what happens when the trust ends.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The instant until which the lease is trusted; each renewal updates it.
///
/// If the sender is dropped, the last deadline stays.
pub type Trust = tokio::sync::watch::Receiver<MonotonicDeadline>;

/// An absolute instant on a clock that is never set and that includes suspended time.
///
/// It is `CLOCK_BOOTTIME`, the monotonic clock that continues while the machine is suspended: a
/// laptop that resumes after its lease expired must notice that. The daemon and its guards run on
/// one machine, so the number means the same instant to both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonotonicDeadline {
    nanos: u64,
}

impl MonotonicDeadline {
    /// The instant `after` from now. Take it *before* the request for the lease, so that the
    /// duration of the request counts as used.
    pub fn in_(after: Duration) -> Self {
        let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Self {
            nanos: now_nanos().saturating_add(after),
        }
    }

    /// A deadline that never passes, for commands that need no lease.
    pub const fn never() -> Self {
        Self { nanos: u64::MAX }
    }

    /// Whether the instant has passed.
    pub fn passed(self) -> bool {
        self.remaining().is_zero()
    }

    /// The time left, zero once it has passed.
    pub fn remaining(self) -> Duration {
        Duration::from_nanos(self.nanos.saturating_sub(now_nanos()))
    }

    /// The number that is sent to the guard.
    pub(crate) fn as_nanos(self) -> u64 {
        self.nanos
    }

    /// The instant of a number that the daemon sent.
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
    fn never_does_not_pass_and_durations_do_not_overflow() {
        assert!(!MonotonicDeadline::never().passed());
        assert_eq!(
            MonotonicDeadline::in_(Duration::MAX),
            MonotonicDeadline::never()
        );
    }

    #[test]
    fn a_deadline_survives_the_way_to_the_guard() {
        let deadline = MonotonicDeadline::in_(Duration::from_secs(5));
        assert_eq!(MonotonicDeadline::from_nanos(deadline.as_nanos()), deadline);
    }
}
