//! Every cell of the state matrix, and what must hold of all of them at once.

use super::*;
use crate::cluster::samples::dev;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn moment() -> Moment {
    Moment {
        now: NOW,
        jitter: 0.0,
    }
}

fn observations() -> [Observation; 5] {
    [
        Observation::HEALTHY,
        Observation::unhealthy("refused"),
        Observation::STOPPED,
        Observation::Absent,
        Observation::unknown("docker is down"),
    ]
}

/// The step as one word, so that the matrix reads as a table.
fn word(step: &Step) -> String {
    match step {
        Step::Rest { .. } => "rest".into(),
        Step::Observe { .. } => "observe".into(),
        Step::Record(status) if status.reason == Reason::ObservationFailed => "later".into(),
        Step::Record(status) => format!("={}", status.actual),
        Step::Act { action, .. } => action.as_str().into(),
        Step::Remove => "remove".into(),
    }
}

fn row(cluster: &Cluster) -> Vec<String> {
    let policy = Policy::default();
    let mut words = vec![word(&plan(cluster, None, &policy, moment()))];
    for observed in &observations() {
        words.push(word(&plan(cluster, Some(observed), &policy, moment())));
    }
    words
}

/// Columns: before a look; then healthy, unhealthy, stopped, absent, unknown.
#[test]
fn every_cell_of_the_matrix() {
    use Actual as A;
    use Desired as D;
    let matrix: &[(D, A, [&str; 6])] = &[
        (D::Present, A::Unknown, ["create"; 6]),
        (
            D::Present,
            A::Creating,
            ["observe", "=running", "create", "create", "create", "later"],
        ),
        (
            D::Present,
            A::Running,
            [
                "observe", "=running", "=running", "=running", "=running", "later",
            ],
        ),
        (D::Present, A::Updating, ["update"; 6]),
        (
            D::Present,
            A::Stopping,
            ["observe", "=running", "start", "start", "create", "later"],
        ),
        (
            D::Present,
            A::Stopped,
            ["observe", "=running", "start", "start", "create", "later"],
        ),
        (
            D::Present,
            A::Failed,
            ["observe", "=running", "create", "start", "create", "create"],
        ),
        (
            D::Present,
            A::Deleting,
            ["observe", "update", "delete", "delete", "create", "later"],
        ),
        (
            D::Stopped,
            A::Unknown,
            ["observe", "stop", "stop", "=stopped", "=stopped", "later"],
        ),
        (
            D::Stopped,
            A::Creating,
            ["observe", "stop", "stop", "=stopped", "=stopped", "later"],
        ),
        (D::Stopped, A::Running, ["stop"; 6]),
        (
            D::Stopped,
            A::Updating,
            ["observe", "stop", "stop", "=stopped", "=stopped", "later"],
        ),
        (D::Stopped, A::Stopping, ["stop"; 6]),
        (
            D::Stopped,
            A::Stopped,
            [
                "observe", "stop", "=stopped", "=stopped", "=stopped", "=stopped",
            ],
        ),
        (
            D::Stopped,
            A::Failed,
            ["observe", "stop", "stop", "=stopped", "=stopped", "later"],
        ),
        (
            D::Stopped,
            A::Deleting,
            ["observe", "stop", "stop", "=stopped", "=stopped", "later"],
        ),
        (
            D::Absent,
            A::Unknown,
            ["observe", "delete", "delete", "delete", "remove", "later"],
        ),
        (D::Absent, A::Creating, ["delete"; 6]),
        (D::Absent, A::Running, ["delete"; 6]),
        (D::Absent, A::Updating, ["delete"; 6]),
        (D::Absent, A::Stopping, ["delete"; 6]),
        (D::Absent, A::Stopped, ["delete"; 6]),
        (D::Absent, A::Failed, ["delete"; 6]),
        (
            D::Absent,
            A::Deleting,
            ["observe", "delete", "delete", "delete", "remove", "delete"],
        ),
    ];
    assert_eq!(
        matrix.len(),
        Desired::ALL.len() * Actual::ALL.len(),
        "a pair is missing"
    );
    for (desired, actual, expected) in matrix {
        let cluster = dev().recorded(*actual).applied().wanted(*desired);
        assert_eq!(row(&cluster), *expected, "{desired} | {actual}");
    }
}

