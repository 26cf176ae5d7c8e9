//! Every cell of the state matrix.

mod changed;
mod convergence;
mod defer;
mod foreign;
mod recreation;
mod repair;
mod steps;

use super::*;
use crate::clusters::samples;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// A row whose cluster, if there is one, is its own.
fn dev() -> Cluster {
    Cluster {
        driver: Some("sandbox".into()),
        ..samples::dev()
    }
}

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

/// The decision as one word, for the table of the matrix.
fn word(decision: &Decision) -> String {
    match decision {
        Decision::Rest { .. } => "rest".into(),
        Decision::Observe { .. } => "observe".into(),
        Decision::Record(status) if status.reason == Reason::ObservationFailed => "later".into(),
        Decision::Record(status) => format!("={}", status.actual),
        Decision::Act { action, .. } => action.as_str().into(),
        Decision::Remove => "remove".into(),
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

/// Columns: not observed, healthy, unhealthy, stopped, absent, unknown.
#[test]
fn every_cell_has_its_decision() {
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
        (
            D::Present,
            A::Restarting,
            ["observe", "=running", "create", "start", "create", "later"],
        ),
        (
            D::Present,
            A::Updating,
            ["observe", "update", "update", "update", "update", "later"],
        ),
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
            ["observe", "=running", "create", "start", "create", "later"],
        ),
        (
            D::Present,
            A::Deleting,
            ["observe", "update", "delete", "start", "create", "later"],
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
            A::Restarting,
            ["observe", "stop", "stop", "=stopped", "=stopped", "later"],
        ),
        (
            D::Stopped,
            A::Updating,
            ["observe", "stop", "stop", "=stopped", "=stopped", "later"],
        ),
        (
            D::Stopped,
            A::Stopping,
            ["observe", "stop", "stop", "=stopped", "=stopped", "later"],
        ),
        (
            D::Stopped,
            A::Stopped,
            [
                "observe", "stop", "=stopped", "=stopped", "=stopped", "later",
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
        (D::Absent, A::Restarting, ["delete"; 6]),
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
fn a_failed_healthy_cluster_is_updated_until_its_spec_is_proven() {
    let cluster = dev().recorded(Actual::Failed);
    assert_eq!(
        row(&cluster),
        ["observe", "update", "create", "start", "create", "later"]
    );
    let requested = Cluster {
        retry_requested_at: Some(NOW),
        ..cluster
    };
    assert_eq!(row(&requested)[5], "create", "a person knows better");
}

/// The cluster is healthy with the old spec; found by the model in `tests/model`.
#[test]
fn a_failing_update_never_counts_as_done() {
    let policy = Policy::default();
    let mut cluster = dev().recorded(Actual::Running).applied();
    cluster.generation += 1;
    cluster.spec_applied = false;
    let mut now = NOW;
    for attempt in 1..=3 {
        now = now.max(cluster.due_at().unwrap_or(now));
        let moment = Moment { now, jitter: 0.5 };
        let decision = plan(&cluster, Some(&Observation::HEALTHY), &policy, moment);
        let Decision::Act { action, intent } = decision else {
            panic!("the spec is to be applied: {decision:?}")
        };
        intent.apply_to(&mut cluster, now);
        let bad = failing(Persistence::Transient);
        let end = conclude(
            &cluster,
            action,
            &bad,
            &Observation::HEALTHY,
            &policy,
            moment,
        );
        let Conclusion::Record(status) = end else {
            panic!("nothing to remove")
        };
        status.apply_to(&mut cluster, now);
        let recorded = (cluster.actual, cluster.failed_attempts);
        assert_eq!(recorded, (Actual::Failed, attempt));
        assert!(!cluster.spec_applied);
    }
}

#[test]
fn a_desire_that_changes_back_needs_one_observation() {
    let mut cluster = dev().recorded(Actual::Running).applied();
    cluster.generation += 2;
    let Decision::Record(status) = plan(
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
fn a_paused_cluster_is_only_observed_in_every_state() {
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
        Decision::Rest { until }
    );
    let mut settled = dev().recorded(Actual::Running).applied();
    settled.next_check_at = Some(until);
    assert_eq!(
        plan(&settled, None, &Policy::default(), moment()),
        Decision::Rest { until }
    );
}

#[test]
fn three_failed_probes_in_a_row_lead_to_a_repair() {
    let policy = Policy::default();
    let unhealthy = Observation::unhealthy("refused");
    let mut cluster = dev().recorded(Actual::Running).applied();
    let mut now = NOW;
    for failures in 1..=3 {
        let Decision::Record(status) = plan(
            &cluster,
            Some(&unhealthy),
            &policy,
            Moment { now, jitter: 0.5 },
        ) else {
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
    let decision = plan(
        &cluster,
        Some(&unhealthy),
        &policy,
        Moment { now, jitter: 0.5 },
    );
    assert_eq!(word(&decision), "create");
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
    // Such a command could not start, so it did nothing.
    let never = failing(Persistence::Permanent);
    let [healthy, unhealthy, stopped, absent, unknown] = observations();
    let good = Outcome::Succeeded;
    let present: &[(Do, &Outcome, &Observation, &str)] = &[
        (Do::Create, &good, &healthy, "running Created"),
        (Do::Create, &good, &absent, "failed CreateFailed"),
        (Do::Create, &good, &unknown, "failed CreateFailed"),
        (Do::Create, &bad, &healthy, "running CreatedWithWarning"),
        (Do::Create, &never, &healthy, "failed CreateFailed"),
        (Do::Create, &bad, &unhealthy, "failed CreateFailed"),
        (Do::Update, &good, &healthy, "running Updated"),
        (Do::Update, &bad, &healthy, "failed UpdateFailed"),
        (Do::Start, &bad, &healthy, "running Started"),
        (Do::Start, &good, &stopped, "failed StartFailed"),
        (Do::Delete, &good, &absent, "unknown Deleted"),
        (Do::Delete, &good, &unhealthy, "failed DeleteFailed"),
        (Do::Stop, &good, &healthy, "failed StopFailed"),
        (Do::Stop, &good, &unknown, "stopped Stopped"),
        (Do::Stop, &bad, &unhealthy, "failed StopFailed"),
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
        (&unhealthy, "failed DeleteFailed"),
        (&unknown, "failed DeleteFailed"),
    ] {
        assert_eq!(concluded(&leaving, Do::Delete, &bad, seen), expected);
        assert_eq!(concluded(&leaving, Do::Delete, &good, seen), expected);
    }
}

#[test]
fn failures_back_off_and_have_a_message() {
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
        Some("create_env.sh ended with exit code 1; the cluster does not exist\nlast lines")
    );
    let permanent = conclude_with(Persistence::Permanent);
    assert_eq!(
        permanent.next_attempt_at,
        Some(moment().after(Duration::from_secs(300)))
    );
}

/// Law 9 of `docs/ARCHITECTURE.md`.
#[test]
fn every_recorded_status_has_a_reason_and_a_message() {
    for desired in Desired::ALL {
        for actual in Actual::ALL {
            for paused in [false, true] {
                let mut cluster = dev().recorded(*actual);
                cluster.desired = *desired;
                cluster.paused = paused;
                for observed in &observations() {
                    let decision = plan(&cluster, Some(observed), &Policy::default(), moment());
                    let Decision::Record(status) = decision else {
                        continue;
                    };
                    let case = format!("{desired} {actual} {observed}: {status:?}");
                    assert!(!status.message.is_empty(), "{case}");
                    let healthy = status.reason == Reason::Healthy;
                    assert!(!healthy || status.actual == Actual::Running, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_changed_desire_stops_every_action_but_a_delete() {
    for &action in Action::ALL {
        for desired in Desired::ALL {
            let cut = interrupt(action, *desired).is_some();
            let expected = match action {
                Action::Delete => false,
                Action::Stop => *desired != Desired::Stopped,
                Action::Create | Action::Update | Action::Start => *desired != Desired::Present,
            };
            assert_eq!(cut, expected, "{action:?} {desired}");
        }
    }
}

/// Most likely the cluster is gone, so a delete must not run before that was observed, also
/// after observations that failed and after a pause.
#[test]
fn a_refused_removal_is_observed_before_a_delete() {
    let (policy, unknown) = (Policy::default(), Observation::unknown("docker is down"));
    for paused in [false, true] {
        let mut cluster = Cluster {
            desired: Desired::Absent,
            actual: Actual::Failed,
            status_reason: Some(Reason::WriteRefused.as_str().to_owned()),
            paused,
            ..dev()
        };
        for _ in 0..2 {
            let decision = plan(&cluster, Some(&unknown), &policy, moment());
            let Decision::Record(status) = decision else {
                panic!("{decision:?}");
            };
            status.apply_to(&mut cluster, NOW);
            (cluster.next_attempt_at, cluster.next_check_at) = (None, None);
        }
        cluster.paused = false;
        let decide = |observed| word(&plan(&cluster, observed, &policy, moment()));
        assert_eq!(decide(None), "observe", "paused: {paused}");
        assert_eq!(decide(Some(&Observation::Absent)), "remove");
        assert_eq!(decide(Some(&Observation::HEALTHY)), "delete");
    }
}
