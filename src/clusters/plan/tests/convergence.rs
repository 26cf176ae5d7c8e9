//! Convergence over all cells: carry out each decision and plan again; in the end nothing
//! is left to do, whatever the host does meanwhile.

use super::*;

/// A host with one cluster, which commands and faults change.
#[derive(Clone, Debug)]
struct Host {
    observation: Observation,
}

/// How a command behaves; a number is the index of the observation that it leaves.
#[derive(Clone, Copy, Debug)]
enum Behavior {
    Works,
    Fails(usize),
    /// It reports success, whatever it did.
    Lies(usize),
    /// The daemon crashes before the result is known.
    Crashes(usize),
}

impl Host {
    fn act(&mut self, action: Action, behavior: Behavior) -> Option<Outcome> {
        let outcome = match behavior {
            Behavior::Works => {
                self.observation = match action {
                    Action::Create | Action::Update => Observation::HEALTHY,
                    Action::Start if self.observation == Observation::Absent => Observation::Absent,
                    Action::Start => Observation::HEALTHY,
                    Action::Stop if self.observation == Observation::Absent => Observation::Absent,
                    Action::Stop => Observation::STOPPED,
                    Action::Delete => Observation::Absent,
                };
                return Some(Outcome::Succeeded);
            }
            Behavior::Fails(_) => Some(failing(Persistence::Transient)),
            Behavior::Lies(_) => Some(Outcome::Succeeded),
            Behavior::Crashes(_) => None,
        };
        let (Behavior::Fails(n) | Behavior::Lies(n) | Behavior::Crashes(n)) = behavior else {
            unreachable!("a command that works returned above")
        };
        self.observation = observations()[n].clone();
        outcome
    }
}

/// Declares another desired state; returns whether that is a delete.
fn declare(cluster: &mut Cluster, desired: Desired) -> bool {
    if cluster.desired != desired {
        cluster.desired = desired;
        cluster.generation += 1;
        cluster.failed_attempts = 0;
        cluster.next_attempt_at = None;
    }
    desired == Desired::Absent
}

/// Records a status, which must say why.
fn record(status: &Status, cluster: &mut Cluster, now: Timestamp) {
    assert!(!status.message.trim().is_empty(), "{status:?}");
    status.apply_to(cluster, now);
}

/// Carries out decisions until the row is settled or removed (`None`). Panics on a delete
/// that was not declared.
fn carry_out(
    cluster: &mut Cluster,
    host: &mut Host,
    behaviors: &[Behavior],
    desires: &[Desired],
) -> Option<()> {
    let policy = Policy::default();
    let mut behaviors = behaviors.iter().copied();
    let mut desires = desires.iter().copied();
    let mut now = NOW;
    let mut delete_declared =
        cluster.desired == Desired::Absent || cluster.actual == Actual::Deleting;
    for _ in 0..200 {
        now = now.max(cluster.due_at().unwrap_or(now));
        let moment = Moment { now, jitter: 0.5 };
        if cluster.settled() && cluster.next_check_at.is_some() && cluster.health_failures == 0 {
            let Some(desired) = desires.next() else {
                return Some(());
            };
            delete_declared |= declare(cluster, desired);
        }
        let first = plan(cluster, None, &policy, moment);
        let decision = match first {
            Decision::Observe { .. } => plan(cluster, Some(&host.observation), &policy, moment),
            other => other,
        };
        match decision {
            Decision::Observe { .. } => panic!("observed twice"),
            Decision::Rest { until } => now = until,
            Decision::Record(status) => record(&status, cluster, now),
            Decision::Remove => {
                assert_eq!(
                    (cluster.desired, &host.observation),
                    (Desired::Absent, &Observation::Absent)
                );
                return None;
            }
            Decision::Act { action, intent } => {
                record(&intent, cluster, now);
                assert!(
                    action != Action::Delete || delete_declared,
                    "this delete was not declared"
                );
                let outcome = host.act(action, behaviors.next().unwrap_or(Behavior::Works));
                if let Some(desired) = desires.next().filter(|d| *d != cluster.desired) {
                    delete_declared |= declare(cluster, desired);
                    continue; // the generation changed: the conclusion is not written
                }
                let Some(outcome) = outcome else { continue };
                match conclude(
                    cluster,
                    action,
                    &outcome,
                    &host.observation,
                    &policy,
                    moment,
                ) {
                    Conclusion::Record(status) => record(&status, cluster, now),
                    Conclusion::Remove => return None,
                }
            }
        }
    }
    panic!("no end: {cluster:?} {host:?}")
}

