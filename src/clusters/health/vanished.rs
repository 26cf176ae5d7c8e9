//! Detects that most clusters of a host vanish at about the same time: a container engine that
//! lost its data, or that is not the one that made them. To create them all again would be wrong
//! then, so that is suspended until the engine shows them again, or a person requests it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::clusters::observation::Observation;

/// How long apart clusters vanish at most to count as one event.
const TOGETHER: Duration = Duration::from_secs(60);

/// A cluster that was not observed for so long is not waited for: its row may be gone.
const STALE: Duration = Duration::from_secs(3600);

/// The clusters of this host that vanished, and those that did not.
#[derive(Clone, Debug, Default)]
pub struct Vanished {
    /// When each cluster was seen last.
    present: HashMap<String, Instant>,
    /// When each was first and last observed to be absent.
    absent: BTreeMap<String, (Instant, Instant)>,
    /// When each vanished on which an action runs since.
    acted: HashMap<String, Instant>,
    /// It was more than half, and some of them still are.
    suspended: bool,
}

/// More than half of at least two clusters vanished within a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MassVanishing {
    /// The known clusters.
    pub known: usize,
    /// Those that are still absent, by name.
    pub absent: Vec<String>,
}

impl Vanished {
    /// Adds an observation of a cluster that should run.
    pub fn add(&mut self, name: &str, now: Instant, observed: &Observation) {
        let is_recent = |at: Instant| now.saturating_duration_since(at) <= STALE;
        self.present.retain(|_, at| is_recent(*at));
        self.absent.retain(|_, (_, last)| is_recent(*last));
        match observed {
            Observation::Present(_) => {
                self.absent.remove(name);
                self.present.insert(name.to_owned(), now);
            }
            Observation::Absent => {
                self.present.remove(name);
                self.acted.remove(name);
                let seen = self.absent.entry(name.to_owned()).or_insert((now, now));
                seen.1 = now;
            }
            Observation::Unknown(_) => {}
        }
        self.judge(now);
    }

    /// Removes a cluster on which an action starts: it was requested, or vanished alone.
    pub fn remove(&mut self, name: &str) {
        self.present.remove(name);
        if let Some((first, _)) = self.absent.remove(name) {
            self.acted.insert(name.to_owned(), first);
        }
        self.suspended &= !self.absent.is_empty();
    }

    fn judge(&mut self, now: Instant) {
        let is_together = |first: Instant| now.saturating_duration_since(first) <= TOGETHER;
        self.acted.retain(|_, first| is_together(*first));
        let absent = self.absent.values();
        let vanished = absent.filter(|(first, _)| is_together(*first)).count() + self.acted.len();
        let known = self.known();
        let most = known >= 2 && vanished * 2 > known;
        self.suspended = !self.absent.is_empty() && (self.suspended || most);
    }

    fn known(&self) -> usize {
        let names = self.present.keys().chain(self.absent.keys());
        let names: HashSet<&String> = names.chain(self.acted.keys()).collect();
        names.len()
    }

    /// The event that suspends recreations, if one does.
    pub fn event(&self) -> Option<MassVanishing> {
        self.suspended.then(|| MassVanishing {
            known: self.known(),
            absent: self.absent.keys().cloned().collect(),
        })
    }

    /// The event that suspends the recreation of this cluster.
    pub fn defers(&self, name: &str) -> Option<MassVanishing> {
        self.event().filter(|_| self.absent.contains_key(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Clock(Instant, Vanished);

    impl Clock {
        fn new() -> Self {
            Self(Instant::now(), Vanished::default())
        }

        fn sees(&mut self, seconds: u64, present: &str, absent: &str) {
            let now = self.0 + Duration::from_secs(seconds);
            for name in present.split_whitespace() {
                self.1
                    .add(name, now, &Observation::unhealthy("it is stopped"));
            }
            for name in absent.split_whitespace() {
                self.1.add(name, now, &Observation::Absent);
            }
        }

        fn deferred(&self, name: &str) -> bool {
            self.1.defers(name).is_some()
        }
    }

    #[test]
    fn a_single_cluster_that_vanishes_is_created_again() {
        let mut alone = Clock::new();
        alone.sees(0, "", "a");
        assert!(!alone.deferred("a"));
        let mut half = Clock::new();
        half.sees(0, "a b", "");
        half.sees(1, "", "a");
        assert!(!half.deferred("a"), "one of two is not more than half");
    }

    #[test]
    fn most_of_two_or_more_wait_until_they_are_seen_again() {
        let mut host = Clock::new();
        host.sees(0, "a b c", "");
        host.sees(10, "", "a b");
        assert!(host.deferred("a") && host.deferred("b") && !host.deferred("c"));
        // They stay absent for long, and are observed again and again.
        host.sees(600, "c", "a b");
        assert!(host.deferred("a"));
        host.sees(610, "a", "");
        assert!(
            !host.deferred("a") && host.deferred("b"),
            "the rest still waits"
        );
        host.sees(620, "b", "");
        assert_eq!(host.1.event(), None);
    }

    #[test]
    fn clusters_that_vanish_one_by_one_are_created_again() {
        let mut host = Clock::new();
        host.sees(0, "a b c", "");
        host.sees(10, "", "a");
        host.sees(90, "", "b");
        assert!(!host.deferred("a") && !host.deferred("b"));
    }

    #[test]
    fn one_that_is_created_again_meanwhile_still_counts() {
        let mut host = Clock::new();
        host.sees(0, "a b c", "");
        host.sees(10, "", "a");
        host.1.remove("a");
        host.sees(40, "", "b");
        assert!(host.deferred("b") && !host.deferred("a"));
    }

    #[test]
    fn what_cannot_be_observed_has_not_vanished() {
        let mut host = Clock::new();
        host.sees(0, "a b", "");
        for name in ["a", "b"] {
            host.1
                .add(name, host.0, &Observation::unknown("the engine is down"));
        }
        assert_eq!(host.1.event(), None);
    }

    #[test]
    fn a_request_of_a_person_frees_one_cluster() {
        let mut host = Clock::new();
        host.sees(0, "", "a b c");
        host.1.remove("a");
        assert!(!host.deferred("a") && host.deferred("b") && host.deferred("c"));
        host.1.remove("b");
        host.1.remove("c");
        assert_eq!(host.1.event(), None);
    }
}
