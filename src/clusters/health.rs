//! When a running cluster counts as lost: never on one failed probe.
//!
//! A probe that could not look says nothing about the cluster, so it neither
//! counts nor clears the count.

mod outbreak;

use std::time::Duration;

pub use outbreak::{ENOUGH, Outbreak, Spread};

use crate::clusters::observation::{Condition, Observation};

/// How often to look, and how much to forgive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// Between two looks at a healthy cluster.
    pub interval: Duration,
    /// Between two looks while failures are being counted.
    pub reprobe: Duration,
    /// This many failures in a row mean lost.
    pub threshold: u32,
}

impl Default for HealthPolicy {
    /// Every 5 min; lost after three failures, 10 s apart.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(300),
            reprobe: Duration::from_secs(10),
            threshold: 3,
        }
    }
}

/// What a probe of a running cluster means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well; the count starts over.
    Healthy,
    /// It failed, but not often enough yet.
    Suspect {
        /// Failures in a row, this one included.
        failures: u32,
        /// What the probe said.
        why: String,
    },
    /// It failed as often as the policy forgives.
    Lost {
        /// Failures in a row, this one included.
        failures: u32,
        /// What the last probe said.
        why: String,
    },
    /// The probe could not look; the count stays.
    Unknown {
        /// Why it could not.
        why: String,
    },
}

impl HealthPolicy {
    /// Judges one probe after `failures` failures in a row.
    pub fn judge(&self, failures: u32, observed: &Observation) -> Verdict {
        let why = match observed {
            Observation::Present(Condition::Healthy) => return Verdict::Healthy,
            Observation::Unknown(why) => return Verdict::Unknown { why: why.clone() },
            Observation::Present(Condition::Unhealthy(why)) => why.clone(),
            Observation::Present(Condition::Stopped) => "it is stopped".to_owned(),
            Observation::Absent => "it does not exist any more".to_owned(),
        };
        let failures = failures.saturating_add(1);
        if failures >= self.threshold {
            Verdict::Lost { failures, why }
        } else {
            Verdict::Suspect { failures, why }
        }
    }

    /// When to look again at a cluster that is well: the interval, spread by
    /// a tenth to each side so that clusters made together drift apart.
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
        let ill = Observation::unhealthy("refused");
        let why = "refused".to_owned();
        assert_eq!(
            policy.judge(0, &ill),
            Verdict::Suspect {
                failures: 1,
                why: why.clone()
            }
        );
        assert_eq!(
            policy.judge(1, &ill),
            Verdict::Suspect {
                failures: 2,
                why: why.clone()
            }
        );
        assert_eq!(policy.judge(2, &ill), Verdict::Lost { failures: 3, why });
    }

    #[test]
    fn a_probe_that_could_not_look_never_counts() {
        let verdict = HealthPolicy::default().judge(2, &Observation::unknown("docker is down"));
        assert_eq!(
            verdict,
            Verdict::Unknown {
                why: "docker is down".into()
            }
        );
    }

    #[test]
    fn one_healthy_probe_starts_the_count_over() {
        assert_eq!(
            HealthPolicy::default().judge(2, &Observation::HEALTHY),
            Verdict::Healthy
        );
    }

    #[test]
    fn checks_are_spread_by_a_tenth() {
        let policy = HealthPolicy::default();
        assert_eq!(policy.next_check(0.0), Duration::from_secs(270));
        assert_eq!(policy.next_check(1.0), Duration::from_secs(330));
    }
}