#[test]
fn a_running_cluster_with_a_changed_spec_is_updated() {
    let mut cluster = dev().recorded(Actual::Running).applied();
    cluster.generation += 1;
    cluster.spec_applied = false;
    assert_eq!(row(&cluster), ["update"; 6]);
}

#[test]
fn a_failed_cluster_whose_spec_is_not_proven_is_created_even_when_it_answers() {
    let cluster = dev().recorded(Actual::Failed);
    assert_eq!(
        row(&cluster),
        ["observe", "create", "create", "start", "create", "create"]
    );
}

#[test]
fn a_desire_that_changed_and_changed_back_costs_one_look() {
    let mut cluster = dev().recorded(Actual::Running).applied();
    cluster.generation += 2;
    let Step::Record(status) = plan(
        &cluster,
        Some(&Observation::HEALTHY),
        &Policy::default(),
        moment(),
    ) else {
        panic!("nothing needs doing");
    };
    status.apply_to(&mut cluster, NOW);
    assert!(cluster.settled());
}

#[test]
fn hands_off_means_only_looking_in_every_state() {
    for actual in Actual::ALL {
        for desired in Desired::ALL {
            let mut cluster = dev().recorded(*actual).wanted(*desired);
            cluster.paused = true;
            let words = row(&cluster);
            assert_eq!(words[0], "observe");
            assert!(
                words[1..].iter().all(|w| w.starts_with('=')),
                "{desired} {actual}: {words:?}"
            );
        }
    }
}

#[test]
fn nothing_happens_before_its_time() {
    let mut cluster = dev().recorded(Actual::Failed);
    let until = moment().after(Duration::from_secs(5));
    cluster.next_attempt_at = Some(until);
    assert_eq!(
        plan(&cluster, None, &Policy::default(), moment()),
        Step::Rest { until }
    );
    let mut settled = dev().recorded(Actual::Running).applied();
    settled.next_check_at = Some(until);
    assert_eq!(
        plan(&settled, None, &Policy::default(), moment()),
        Step::Rest { until }
    );
}

#[test]
fn three_failed_probes_in_a_row_lead_to_a_repair_and_not_fewer() {
    let policy = Policy::default();
    let ill = Observation::unhealthy("refused");
    let mut cluster = dev().recorded(Actual::Running).applied();
    let mut now = NOW;
    for failures in 1..=3 {
        let Step::Record(status) = plan(&cluster, Some(&ill), &policy, Moment { now, jitter: 0.5 })
        else {
            panic!("a probe is only recorded")
        };
        status.apply_to(&mut cluster, now);
        assert_eq!(cluster.health_failures, failures);
        let expected = if failures < 3 {
            Actual::Running
        } else {
            Actual::Failed
        };
        assert_eq!(cluster.actual, expected);
        now = cluster.due_at().unwrap_or(now);
    }
    assert_eq!(
        now,
        NOW.checked_add(jiff::SignedDuration::from_secs(20))
            .unwrap()
    );
    assert_eq!(cluster.status_reason.as_deref(), Some("HealthLost"));
    let step = plan(&cluster, Some(&ill), &policy, Moment { now, jitter: 0.5 });
    assert_eq!(word(&step), "create");
}

fn failing(persistence: Persistence) -> Outcome {
    Outcome::Failed(Failure {
        persistence,
        summary: "create_env.sh ended with exit code 1".into(),
        detail: "last lines".into(),
    })
}

fn concluded(cluster: &Cluster, action: Action, outcome: &Outcome, seen: &Observation) -> String {
    match conclude(cluster, action, outcome, seen, &Policy::default(), moment()) {
        Conclusion::Record(status) => format!("{} {}", status.actual, status.reason),
        Conclusion::Remove => "remove".into(),
    }
}

