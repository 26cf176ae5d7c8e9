//! Which actions the safety limits defer, and until when.

use jiff::SignedDuration;

use super::*;
use crate::clusters::health::HostOutage;

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn ago(seconds: i64) -> Timestamp {
    NOW.checked_sub(SignedDuration::from_secs(seconds)).unwrap()
}

fn queue(begun: &[i64], ahead: usize) -> DeletionQueue {
    DeletionQueue {
        now: NOW,
        counted: false,
        begun: begun.iter().map(|seconds| ago(*seconds)).collect(),
        ahead,
        behind: 0,
    }
}

/// The seconds until a deletion may begin.
fn waits(queue: &DeletionQueue, cap: usize) -> i64 {
    queue.begins_at(cap).duration_since(NOW).as_secs()
}

/// The decision for an observation during an outage of the host.
fn deferred(cluster: &Cluster, seen: &Observation) -> Decision {
    let policy = Policy::default();
    let decision = plan(cluster, Some(seen), &policy, moment());
    let outage = HostOutage {
        probed: 6,
        unresponsive: 5,
        words: "c3: connection refused".into(),
        tried_in: Duration::from_secs(240),
    };
    assert_eq!(
        defer_repair(cluster, decision.clone(), None, &policy, moment()),
        decision
    );
    defer_repair(cluster, decision, Some(outage), &policy, moment())
}

fn once_healthy(actual: Actual) -> Cluster {
    let mut cluster = dev().recorded(actual).applied();
    cluster.last_healthy_at = Some(ago(600));
    cluster
}

#[test]
fn a_lost_cluster_stays_running_until_most_answer() {
    let mut cluster = once_healthy(Actual::Running);
    cluster.health_failures = 2;
    for _ in 0..5 {
        let Decision::Record(status) = deferred(&cluster, &Observation::unhealthy("refused"))
        else {
            panic!("it is only recorded")
        };
        assert_eq!(
            (status.actual, status.reason),
            (Actual::Running, Reason::RepairHeld)
        );
        assert_eq!(
            (status.health_failures, status.next_check_at),
            (2, Some(ago(-10)))
        );
        for part in [
            "3 probes failed in a row: refused",
            "5 of 6 observed recently; c3: connection refused",
            "one repair is tried in 4m",
            "`kindler retry dev` repairs it now",
            "next observation in 10s",
        ] {
            assert!(status.message.contains(part), "{}", status.message);
        }
        status.apply_to(&mut cluster, NOW);
        assert_eq!(cluster.due_at(), Some(ago(-10)));
        cluster.next_check_at = None;
    }
    let Decision::Record(status) = deferred(&cluster, &Observation::HEALTHY) else {
        panic!("it answers")
    };
    assert_eq!((status.reason, status.error), (Reason::Healthy, None));
}

#[test]
fn failed_clusters_are_not_repaired_but_new_ones_created() {
    for actual in [Actual::Failed, Actual::Creating] {
        for seen in [Observation::Absent, Observation::unhealthy("refused")] {
            let Decision::Record(status) = deferred(&once_healthy(actual), &seen) else {
                panic!("{actual} {seen} is repaired")
            };
            assert_eq!((status.actual, status.reason), (actual, Reason::RepairHeld));
            assert_eq!(
                (status.failed_attempts, status.next_attempt_at),
                (0, Some(ago(-10)))
            );
            let never = dev().recorded(actual);
            assert!(matches!(
                deferred(&never, &seen),
                Decision::Act {
                    action: Action::Create,
                    ..
                }
            ));
        }
    }
    let stopped = deferred(&once_healthy(Actual::Failed), &Observation::STOPPED);
    assert!(
        matches!(
            stopped,
            Decision::Act {
                action: Action::Start,
                ..
            }
        ),
        "the runtime answers"
    );
}

