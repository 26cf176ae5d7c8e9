//! Repairs and starts have their own state, and the last failure stays visible.

use super::*;

fn lost() -> Cluster {
    let mut cluster = dev().recorded(Actual::Failed).applied();
    cluster.last_healthy_at = Some(NOW);
    cluster.status_reason = Some(Reason::HealthLost.as_str().to_owned());
    cluster.reconcile_error = Some("3 probes failed in a row: refused\nmore".to_owned());
    cluster
}

fn intent(cluster: &Cluster, seen: &Observation) -> (Actual, Reason, String) {
    match plan(cluster, Some(seen), &Policy::default(), moment()) {
        Decision::Act { intent, .. } => (intent.actual, intent.reason, intent.message),
        decision => panic!("an action: {decision:?}"),
    }
}

#[test]
fn a_repair_in_place_is_no_fresh_create() {
    let unhealthy = Observation::unhealthy("refused");
    let expected = |actual, reason, message: &str| (actual, reason, message.to_owned());
    assert_eq!(
        intent(&lost(), &unhealthy),
        expected(
            Actual::Restarting,
            Reason::Repairing,
            "repairing: 3 probes failed in a row: refused"
        )
    );
    assert_eq!(
        intent(&lost(), &Observation::STOPPED),
        expected(
            Actual::Restarting,
            Reason::Starting,
            "repairing by a start: 3 probes failed in a row: refused"
        )
    );
    // It is gone, so it is created.
    assert_eq!(
        intent(&lost(), &Observation::Absent),
        expected(
            Actual::Creating,
            Reason::Creating,
            "create started: 3 probes failed in a row: refused"
        )
    );
    let never_healthy = Cluster {
        last_healthy_at: None,
        ..lost()
    };
    assert_eq!(intent(&never_healthy, &unhealthy).0, Actual::Creating);
    let stopped = dev().recorded(Actual::Stopped);
    assert_eq!(
        intent(&stopped, &unhealthy),
        expected(Actual::Restarting, Reason::Starting, "start started")
    );
}

#[test]
fn the_result_of_a_repair_says_so() {
    let restarting = Cluster {
        actual: Actual::Restarting,
        ..lost()
    };
    let good = Outcome::Succeeded;
    let seen = Observation::HEALTHY;
    let ended = concluded(&restarting, Action::Create, &good, &seen);
    assert_eq!(ended, "running Repaired");
    let ended = concluded(&restarting, Action::Start, &good, &seen);
    assert_eq!(ended, "running Started");
}

#[test]
fn a_retry_shows_the_last_failure() {
    let failed = Cluster {
        failed_attempts: 2,
        status_reason: Some(Reason::CreateFailed.as_str().to_owned()),
        reconcile_error: Some("create_env.sh exited with code 3; it is gone\nlog: x".to_owned()),
        ..lost()
    };
    let (_, _, message) = intent(&failed, &Observation::Absent);
    assert_eq!(
        message,
        "create started, attempt 3; the last attempt failed: create_env.sh exited with code 3; it is gone"
    );
    let step = started_message(
        &failed,
        Action::Create,
        Reason::Creating,
        Some("step 1 of 2: port"),
    );
    assert!(
        step.starts_with("create started, attempt 3: step 1 of 2: port; the last attempt failed: "),
        "{step}"
    );
}

#[test]
fn a_paused_cluster_keeps_showing_its_failure() {
    let mut paused = Cluster {
        paused: true,
        failed_attempts: 2,
        ..lost()
    };
    for (seen, actual, shown) in [
        (
            Observation::Absent,
            Actual::Failed,
            "the cluster does not exist",
        ),
        (
            Observation::unhealthy("refused"),
            Actual::Failed,
            "the cluster is unhealthy: refused",
        ),
        (
            Observation::unknown("no docker"),
            Actual::Failed,
            "cannot be observed: no docker",
        ),
        (
            Observation::STOPPED,
            Actual::Stopped,
            "the cluster is stopped",
        ),
        (
            Observation::HEALTHY,
            Actual::Running,
            "the cluster is healthy",
        ),
    ] {
        let decision = plan(&paused, Some(&seen), &Policy::default(), moment());
        let Decision::Record(status) = decision else {
            panic!("it is only observed")
        };
        assert_eq!(
            (status.actual, status.reason),
            (actual, Reason::Paused),
            "{seen}"
        );
        assert!(status.message.contains(shown), "{}", status.message);
        let failure = "; the last attempt failed: 3 probes failed in a row: refused";
        assert!(status.message.ends_with(failure), "{}", status.message);
    }
    paused.reconcile_error = None;
    paused.actual = Actual::Unknown;
    let decision = plan(
        &paused,
        Some(&Observation::Absent),
        &Policy::default(),
        moment(),
    );
    let Decision::Record(status) = decision else {
        panic!("it is only observed")
    };
    assert_eq!(
        (status.actual, &*status.message),
        (Actual::Unknown, "the cluster does not exist")
    );
}

#[test]
fn a_flapping_cluster_says_so_and_ends_after_an_hour() {
    let policy = Policy::default();
    let (sick, well) = (Observation::unhealthy("refused"), Observation::HEALTHY);
    let mut cluster = dev().recorded(Actual::Running).applied();
    let mut now = NOW;
    let mut reasons = Vec::new();
    for seen in [
        &sick, &well, &sick, &well, &sick, &well, &sick, &well, &well,
    ] {
        let decision = plan(&cluster, Some(seen), &policy, Moment { now, jitter: 0.5 });
        let Decision::Record(status) = decision else {
            panic!("a probe is only recorded")
        };
        reasons.push(status.reason.as_str());
        status.apply_to(&mut cluster, now);
        now = cluster.due_at().unwrap_or(now);
    }
    assert_eq!(
        reasons,
        [
            "ProbeFailed",
            "Healthy",
            "ProbeFailed",
            "Healthy",
            "ProbeFailed",
            "Flapping",
            "Flapping",
            "Flapping",
            "Flapping"
        ]
    );
    let message = cluster.status_message.clone().unwrap();
    assert!(
        message.ends_with(
            "; flapping: 4 recoveries and losses, each within an hour of the one before"
        ),
        "{message}"
    );
    let later = now
        .checked_add(jiff::SignedDuration::from_hours(1))
        .unwrap();
    let at = Moment {
        now: later,
        jitter: 0.5,
    };
    let Decision::Record(status) = plan(&cluster, Some(&well), &policy, at) else {
        panic!("a probe is only recorded")
    };
    assert_eq!((status.reason, status.flaps.count), (Reason::Healthy, 0));
}
