//! The delay before the next attempt.
//!
//! This is the only module that uses the `backoff` crate, and it uses only its
//! computation of delays: attempts and times of next attempts are columns of the row,
//! so they survive restarts and no worker sleeps. The crate is unmaintained
//! (RUSTSEC-2025-0012); to replace it, replace this file. The module is pure: the
//! jitter is an argument.

use std::time::{Duration, Instant};

use ::backoff::backoff::Backoff as _;
use ::backoff::exponential::ExponentialBackoff;

/// The documented delays double: 5 s, 10 s, 20 s, 40 s ...
const MULTIPLIER: f64 = 2.0;

/// The share of a delay that jitter may subtract, so that rows that failed together
/// are not retried together.
const JITTER_SHARE: f64 = 0.2;

/// Number of doublings after which every sensible delay is at its maximum.
const MAX_DOUBLINGS: u32 = 40;

/// An exponential backoff between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub initial: Duration,
    /// The longest delay.
    pub max: Duration,
}

impl Default for Backoff {
    /// 5 s doubling to 5 min.
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(5),
            max: Duration::from_secs(300),
        }
    }
}

/// The clock that the crate requires. The crate reads it only to bound the total
/// elapsed time, and that bound is off.
#[derive(Debug)]
struct NoClock(Instant);

impl ::backoff::Clock for NoClock {
    fn now(&self) -> Instant {
        self.0
    }
}

impl Backoff {
    /// The delay after `failures` failures in a row (at least one). `jitter`, in
    /// `0.0..1.0`, subtracts up to a fifth of it.
    ///
    /// With the defaults and no jitter: 5 s, 10 s, 20 s, 40 s, 80 s, 160 s, then
    /// always 5 min.
    pub fn delay(&self, failures: u32, jitter: f64) -> Duration {
        let mut steps = self.steps();
        let mut delay = self.initial;
        for _ in 0..failures.clamp(1, MAX_DOUBLINGS) {
            delay = steps.next_backoff().unwrap_or(self.max);
        }
        delay
            .min(self.max)
            .mul_f64(1.0 - JITTER_SHARE * jitter.clamp(0.0, 1.0))
    }

    /// The longest delay, for failures that a quick retry cannot fix.
    pub fn longest(&self, jitter: f64) -> Duration {
        self.delay(MAX_DOUBLINGS, jitter)
    }

    fn steps(&self) -> ExponentialBackoff<NoClock> {
        // The value does not matter. One fixed instant keeps the module pure.
        static EPOCH: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        ExponentialBackoff {
            current_interval: self.initial,
            initial_interval: self.initial,
            randomization_factor: 0.0,
            multiplier: MULTIPLIER,
            max_interval: self.max,
            max_elapsed_time: None,
            clock: NoClock(*EPOCH),
            start_time: *EPOCH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let delays: Vec<u64> = (1..=9)
            .map(|n| Backoff::default().delay(n, 0.0).as_secs())
            .collect();
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn extreme_counts_and_bounds_are_safe() {
        let policy = Backoff {
            initial: Duration::from_millis(1),
            max: Duration::from_secs(86_400),
        };
        assert_eq!(policy.delay(0, 0.0), Duration::from_millis(1));
        assert_eq!(policy.delay(u32::MAX, 0.0), Duration::from_secs(86_400));
        assert_eq!(policy.longest(0.0), Duration::from_secs(86_400));
    }

    proptest::proptest! {
        #[test]
        fn jitter_subtracts_at_most_a_fifth(failures in 1u32..100, jitter in 0.0f64..1.0) {
            let policy = Backoff::default();
            let full = policy.delay(failures, 0.0);
            let delay = policy.delay(failures, jitter);
            proptest::prop_assert!(delay <= full && delay >= full.mul_f64(0.8));
        }
    }
}
