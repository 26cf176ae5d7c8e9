//! Detects a fault of the host: most clusters stop answering at the same time. Repairs of
//! clusters would not help then.
//!
//! It compares the latest observation of each running cluster, and only recent ones:
//! observations from before an outage say nothing about it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::clusters::observation::{Observation, PresentState};

use super::HealthPolicy;

/// The least number of observed clusters for an outage.
pub const MIN_PROBED: usize = 4;

/// The recent observations of the running clusters of this host.
#[derive(Clone, Debug)]
pub struct HostHealth {
    window: Duration,
    samples: HashMap<String, ProbeSample>,
}

#[derive(Clone, Copy, Debug)]
struct ProbeSample {
    at: Instant,
    unresponsive: bool,
}

/// An outage of the host: most of its clusters do not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostOutage {
    /// Recently observed clusters.
    pub probed: usize,
    /// How many of them did not answer.
    pub unresponsive: usize,
}

impl HostHealth {
    /// Without observations. An observation counts for the time after which a cluster
    /// that fails its probes is lost.
    pub fn new(policy: &HealthPolicy) -> Self {
        Self {
            window: policy.reprobe * policy.threshold,
            samples: HashMap::new(),
        }
    }

    /// Adds an observation of a running cluster. A stopped cluster counts as an answer,
    /// because the container runtime reported it.
    pub fn add(&mut self, name: &str, now: Instant, observed: &Observation) {
        self.samples
            .retain(|_, sample| is_recent(sample, now, self.window));
        let unresponsive = match observed {
            Observation::Present(PresentState::Healthy | PresentState::Stopped) => false,
            Observation::Present(PresentState::Unhealthy(_))
            | Observation::Absent
            | Observation::Unknown(_) => true,
        };
        let sample = ProbeSample {
            at: now,
            unresponsive,
        };
        self.samples.insert(name.to_owned(), sample);
    }

    /// Removes a cluster that an action works on: it may not answer because of that.
    pub fn remove(&mut self, name: &str) {
        self.samples.remove(name);
    }

    /// The clusters that were observed recently.
    pub fn recent(&self, now: Instant) -> Vec<&str> {
        let is_recent = |(_, sample): &(&String, &ProbeSample)| is_recent(sample, now, self.window);
        self.samples
            .iter()
            .filter(is_recent)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// The outage, if more than half of the recently observed clusters do not answer and
    /// at least [`MIN_PROBED`] were observed.
    pub fn outage(&self, now: Instant) -> Option<HostOutage> {
        let (probed, unresponsive) = self.counts(now);
        (probed >= MIN_PROBED && unresponsive * 2 > probed).then_some(HostOutage {
            probed,
            unresponsive,
        })
    }

    /// Whether clusters were observed recently, and at least half of them answer. Without
    /// observations an outage has not ended.
    pub fn most_answer(&self, now: Instant) -> bool {
        let (probed, unresponsive) = self.counts(now);
        probed > 0 && unresponsive * 2 <= probed
    }

    /// How many clusters were observed recently, and how many of them did not answer.
    fn counts(&self, now: Instant) -> (usize, usize) {
        let recent = self
            .samples
            .values()
            .filter(|sample| is_recent(sample, now, self.window));
        recent.fold((0, 0), |(probed, unresponsive), sample| {
            (probed + 1, unresponsive + usize::from(sample.unresponsive))
        })
    }
}

fn is_recent(sample: &ProbeSample, now: Instant, window: Duration) -> bool {
    now.saturating_duration_since(sample.at) <= window
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(samples: &[(&str, u64, Observation)]) -> (HostHealth, Instant) {
        let start = Instant::now();
        let mut host = HostHealth::new(&HealthPolicy::default());
        for (name, seconds, observed) in samples {
            host.add(name, start + Duration::from_secs(*seconds), observed);
        }
        (host, start)
    }

    fn unresponsive(names: &'static str, seconds: u64) -> Vec<(&'static str, u64, Observation)> {
        let names = names.split_whitespace();
        names
            .map(|name| (name, seconds, Observation::unhealthy("refused")))
            .collect()
    }

    #[test]
    fn an_outage_does_not_end_because_observations_expire() {
        let (host, start) = observed(&unresponsive("a b c d", 0));
        let expired = start + Duration::from_secs(3600);
        assert!(host.outage(start).is_some() && !host.most_answer(start));
        assert!(host.outage(expired).is_none() && !host.most_answer(expired));
        let (well, start) = observed(&[("a", 0, Observation::HEALTHY)]);
        assert!(well.most_answer(start));
    }

    #[test]
    fn more_than_half_of_at_least_four_is_an_outage() {
        let mut samples = unresponsive("a b c", 0);
        let (few, start) = observed(&samples);
        assert_eq!(few.outage(start), None, "three are too few");
        samples.push(("d", 1, Observation::HEALTHY));
        let (most, start) = observed(&samples);
        let outage = HostOutage {
            probed: 4,
            unresponsive: 3,
        };
        assert_eq!(most.outage(start), Some(outage));
        samples.extend([
            ("e", 1, Observation::HEALTHY),
            ("f", 1, Observation::STOPPED),
        ]);
        let (half, start) = observed(&samples);
        assert_eq!(half.outage(start), None, "half is not more than half");
    }

    #[test]
    fn every_kind_of_failure_counts() {
        let (host, start) = observed(&[
            ("a", 0, Observation::unknown("docker is down")),
            ("b", 0, Observation::Absent),
            ("c", 0, Observation::unhealthy("refused")),
            ("d", 0, Observation::HEALTHY),
        ]);
        assert_eq!(
            host.outage(start).map(|outage| outage.unresponsive),
            Some(3)
        );
    }

    #[test]
    fn only_the_latest_recent_observations_count() {
        let mut samples = vec![
            ("e", 0, Observation::HEALTHY),
            ("f", 0, Observation::HEALTHY),
        ];
        samples.extend([
            ("g", 0, Observation::HEALTHY),
            ("h", 0, Observation::HEALTHY),
        ]);
        samples.extend(unresponsive("a b c d", 31));
        let (mut host, start) = observed(&samples);
        let now = start + Duration::from_secs(31);
        assert_eq!(
            host.outage(now),
            Some(HostOutage {
                probed: 4,
                unresponsive: 4
            })
        );
        assert_eq!(host.recent(now).len(), 4);
        assert_eq!(host.outage(now + Duration::from_secs(31)), None, "long ago");
        host.add("a", now, &Observation::HEALTHY);
        host.add("b", now, &Observation::HEALTHY);
        assert_eq!(host.outage(now), None, "they answer again");
        host.add("a", now, &Observation::Absent);
        host.remove("b");
        assert_eq!(host.outage(now), None, "three are left");
    }
}
