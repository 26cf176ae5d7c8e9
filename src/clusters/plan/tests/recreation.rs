//! A requested recreation, from every state, and clusters that need one.

use super::*;

fn requested(actual: Actual) -> Cluster {
    let mut cluster = dev().recorded(actual).applied();
    cluster.recreate_requested_at = Some(NOW);
    cluster
}

#[test]
fn a_requested_recreation_deletes_what_is_there_from_every_state() {
    let cells = ["observe", "delete", "delete", "delete", "=unknown", "later"];
    for &actual in Actual::ALL {
        assert_eq!(row(&requested(actual)), cells, "{actual}");
    }
}

#[test]
fn what_is_deleted_is_created_and_the_request_is_fulfilled() {
    let policy = Policy::default();
    let mut cluster = requested(Actual::Deleting);
    let decision = plan(&cluster, Some(&Observation::Absent), &policy, moment());
    let Decision::Record(status) = decision else {
        panic!("{decision:?}")
    };
    assert_eq!(status.message, "deleted; it is created again");
    status.apply_to(&mut cluster, NOW);
    assert_eq!(cluster.recreate_requested_at, None);
    assert!(!cluster.spec_applied);
    assert_eq!(word(&plan(&cluster, None, &policy, moment())), "create");
}

#[test]
fn a_later_request_is_not_fulfilled_by_an_earlier_delete() {
    let policy = Policy::default();
    let cluster = requested(Actual::Deleting);
    let Decision::Record(status) = plan(&cluster, Some(&Observation::Absent), &policy, moment())
    else {
        panic!("it is recorded")
    };
    let mut again = cluster;
    again.recreate_requested_at = NOW.checked_add(jiff::SignedDuration::from_secs(1)).ok();
    status.apply_to(&mut again, NOW);
    assert!(again.recreate_requested_at.is_some());
}

#[test]
fn a_paused_or_absent_cluster_is_not_recreated() {
    let mut paused = requested(Actual::Running);
    paused.paused = true;
    assert!(
        row(&paused).iter().all(|cell| cell != "delete"),
        "{:?}",
        row(&paused)
    );
    let mut absent = requested(Actual::Unknown);
    absent.desired = Desired::Absent;
    assert_eq!(row(&absent)[4], "remove");
}

#[test]
fn what_its_provider_cannot_change_keeps_running_and_is_not_retried() {
    let policy = Policy::default();
    let needs = |cluster: &Cluster, observed: &Observation| {
        needs_recreation(
            cluster,
            observed,
            "http_port is 1, not 2",
            &policy,
            moment(),
        )
    };
    let mut cluster = dev().recorded(Actual::Updating);
    cluster.failed_attempts = 2;
    let status = needs(&cluster, &Observation::HEALTHY).unwrap();
    assert_eq!(
        (status.actual, status.reason),
        (Actual::Running, Reason::NeedsRecreation)
    );
    assert!(
        status.message.contains("kindler recreate dev"),
        "{}",
        status.message
    );
    assert_eq!(status.error.as_ref(), Some(&status.message));
    assert_eq!(
        (status.failed_attempts, status.applied),
        (0, Applied::Cleared)
    );
    assert!(status.next_attempt_at > Some(NOW));
    // Its health matters more, and a repair is for the ordinary decisions.
    assert_eq!(needs(&cluster, &Observation::unhealthy("refused")), None);
    cluster.actual = Actual::Running;
    for (failures, reason) in [(0, Reason::ProbeFailed), (2, Reason::HealthLost)] {
        cluster.health_failures = failures;
        let status = needs(&cluster, &Observation::unhealthy("refused")).unwrap();
        assert_eq!(status.reason, reason);
        assert!(!status.healthy);
    }
    let status = needs(&cluster, &Observation::unknown("docker is down")).unwrap();
    assert_eq!(
        (status.actual, status.reason),
        (Actual::Running, Reason::ObservationFailed)
    );
}

#[test]
fn only_decisions_that_count_on_the_spec_compare_it() {
    let policy = Policy::default();
    let counts = |cluster: &Cluster, observed: &Observation| {
        counts_on_spec(cluster, &plan(cluster, Some(observed), &policy, moment()))
    };
    let running = dev().recorded(Actual::Running).applied();
    assert!(counts(&running, &Observation::HEALTHY));
    assert!(!counts(&running, &Observation::unhealthy("refused")));
    assert!(counts(
        &dev().recorded(Actual::Updating),
        &Observation::HEALTHY
    ));
    let mut paused = running.clone();
    paused.paused = true;
    assert!(!counts(&paused, &Observation::HEALTHY));
}