#[test]
fn an_ended_action_is_judged_by_observation() {
    use Action as Do;
    let bad = failing(Persistence::Transient);
    let [healthy, ill, stopped, absent, unknown] = observations();
    let good = Outcome::Succeeded;
    let present: &[(Do, &Outcome, &Observation, &str)] = &[
        (Do::Create, &good, &healthy, "running Created"),
        (Do::Create, &good, &absent, "failed CreateFailed"),
        (Do::Create, &good, &unknown, "failed CreateFailed"),
        (Do::Create, &bad, &healthy, "running CreatedWithWarning"),
        (Do::Create, &bad, &ill, "failed CreateFailed"),
        (Do::Update, &good, &healthy, "running Updated"),
        (Do::Update, &bad, &healthy, "failed UpdateFailed"),
        (Do::Start, &bad, &healthy, "running Started"),
        (Do::Start, &good, &stopped, "failed StartFailed"),
        (Do::Delete, &good, &absent, "unknown Deleted"),
        (Do::Delete, &good, &ill, "failed DeleteFailed"),
        (Do::Stop, &good, &healthy, "failed StopFailed"),
        (Do::Stop, &good, &unknown, "stopped Stopped"),
        (Do::Stop, &bad, &ill, "failed StopFailed"),
        (Do::Stop, &bad, &stopped, "stopped Stopped"),
    ];
    for (action, outcome, seen, expected) in present {
        let cluster = dev().recorded(action.intent());
        assert_eq!(
            concluded(&cluster, *action, outcome, seen),
            *expected,
            "{action:?} {seen}"
        );
    }
    let leaving = dev().recorded(Actual::Deleting).wanted(Desired::Absent);
    for (seen, expected) in [
        (&absent, "remove"),
        (&healthy, "failed DeleteFailed"),
        (&ill, "failed DeleteFailed"),
        (&unknown, "failed DeleteFailed"),
    ] {
        assert_eq!(concluded(&leaving, Do::Delete, &bad, seen), expected);
        assert_eq!(concluded(&leaving, Do::Delete, &good, seen), expected);
    }
}

#[test]
fn failures_back_off_and_say_what_a_person_needs() {
    let mut cluster = dev().recorded(Actual::Creating);
    cluster.failed_attempts = 2;
    let conclude_with = |persistence| {
        let outcome = failing(persistence);
        let seen = Observation::Absent;
        match conclude(
            &cluster,
            Action::Create,
            &outcome,
            &seen,
            &Policy::default(),
            moment(),
        ) {
            Conclusion::Record(status) => status,
            Conclusion::Remove => panic!("nothing to remove"),
        }
    };
    let transient = conclude_with(Persistence::Transient);
    assert_eq!(transient.failed_attempts, 3);
    assert_eq!(
        transient.next_attempt_at,
        Some(moment().after(Duration::from_secs(20)))
    );
    assert_eq!(
        transient.error.as_deref(),
        Some("create_env.sh ended with exit code 1; it does not exist\nlast lines")
    );
    let permanent = conclude_with(Persistence::Permanent);
    assert_eq!(
        permanent.next_attempt_at,
        Some(moment().after(Duration::from_secs(300)))
    );
}

#[test]
fn a_change_of_desire_cuts_everything_short_but_a_delete() {
    for action in Action::ALL {
        for wanted in Desired::ALL {
            let cut = interrupt(action, *wanted).is_some();
            let expected = match action {
                Action::Delete => false,
                Action::Stop => *wanted != Desired::Stopped,
                Action::Create | Action::Update | Action::Start => *wanted != Desired::Present,
            };
            assert_eq!(cut, expected, "{action:?} {wanted}");
        }
    }
}

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

/// Carries out what is planned until the row is settled or gone (`None`). Panics on a delete that no row ordered.
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
            Step::Observe { .. } => plan(cluster, Some(&host.seen), &policy, moment),
            other => other,
        };
        match step {
            Step::Observe { .. } => panic!("asked to look twice"),
            Step::Rest { until } => now = until,
            Step::Record(status) => status.apply_to(cluster, now),
            Step::Remove => {
                assert_eq!(
                    (cluster.desired, &host.seen),
                    (Desired::Absent, &Observation::Absent)
                );
                return None;
            }
            Step::Act { action, intent } => {
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
        assert!(!matches!(step, Step::Remove), "ignorance is not absence");
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
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]
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
    fn a_look_that_failed_never_deletes_and_never_removes(
        desired in 0usize..2, actual in 0usize..8, applied: bool, failures in 0u32..10,
    ) {
        let mut cluster = dev().recorded(Actual::ALL[actual]).wanted(Desired::ALL[desired]);
        if applied { cluster = cluster.applied(); }
        cluster.health_failures = failures;
        let step = plan(&cluster, Some(&Observation::unknown("empty answer")), &Policy::default(), moment());
        let deletes = matches!(step, Step::Remove | Step::Act { action: Action::Delete, .. });
        proptest::prop_assert!(!deletes, "{step:?}");
    }
}
