//! The exclusive right to act on one row: a term, and the time for which it is trusted.
//!
//! The database decides by its own clock when a lease expires. The owner trusts it for
//! less: for four fifths of its lifetime, on the monotonic clock, counted from *before*
//! the request that won or renewed it. The last fifth is for ending commands. Pure:
//! only durations.

use std::fmt;
use std::time::Duration;

/// The number of a lease, from one sequence of the database: no two claims of any rows
/// share one, and a later claim has a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub i64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The longest time between two renewals.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The lifetime of leases, and the times that follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeasePolicy {
    /// The lifetime of a lease in the database.
    pub ttl: Duration,
}

impl Default for LeasePolicy {
    /// 15 s.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(15),
        }
    }
}

impl LeasePolicy {
    /// How long a lease is trusted, counted from before its request.
    pub fn trusted_for(&self) -> Duration {
        self.ttl.mul_f64(0.8)
    }

    /// The time between two renewals: two may fail before the trust ends. A long lease is
    /// renewed as often, because each renewal also reads the row.
    pub fn renew_every(&self) -> Duration {
        (self.ttl / 4).min(LONGEST_PAUSE)
    }

    /// The time between the end of the trust and the earliest takeover. Commands that still
    /// run must end within it, so nothing that delays their end may be longer.
    pub fn margin(&self) -> Duration {
        self.ttl - self.trusted_for()
    }

    /// How long after the end of the trust a guard may take to end its command, before the
    /// daemon does so itself: most of the margin is left for that.
    pub fn guard_answers_within(&self) -> Duration {
        self.margin() / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_ends_before_expiry_and_after_two_failed_renewals() {
        let policy = LeasePolicy::default();
        assert!(policy.trusted_for() < policy.ttl);
        assert!(policy.renew_every() * 3 < policy.trusted_for());
    }

    #[test]
    fn every_time_is_a_part_of_the_lifetime() {
        for seconds in [2, 3, 5, 10, 15, 600] {
            let ttl = Duration::from_secs(seconds);
            let policy = LeasePolicy { ttl };
            assert!(policy.margin() > Duration::ZERO);
            assert!(policy.trusted_for() + policy.margin() <= ttl);
            assert!(policy.guard_answers_within() < policy.margin() / 3);
        }
    }
}
