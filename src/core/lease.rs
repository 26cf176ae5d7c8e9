//! The right to act on one row: a term number and the time it is trusted.
//!
//! The database judges expiry by its own clock. The owner trusts its lease for
//! less: from *before* the request that won or renewed it, for four fifths of
//! its lifetime, on the monotonic clock. The last fifth is for ending commands.
//! Pure: only durations here.

use std::fmt;
use std::time::Duration;

/// The fence: a number from one sequence of the database, so no two claims of
/// any row ever share one and a later claim has the larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub i64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How long leases live, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeasePolicy {
    /// The lifetime that the database gives a lease.
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
    /// How long a lease is trusted, counted from before it was asked for.
    pub fn trusted_for(&self) -> Duration {
        self.ttl.mul_f64(0.8)
    }

    /// How often a held lease is renewed: two renewals may fail before the
    /// trust ends.
    pub fn renew_every(&self) -> Duration {
        self.ttl / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_ends_before_the_lease_and_after_two_lost_renewals() {
        let policy = LeasePolicy::default();
        assert!(policy.trusted_for() < policy.ttl);
        assert!(policy.renew_every() * 3 < policy.trusted_for());
    }
}