fn assert_converges(
    desired: Desired,
    actual: Actual,
    seen: &Observation,
    applied: bool,
    behaviors: &[Behavior],
    desires: &[Desired],
) {
    let mut cluster = dev().recorded(actual).wanted(desired);
    if applied {
        cluster = cluster.applied();
    }
    let mut host = Host {
        observation: seen.clone(),
    };
    // An unknown observation is followed by a known one.
    if let Observation::Unknown(_) = host.observation {
        let decision = plan(
            &cluster,
            Some(&host.observation),
            &Policy::default(),
            moment(),
        );
        assert!(
            !matches!(decision, Decision::Remove),
            "unknown is not absent"
        );
        host.observation = Observation::Absent;
    }
    let end = carry_out(&mut cluster, &mut host, behaviors, desires);
    match cluster.desired {
        Desired::Absent => assert_eq!((end, host.observation), (None, Observation::Absent)),
        Desired::Present => assert_eq!(host.observation, Observation::HEALTHY),
        Desired::Stopped => assert!(!host.observation.is_healthy(), "still healthy: {cluster:?}"),
    }
}

#[test]
fn every_triple_converges_when_commands_work() {
    for desired in Desired::ALL {
        for actual in Actual::ALL {
            for seen in &observations() {
                for applied in [false, true] {
                    assert_converges(*desired, *actual, seen, applied, &[], &[]);
                }
            }
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(10_000))]
    #[test]
    fn any_faults_and_declarations_converge_once_they_end(
        desired in 0usize..3, actual in 0usize..8, seen in 0usize..5, applied: bool,
        behaviors in proptest::collection::vec((0u8..4, 0usize..4), 0..8),
        desires in proptest::collection::vec(0usize..3, 0..5),
    ) {
        let behaviors: Vec<Behavior> = behaviors.into_iter().map(|(kind, left)| match kind {
            0 => Behavior::Works,
            1 => Behavior::Fails(left),
            2 => Behavior::Lies(left),
            _ => Behavior::Crashes(left),
        }).collect();
        let desires: Vec<Desired> = desires.into_iter().map(|n| Desired::ALL[n]).collect();
        assert_converges(
            Desired::ALL[desired], Actual::ALL[actual], &observations()[seen], applied, &behaviors, &desires,
        );
    }

    #[test]
    fn nothing_is_deleted_that_is_unknown_or_not_declared_absent(
        desired in 0usize..3, actual in 0usize..8, seen in 0usize..6, applied: bool,
        failures in 0u32..10, attempts in 0u32..10,
    ) {
        let (desired, actual) = (Desired::ALL[desired], Actual::ALL[actual]);
        let mut cluster = dev().recorded(actual).wanted(desired);
        if applied { cluster = cluster.applied(); }
        cluster.health_failures = failures;
        cluster.failed_attempts = attempts;
        let all = observations();
        let seen = all.get(seen).cloned().unwrap_or(Observation::unknown("empty answer"));
        let decision = plan(&cluster, Some(&seen), &Policy::default(), moment());
        let deletes = matches!(decision, Decision::Act { action: Action::Delete, .. });
        if let Observation::Unknown(_) = seen {
            proptest::prop_assert!(!matches!(decision, Decision::Remove), "{decision:?}");
            proptest::prop_assert!(!deletes || desired == Desired::Absent, "{decision:?}");
        }
        if desired != Desired::Absent {
            // A started delete is finished before the cluster is created again.
            proptest::prop_assert!(!matches!(decision, Decision::Remove), "{decision:?}");
            proptest::prop_assert!(!deletes || actual == Actual::Deleting, "{decision:?}");
        }
    }
}
