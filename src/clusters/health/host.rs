//! Detects a fault of the host: most clusters stop answering at the same time. Repairs of
//! clusters would not help then, so they are suspended.
//!
//! It compares the latest observation of each running cluster, and only recent ones:
//! observations from before an outage say nothing about it. A suspension ends if most
//! clusters answer again, or if a repair succeeds: one that a person requested, or one that
//! is tried each time the suspension has lasted long enough.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::clusters::observation::{Observation, PresentState};

use super::HealthPolicy;
use crate::duration::compact;

/// From this number of recently observed clusters on no others are observed before a repair,
/// if most of them answer.
pub const MIN_PROBED: usize = 4;

/// The largest number of other clusters that are observed before one repair.
const MAX_OTHERS: usize = 8;

/// The pause between two tried repairs doubles up to this multiple of the first.
const MAX_PAUSES: u32 = 12;

/// A suspension without a deferred repair for so many windows is over.
const STALE_WINDOWS: u32 = 10;

/// The recent observations of the running clusters of this host.
#[derive(Clone, Debug)]
pub struct HostHealth {
    window: Duration,
    suspend_for: Duration,
    samples: HashMap<String, ProbeSample>,
    suspension: Option<Suspension>,
}

#[derive(Clone, Debug)]
struct ProbeSample {
    at: Instant,
    /// Why it did not answer; none if it did.
    silent: Option<String>,
}

/// Repairs are suspended.
#[derive(Clone, Debug)]
struct Suspension {
    /// When the last repair was deferred, and the outage at that time.
    deferred_at: Instant,
    outage: HostOutage,
    /// When one repair is tried.
    next_try: Instant,
    /// The pause before the try after that.
    pause: Duration,
    /// The cluster whose repair was tried last.
    tried: Option<String>,
    /// A repair has succeeded since, so the host works: nothing is deferred.
    disproved: bool,
}

/// An outage of the host: most of its clusters do not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostOutage {
    /// Recently observed clusters.
    pub probed: usize,
    /// How many of them did not answer.
    pub unresponsive: usize,
    /// Which cluster failed its probe last, and the words of the probe.
    pub words: String,
    /// The time until one repair is tried.
    pub tried_in: Duration,
}

impl HostOutage {
    /// When one repair is tried, after the words "is tried".
    pub fn tried(&self) -> String {
        match self.tried_in {
            Duration::ZERO => "next".to_owned(),
            left => format!("in {}", compact(left)),
        }
    }
}

impl HostHealth {
    /// Without observations. An observation counts for the time after which a cluster
    /// that fails its probes is lost.
    pub fn new(policy: &HealthPolicy) -> Self {
        Self {
            window: policy.reprobe * policy.threshold,
            suspend_for: policy.suspend_for,
            samples: HashMap::new(),
            suspension: None,
        }
    }

