//! When so many clusters fall silent at once that the host is ill and not
//! they: then a repair would do harm, or nothing.
//!
//! Judged by the latest health check of each running cluster, and only by
//! fresh ones: an answer from before the trouble says nothing about it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::clusters::observation::{Condition, Observation};

use super::HealthPolicy;

/// Fewer clusters than this are never taken for an outbreak.
pub const ENOUGH: usize = 4;

/// The latest health checks.
#[derive(Clone, Debug)]
pub struct Outbreak {
    window: Duration,
    seen: HashMap<String, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    silent: bool,
}

/// How far an outbreak reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Clusters that were looked at lately.
    pub probed: usize,
    /// Of these, so many did not answer.
    pub silent: usize,
}

impl Outbreak {
    /// None so far. A look counts as long as it takes to lose a cluster.
    pub fn new(policy: &HealthPolicy) -> Self {
        Self {
            window: policy.reprobe * policy.threshold,
            seen: HashMap::new(),
        }
    }

    /// Remembers what a look at a running cluster found. A stopped one counts
    /// as an answer: the container runtime is there to tell.
    pub fn note(&mut self, name: &str, now: Instant, observed: &Observation) {
        self.seen.retain(|_, seen| fresh(seen, now, self.window));
        let silent = match observed {
            Observation::Present(Condition::Healthy | Condition::Stopped) => false,
            Observation::Present(Condition::Unhealthy(_))
            | Observation::Absent
            | Observation::Unknown(_) => true,
        };
        self.seen.insert(name.to_owned(), Seen { at: now, silent });
    }

    /// Forgets a cluster that is worked on: its silence is its own.
    pub fn forget(&mut self, name: &str) {
        self.seen.remove(name);
    }

    /// The clusters whose latest look is fresh.
    pub fn fresh(&self, now: Instant) -> Vec<&str> {
        let fresh = |(_, seen): &(&String, &Seen)| fresh(seen, now, self.window);
        self.seen
            .iter()
            .filter(fresh)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Whether more than half of the clusters that were looked at lately are
    /// silent, and there are enough of them to tell.
    pub fn spread(&self, now: Instant) -> Option<Spread> {
        let counted = self
            .seen
            .values()
            .filter(|seen| fresh(seen, now, self.window));
        let (probed, silent) = counted.fold((0, 0), |(probed, silent), seen| {
            (probed + 1, silent + usize::from(seen.silent))
        });
        (probed >= ENOUGH && silent * 2 > probed).then_some(Spread { probed, silent })
    }
}

fn fresh(seen: &Seen, now: Instant, window: Duration) -> bool {
    now.saturating_duration_since(seen.at) <= window
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(looks: &[(&str, u64, Observation)]) -> (Outbreak, Instant) {
        let start = Instant::now();
        let mut outbreak = Outbreak::new(&HealthPolicy::default());
        for (name, seconds, observed) in looks {
            outbreak.note(name, start + Duration::from_secs(*seconds), observed);
        }
        (outbreak, start)
    }

    fn silent(names: &'static str, seconds: u64) -> Vec<(&'static str, u64, Observation)> {
        let names = names.split_whitespace();
        names
            .map(|name| (name, seconds, Observation::unhealthy("refused")))
            .collect()
    }

    #[test]
    fn more_than_half_of_at_least_four_is_an_outbreak() {
        let mut looks = silent("a b c", 0);
        let (few, start) = noted(&looks);
        assert_eq!(few.spread(start), None, "three are too few to tell");
        looks.push(("d", 1, Observation::HEALTHY));
        let (most, start) = noted(&looks);
        let spread = Spread {
            probed: 4,
            silent: 3,
        };
        assert_eq!(most.spread(start), Some(spread));
        looks.extend([
            ("e", 1, Observation::HEALTHY),
            ("f", 1, Observation::STOPPED),
        ]);
        let (half, start) = noted(&looks);
        assert_eq!(half.spread(start), None, "half is not more than half");
    }

    #[test]
    fn every_kind_of_silence_counts() {
        let (outbreak, start) = noted(&[
            ("a", 0, Observation::unknown("docker is down")),
            ("b", 0, Observation::Absent),
            ("c", 0, Observation::unhealthy("refused")),
            ("d", 0, Observation::HEALTHY),
        ]);
        assert_eq!(outbreak.spread(start).map(|spread| spread.silent), Some(3));
    }

    #[test]
    fn only_the_latest_and_fresh_looks_count() {
        let mut looks = vec![
            ("e", 0, Observation::HEALTHY),
            ("f", 0, Observation::HEALTHY),
        ];
        looks.extend([
            ("g", 0, Observation::HEALTHY),
            ("h", 0, Observation::HEALTHY),
        ]);
        looks.extend(silent("a b c d", 31));
        let (mut outbreak, start) = noted(&looks);
        let now = start + Duration::from_secs(31);
        assert_eq!(
            outbreak.spread(now),
            Some(Spread {
                probed: 4,
                silent: 4
            })
        );
        assert_eq!(outbreak.fresh(now).len(), 4);
        assert_eq!(
            outbreak.spread(now + Duration::from_secs(31)),
            None,
            "long ago"
        );
        outbreak.note("a", now, &Observation::HEALTHY);
        outbreak.note("b", now, &Observation::HEALTHY);
        assert_eq!(outbreak.spread(now), None, "they answer again");
        outbreak.note("a", now, &Observation::Absent);
        outbreak.forget("b");
        assert_eq!(outbreak.spread(now), None, "three are left");
    }
}