#[test]
fn requested_and_declared_actions_are_not_deferred() {
    let mut cluster = once_healthy(Actual::Failed);
    cluster.retry_requested_at = Some(ago(59));
    assert!(matches!(
        deferred(&cluster, &Observation::Absent),
        Decision::Act { .. }
    ));
    cluster.retry_requested_at = Some(ago(61));
    assert!(matches!(
        deferred(&cluster, &Observation::Absent),
        Decision::Record(_)
    ));
    let leaving = once_healthy(Actual::Failed).wanted(Desired::Absent);
    assert!(matches!(
        deferred(&leaving, &Observation::Absent),
        Decision::Act {
            action: Action::Delete,
            ..
        }
    ));
    let mut changed = once_healthy(Actual::Running);
    changed.spec_applied = false;
    assert!(matches!(
        deferred(&changed, &Observation::Absent),
        Decision::Act {
            action: Action::Update,
            ..
        }
    ));
    let unobserved = deferred(
        &once_healthy(Actual::Running),
        &Observation::unknown("docker is down"),
    );
    let Decision::Record(status) = unobserved else {
        panic!("it is only recorded")
    };
    assert_eq!(status.reason, Reason::RepairHeld);
}

#[test]
fn a_deletion_counts_for_one_minute() {
    assert_eq!(waits(&queue(&[50, 40], 0), 3), 0);
    assert_eq!(waits(&queue(&[50, 40, 5], 0), 3), 10);
    assert_eq!(
        waits(&queue(&[61, 60, 59, 5], 0), 3),
        0,
        "two are too old to count"
    );
    assert_eq!(waits(&queue(&[50, 40, 5], 0), 0), 0, "0 is no cap");
    assert_eq!(
        waits(&queue(&[50, 40, 5, 4, 3], 0), 3),
        55,
        "the cap was lowered"
    );
}

#[test]
fn deferred_deletions_begin_in_order() {
    assert_eq!(
        waits(&queue(&[50], 1), 2),
        10,
        "the deletion before it goes first"
    );
    assert_eq!(waits(&queue(&[50, 40, 5], 2), 3), 55);
    assert_eq!(waits(&queue(&[50, 40, 5], 3), 3), 70, "the second round");
    assert_eq!(waits(&queue(&[], 7), 3), 120);
}

#[test]
fn a_retried_deletion_is_not_counted_again() {
    let retried = DeletionQueue {
        counted: true,
        ..queue(&[3, 2, 1], 5)
    };
    assert_eq!(waits(&retried, 3), 0);
}

proptest::proptest! {
    #[test]
    fn in_no_minute_begin_more_deletions_than_the_cap(
        cap in 1usize..6, arrivals in proptest::collection::vec(0i64..200, 1..40),
    ) {
        let mut arrivals = arrivals;
        arrivals.sort_unstable();
        let mut begun: Vec<Timestamp> = Vec::new();
        for seconds in arrivals {
            let now = ago(-seconds);
            let seen = DeletionQueue { now, begun: begun.clone(), ..queue(&[], 0) };
            if seen.begins_at(cap) <= now {
                begun.push(now);
            }
        }
        for (n, at) in begun.iter().enumerate() {
            let within = begun[..=n].iter().filter(|other| at.duration_since(**other) < MINUTE);
            proptest::prop_assert!(within.count() <= cap);
        }
    }
}

#[test]
fn a_deferred_deletion_has_a_reason_and_counts_no_attempt() {
    let mut cluster = dev().recorded(Actual::Failed).wanted(Desired::Absent);
    cluster.failed_attempts = 2;
    let moment = Moment {
        now: NOW,
        jitter: 0.0,
    };
    let Decision::Act {
        action: Action::Delete,
        intent,
    } = plan(&cluster, None, &Policy::default(), moment)
    else {
        panic!("its delete is due")
    };
    assert_eq!(
        defer_deletion(&cluster, intent.clone(), 2, &queue(&[50], 0)),
        intent
    );
    let deferred = defer_deletion(&cluster, intent, 2, &queue(&[50, 40], 1));
    assert_eq!(
        (deferred.actual, deferred.failed_attempts),
        (Actual::Failed, 2)
    );
    assert_eq!(deferred.reason, Reason::DeletionHeld);
    assert_eq!(deferred.next_attempt_at, Some(ago(-20)));
    assert!(
        deferred
            .message
            .ends_with("position 2, begins in about 20 s"),
        "{}",
        deferred.message
    );
    deferred.apply_to(&mut cluster, NOW);
    assert_eq!(
        plan(&cluster, None, &Policy::default(), moment),
        Decision::Rest { until: ago(-20) }
    );
}