    /// Adds an observation of a running cluster. A stopped cluster counts as an answer,
    /// because the container runtime reported it.
    pub fn add(&mut self, name: &str, now: Instant, observed: &Observation) {
        let window = self.window;
        self.samples
            .retain(|_, sample| is_recent(sample, now, window));
        let silent = match observed {
            Observation::Present(
                PresentState::Healthy | PresentState::Stopped | PresentState::Foreign(_),
            ) => None,
            Observation::Present(PresentState::Unhealthy(why)) | Observation::Unknown(why) => {
                Some(why.clone())
            }
            Observation::Absent => Some(observed.to_string()),
        };
        let sample = ProbeSample { at: now, silent };
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

    /// How many other clusters to observe before a repair: more if few were observed, or if
    /// most of those did not answer, because suspects are observed more often than others.
    pub fn others_to_observe(&self, now: Instant) -> usize {
        let (probed, unresponsive) = self.counts(now);
        let for_a_majority = (2 * unresponsive).saturating_sub(probed);
        MIN_PROBED
            .saturating_sub(probed)
            .max(for_a_majority)
            .min(MAX_OTHERS)
    }

    /// The outage, if more than half of the recently observed clusters do not answer, and no
    /// repair has succeeded since they do not.
    pub fn outage(&self, now: Instant) -> Option<HostOutage> {
        let (probed, unresponsive) = self.counts(now);
        let disproved = self.suspension.as_ref().is_some_and(|s| s.disproved);
        if unresponsive * 2 <= probed || disproved || self.suspend_for.is_zero() {
            return None;
        }
        let next_try = self.suspension.as_ref().map(|s| s.next_try);
        let next_try = next_try.unwrap_or(now + self.suspend_for);
        Some(HostOutage {
            probed,
            unresponsive,
            words: self.last_words(now),
            tried_in: next_try.saturating_duration_since(now),
        })
    }

    /// The outage that defers the repair of this cluster; none if the repair may begin. From
    /// time to time one repair is tried.
    pub fn defers(&mut self, name: &str, now: Instant) -> Option<HostOutage> {
        let (pause, window) = (self.suspend_for, self.window);
        if self
            .suspension
            .as_ref()
            .is_some_and(|s| self.is_stale(s, now))
        {
            self.suspension = None;
        }
        let outage = self.outage(now)?;
        let suspension = self.suspension.get_or_insert_with(|| Suspension {
            deferred_at: now,
            outage: outage.clone(),
            next_try: now + pause,
            pause: pause * 2,
            tried: None,
            disproved: false,
        });
        suspension.deferred_at = now;
        suspension.outage = outage.clone();
        let tried = suspension.tried.as_deref() == Some(name);
        if now < suspension.next_try {
            return (!tried).then_some(outage);
        }
        // Another cluster goes first, for as long as it takes until it is due.
        if tried && outage.unresponsive > 1 && now < suspension.next_try + window {
            return Some(outage);
        }
        suspension.tried = Some(name.to_owned());
        suspension.next_try = now + suspension.pause;
        suspension.pause = (suspension.pause * 2).min(pause * MAX_PAUSES);
        None
    }

    /// A command has made this cluster healthy, so the host works.
    pub fn repaired(&mut self, name: &str, now: Instant) {
        self.add(name, now, &Observation::HEALTHY);
        if let Some(suspension) = &mut self.suspension {
            suspension.disproved = true;
        }
    }

    /// A repair has failed: the host may be at fault although an earlier one succeeded.
    pub fn not_repaired(&mut self) {
        if let Some(suspension) = &mut self.suspension {
            suspension.disproved = false;
        }
    }

    /// The outage that suspends repairs, as it was when the last one was deferred.
    pub fn suspended(&self, now: Instant) -> Option<HostOutage> {
        let suspension = self.suspension.as_ref()?;
        let lasts = !suspension.disproved && !self.is_stale(suspension, now);
        lasts.then(|| HostOutage {
            tried_in: suspension.next_try.saturating_duration_since(now),
            ..suspension.outage.clone()
        })
    }

    /// Whether no repair was deferred for so long that the outage is over.
    fn is_stale(&self, suspension: &Suspension, now: Instant) -> bool {
        let since = now.saturating_duration_since(suspension.deferred_at);
        since > self.window * STALE_WINDOWS
    }

    /// Ends the suspension if clusters were observed recently, and at least half of them
    /// answer. Without observations an outage has not ended.
    pub fn end_if_most_answer(&mut self, now: Instant) -> bool {
        let (probed, unresponsive) = self.counts(now);
        let ended = probed > 0 && unresponsive * 2 <= probed;
        if ended {
            self.suspension = None;
        }
        ended
    }

    /// How many clusters were observed recently, and how many of them did not answer.
    fn counts(&self, now: Instant) -> (usize, usize) {
        let recent = self
            .samples
            .values()
            .filter(|sample| is_recent(sample, now, self.window));
        recent.fold((0, 0), |(probed, unresponsive), sample| {
            (
                probed + 1,
                unresponsive + usize::from(sample.silent.is_some()),
            )
        })
    }

    fn last_words(&self, now: Instant) -> String {
        let silent = self.samples.iter().filter_map(|(name, sample)| {
            let why = sample.silent.as_ref()?;
            is_recent(sample, now, self.window).then_some((sample.at, name, why))
        });
        let last = silent.max_by_key(|(at, name, _)| (*at, *name));
        last.map(|(_, name, why)| format!("{name}: {why}"))
            .unwrap_or_default()
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

    /// Silence of these clusters, observed again at each time.
    fn silent_at(host: &mut HostHealth, names: &str, now: Instant) {
        for name in names.split_whitespace() {
            host.add(name, now, &Observation::unhealthy("refused"));
        }
    }

    const PAUSE: Duration = Duration::from_secs(300);

    #[test]
    fn an_outage_does_not_end_because_observations_expire() {
        let (mut host, start) = observed(&unresponsive("a b c d", 0));
        let expired = start + Duration::from_secs(3600);
        assert!(host.outage(start).is_some() && !host.end_if_most_answer(start));
        assert!(host.outage(expired).is_none() && !host.end_if_most_answer(expired));
        let (mut well, start) = observed(&[("a", 0, Observation::HEALTHY)]);
        assert!(well.end_if_most_answer(start));
    }

    #[test]
    fn more_than_half_is_an_outage_also_of_few_clusters() {
        for (silent, healthy, expected) in [
            ("a", 0, true),
            ("a", 1, false),
            ("a b", 0, true),
            ("a b", 1, true),
            ("a b", 2, false),
            ("a b c", 0, true),
            ("a b c", 1, true),
            ("a b c", 3, false),
        ] {
            let mut samples = unresponsive(silent, 0);
            samples.extend((0..healthy).map(|n| (["x", "y", "z"][n], 1, Observation::HEALTHY)));
            let (host, start) = observed(&samples);
            let outage = host.outage(start + Duration::from_secs(1));
            assert_eq!(outage.is_some(), expected, "{silent} and {healthy} healthy");
        }
        let (host, start) = observed(&unresponsive("a b", 0));
        let outage = host.outage(start).unwrap();
        assert_eq!((outage.probed, outage.unresponsive), (2, 2));
        assert_eq!(
            (outage.words.as_str(), outage.tried_in),
            ("b: refused", PAUSE)
        );
    }

    #[test]
    fn every_kind_of_failure_counts() {
        let (host, start) = observed(&[
            ("a", 0, Observation::unknown("docker is down")),
            ("b", 0, Observation::Absent),
            ("c", 0, Observation::unhealthy("refused")),
            ("d", 0, Observation::HEALTHY),
            ("e", 0, Observation::STOPPED),
        ]);
        let outage = host.outage(start).unwrap();
        assert_eq!((outage.probed, outage.unresponsive), (5, 3));
    }

    #[test]
    fn only_the_latest_recent_observations_count() {
        let mut samples: Vec<_> = ["e", "f", "g", "h"]
            .map(|name| (name, 0, Observation::HEALTHY))
            .to_vec();
        samples.extend(unresponsive("a b c d", 31));
        let (mut host, start) = observed(&samples);
        let now = start + Duration::from_secs(31);
        let outage = host.outage(now).unwrap();
        assert_eq!((outage.probed, outage.unresponsive), (4, 4));
        assert_eq!(host.recent(now).len(), 4);
        assert_eq!(host.outage(now + Duration::from_secs(31)), None, "long ago");
        host.add("a", now, &Observation::HEALTHY);
        host.add("b", now, &Observation::HEALTHY);
        assert_eq!(host.outage(now), None, "they answer again");
        host.remove("b");
        assert!(host.outage(now).is_some(), "two of three");
    }

    #[test]
    fn suspects_alone_cause_observations_of_others() {
        let (host, start) = observed(&unresponsive("a", 0));
        assert_eq!(host.others_to_observe(start), 3);
        let (host, start) = observed(&unresponsive("a b c d e f", 0));
        assert_eq!(host.others_to_observe(start), 6, "six answers make it half");
        let mut samples = unresponsive("a b", 0);
        samples.extend([
            ("c", 0, Observation::HEALTHY),
            ("d", 0, Observation::HEALTHY),
        ]);
        let (host, start) = observed(&samples);
        assert_eq!(host.others_to_observe(start), 0);
    }

    #[test]
    fn one_repair_is_tried_after_the_pause_and_then_less_often() {
        let (mut host, start) = observed(&[]);
        let mut tried = Vec::new();
        for seconds in (0..3000).step_by(10) {
            let now = start + Duration::from_secs(seconds);
            silent_at(&mut host, "a b", now);
            for name in ["a", "b"] {
                if host.defers(name, now).is_none() && tried.last().is_none_or(|(_, n)| *n != name)
                {
                    tried.push((seconds, name));
                    host.not_repaired();
                }
            }
        }
        assert_eq!(tried, [(300, "a"), (900, "b"), (2100, "a")]);
    }

    #[test]
    fn the_only_cluster_is_repaired_after_the_pause() {
        let (mut host, start) = observed(&unresponsive("a", 0));
        assert!(host.defers("a", start).is_some() && host.suspended(start).is_some());
        let mut now = start;
        while now < start + PAUSE {
            silent_at(&mut host, "a", now);
            assert!(host.defers("a", now).is_some());
            now += Duration::from_secs(10);
        }
        silent_at(&mut host, "a", now);
        assert_eq!(host.defers("a", now), None);
        // Its repair has several decisions.
        assert_eq!(host.defers("a", now + Duration::from_secs(1)), None);
    }

    #[test]
    fn a_repair_that_succeeds_ends_the_suspension() {
        let (mut host, now) = observed(&unresponsive("a b c d", 0));
        assert!(host.defers("a", now).is_some());
        host.repaired("d", now);
        assert_eq!((host.outage(now), host.defers("a", now)), (None, None));
        host.not_repaired();
        assert!(host.defers("a", now).is_some(), "the next one failed");
        for name in ["a", "b"] {
            host.add(name, now, &Observation::HEALTHY);
        }
        assert!(host.end_if_most_answer(now));
        silent_at(&mut host, "a b", now);
        let outage = host.outage(now).unwrap();
        assert_eq!(outage.tried_in, PAUSE, "a new one");
        assert!(outage.tried().starts_with("in "), "{outage:?}");
        let due = HostOutage {
            tried_in: Duration::ZERO,
            ..outage
        };
        assert_eq!(due.tried(), "next");
    }

    #[test]
    fn a_suspension_of_long_ago_does_not_shorten_the_next() {
        let (mut host, start) = observed(&unresponsive("a", 0));
        assert!(host.defers("a", start).is_some());
        let later = start + Duration::from_secs(3600);
        silent_at(&mut host, "a", later);
        assert!(host.defers("a", later).is_some());
    }

    #[test]
    fn without_a_pause_nothing_is_suspended() {
        let policy = HealthPolicy {
            suspend_for: Duration::ZERO,
            ..HealthPolicy::default()
        };
        let (mut host, now) = (HostHealth::new(&policy), Instant::now());
        silent_at(&mut host, "a b c d", now);
        assert_eq!((host.outage(now), host.defers("a", now)), (None, None));
    }
}
