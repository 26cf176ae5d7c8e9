//! What must hold of all cells at once: apply what is planned, plan again, and
//! in the end there is nothing to do, whatever the host did on the way.

use super::*;

/// A host that can be half-made, stopped, broken or unreadable, and whose
/// commands may lie while luck is bad.
#[derive(Clone, Debug)]
struct Host {
    seen: Observation,
}

#[derive(Clone, Copy, Debug)]
enum Luck {
    Good,
    FailsAndLeaves(usize),
    LiesAndLeaves(usize),
    CrashesAndLeaves(usize),
}

impl Host {
    fn act(&mut self, action: Action, luck: Luck) -> Option<Outcome> {
        let outcome = match luck {
            Luck::Good => {
                self.seen = match action {
                    Action::Create | Action::Update => Observation::HEALTHY,
                    Action::Start if self.seen == Observation::Absent => Observation::Absent,
                    Action::Start => Observation::HEALTHY,
                    Action::Stop if self.seen == Observation::Absent => Observation::Absent,
                    Action::Stop => Observation::STOPPED,
                    Action::Delete => Observation::Absent,
                };
                return Some(Outcome::Succeeded);
            }
            Luck::FailsAndLeaves(_) => Some(failing(Persistence::Transient)),
            Luck::LiesAndLeaves(_) => Some(Outcome::Succeeded),
            Luck::CrashesAndLeaves(_) => None,
        };
        let (Luck::FailsAndLeaves(n) | Luck::LiesAndLeaves(n) | Luck::CrashesAndLeaves(n)) = luck
        else {
            unreachable!("good luck returned above")
        };
        self.seen = observations()[n].clone();
        outcome
    }
}

/// A person declares something else; whether that orders a delete.
fn change_mind(cluster: &mut Cluster, desired: Desired) -> bool {
    if cluster.desired != desired {
        cluster.desired = desired;
        cluster.generation += 1;
        cluster.failed_attempts = 0;
        cluster.next_attempt_at = None;
    }
    desired == Desired::Absent
}

/// Carries out what is planned until the row is settled or gone (`None`). Panics on
/// a delete that no row ordered.
fn carry_out(
    cluster: &mut Cluster,
    host: &mut Host,
    luck: &[Luck],
    desires: &[Desired],
) -> Option<()> {
    let policy = Policy::default();
    let mut luck = luck.iter().copied();
    let mut desires = desires.iter().copied();
    let mut now = NOW;
    let mut ordered = cluster.desired == Desired::Absent || cluster.actual == Actual::Deleting;
    for _ in 0..200 {
        now = now.max(cluster.due_at().unwrap_or(now));
        let moment = Moment { now, jitter: 0.5 };
        if cluster.settled() && cluster.next_check_at.is_some() && cluster.health_failures == 0 {
            let Some(desired) = desires.next() else {
                return Some(());
            };
            ordered |= change_mind(cluster, desired);
        }
        let first = plan(cluster, None, &policy, moment);
        let step = match first {
            Decision::Observe { .. } => plan(cluster, Some(&host.seen), &policy, moment),
            other => other,
        };
        match step {
            Decision::Observe { .. } => panic!("asked to look twice"),
            Decision::Rest { until } => now = until,
            Decision::Record(status) => status.apply_to(cluster, now),
            Decision::Remove => {
                assert_eq!(
                    (cluster.desired, &host.seen),
                    (Desired::Absent, &Observation::Absent)
                );
                return None;
            }
            Decision::Act { action, intent } => {
                intent.apply_to(cluster, now);
                assert!(
                    action != Action::Delete || ordered,
                    "nobody ordered this delete"
                );
                let outcome = host.act(action, luck.next().unwrap_or(Luck::Good));
                if let Some(desired) = desires.next().filter(|d| *d != cluster.desired) {
                    ordered |= change_mind(cluster, desired);
                    continue; // the conclusion loses by generation
                }
                let Some(outcome) = outcome else { continue };
                match conclude(cluster, action, &outcome, &host.seen, &policy, moment) {
                    Conclusion::Record(status) => status.apply_to(cluster, now),
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
    luck: &[Luck],
    desires: &[Desired],
) {
    let mut cluster = dev().recorded(actual).wanted(desired);
    if applied {
        cluster = cluster.applied();
    }
    let mut host = Host { seen: seen.clone() };
    // An unreadable host becomes readable in the end, as faults do.
    if let Observation::Unknown(_) = host.seen {
        let step = plan(&cluster, Some(&host.seen), &Policy::default(), moment());
        assert!(
            !matches!(step, Decision::Remove),
            "ignorance is not absence"
        );
        host.seen = Observation::Absent;
    }
    let end = carry_out(&mut cluster, &mut host, luck, desires);
    match cluster.desired {
        Desired::Absent => assert_eq!((end, host.seen), (None, Observation::Absent)),
        Desired::Present => assert_eq!(host.seen, Observation::HEALTHY),
        Desired::Stopped => assert!(!host.seen.is_healthy(), "still up: {cluster:?}"),
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
    fn any_luck_and_any_change_of_mind_converges_once_both_end(
        desired in 0usize..3, actual in 0usize..8, seen in 0usize..5, applied: bool,
        luck in proptest::collection::vec((0u8..4, 0usize..4), 0..8),
        desires in proptest::collection::vec(0usize..3, 0..5),
    ) {
        let luck: Vec<Luck> = luck.into_iter().map(|(kind, left)| match kind {
            0 => Luck::Good,
            1 => Luck::FailsAndLeaves(left),
            2 => Luck::LiesAndLeaves(left),
            _ => Luck::CrashesAndLeaves(left),
        }).collect();
        let desires: Vec<Desired> = desires.into_iter().map(|n| Desired::ALL[n]).collect();
        assert_converges(
            Desired::ALL[desired], Actual::ALL[actual], &observations()[seen], applied, &luck, &desires,
        );
    }

    #[test]
    fn ignorance_never_deletes_and_nothing_goes_that_was_not_declared_absent(
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
        let step = plan(&cluster, Some(&seen), &Policy::default(), moment());
        let deletes = matches!(step, Decision::Act { action: Action::Delete, .. });
        if let Observation::Unknown(_) = seen {
            proptest::prop_assert!(!matches!(step, Decision::Remove), "{step:?}");
            proptest::prop_assert!(!deletes || desired == Desired::Absent, "{step:?}");
        }
        if desired != Desired::Absent {
            // A delete that was begun is finished before the cluster is made again.
            proptest::prop_assert!(!matches!(step, Decision::Remove), "{step:?}");
            proptest::prop_assert!(!deletes || actual == Actual::Deleting, "{step:?}");
        }
    }
}
