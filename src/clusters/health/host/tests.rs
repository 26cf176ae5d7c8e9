//! When repairs are suspended, and how that ends.

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
            if host.defers(name, now).is_none() && tried.last().is_none_or(|(_, n)| *n != name) {
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
    assert_eq!(host.outage(now).unwrap().tried_in, PAUSE, "a new one");
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
