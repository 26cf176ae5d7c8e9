//! Decides from probes whether a running cluster is lost: never after one failure.
//!
//! A probe that could not run says nothing about the cluster: it neither counts as a
//! failure nor resets the count.

mod flaps;
mod host;
mod vanished;

use std::time::Duration;

pub use flaps::Flaps;
pub use host::{HostHealth, HostOutage, MIN_PROBED};
pub use vanished::{MassVanishing, Vanished};

use crate::clusters::observation::{Observation, PresentState};

/// When to probe, and how many failures to tolerate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// The time between two health checks of a healthy cluster.
    pub interval: Duration,
    /// The time between two probes after a failed one.
    pub reprobe: Duration,
    /// Number of failures in a row after which the cluster is lost.
    pub threshold: u32,
    /// How long repairs are suspended while most clusters do not answer, before one is tried;
    /// zero: they are never suspended.
    pub suspend_for: Duration,
}

impl Default for HealthPolicy {
    /// Every 5 min; lost after three failures at intervals of 10 s; repairs are suspended for
    /// 5 min: as a failure is found after up to 5 min, it then lasts at most twice as long, and
    /// an engine restarts within that time.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(300),
            reprobe: Duration::from_secs(10),
            threshold: 3,
            suspend_for: Duration::from_secs(300),
        }
    }
}

/// The result of a health check of a running cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthCheckResult {
    /// The probe succeeded; the count of failures starts over.
    Healthy,
    /// The probe failed, but not often enough yet.
    Suspect {
        /// Failures in a row, including this one.
        failures: u32,
        /// Why the probe failed.
        why: String,
    },
    /// The probe failed as often as the policy allows.
    Lost {
        /// Failures in a row, including this one.
        failures: u32,
        /// Why the last probe failed.
        why: String,
    },
    /// The probe could not run; the count of failures stays.
    Unknown {
        /// Why it could not run.
        why: String,
    },
}

impl HealthPolicy {
    /// Evaluates one probe after `failures` failures in a row.
    pub fn evaluate(&self, failures: u32, observed: &Observation) -> HealthCheckResult {
        let why = match observed {
            Observation::Present(PresentState::Healthy) => return HealthCheckResult::Healthy,
            Observation::Unknown(why) | Observation::Present(PresentState::Foreign(why)) => {
                return HealthCheckResult::Unknown { why: why.clone() };
            }
            Observation::Present(PresentState::Unhealthy(why)) => why.clone(),
            Observation::Present(PresentState::Stopped) => "the cluster is stopped".to_owned(),
            Observation::Absent => "the cluster does not exist any more".to_owned(),
        };
        let failures = failures.saturating_add(1);
        if failures >= self.threshold {
            HealthCheckResult::Lost { failures, why }
        } else {
            HealthCheckResult::Suspect { failures, why }
        }
    }

    /// The delay until the next health check of a healthy cluster: the interval, plus or
    /// minus a tenth, so that clusters that were created together are not always checked
    /// together.
    pub fn next_check(&self, jitter: f64) -> Duration {
        self.interval.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_failure_in_a_row_means_lost() {
        let policy = HealthPolicy::default();
        let unhealthy = Observation::unhealthy("refused");
        let why = "refused".to_owned();
        assert_eq!(
            policy.evaluate(0, &unhealthy),
            HealthCheckResult::Suspect {
                failures: 1,
                why: why.clone()
            }
        );
        assert_eq!(
            policy.evaluate(1, &unhealthy),
            HealthCheckResult::Suspect {
                failures: 2,
                why: why.clone()
            }
        );
        assert_eq!(
            policy.evaluate(2, &unhealthy),
            HealthCheckResult::Lost { failures: 3, why }
        );
    }

    #[test]
    fn a_probe_that_could_not_run_never_counts() {
        let result = HealthPolicy::default().evaluate(2, &Observation::unknown("docker is down"));
        assert_eq!(
            result,
            HealthCheckResult::Unknown {
                why: "docker is down".into()
            }
        );
    }

    #[test]
    fn a_successful_probe_resets_the_count() {
        assert_eq!(
            HealthPolicy::default().evaluate(2, &Observation::HEALTHY),
            HealthCheckResult::Healthy
        );
    }

    #[test]
    fn checks_are_spread_by_a_tenth() {
        let policy = HealthPolicy::default();
        assert_eq!(policy.next_check(0.0), Duration::from_secs(270));
        assert_eq!(policy.next_check(1.0), Duration::from_secs(330));
    }
}
