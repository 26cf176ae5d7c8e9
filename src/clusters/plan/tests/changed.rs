//! What is recorded after an action during which the spec of its row changed.

use super::*;

/// The row with the intent of an action, and the same row after its spec changed.
fn changed(attempts: u32) -> (Cluster, Cluster) {
    let begun = Cluster {
        spec_hash: "old".into(),
        failed_attempts: attempts,
        ..dev().recorded(Actual::Updating)
    };
    let now = Cluster {
        spec_hash: "new".into(),
        generation: begun.generation + 1,
        // The change resets the count.
        failed_attempts: 0,
        ..begun.clone()
    };
    (begun, now)
}

fn failed() -> Outcome {
    Outcome::Failed(Failure {
        persistence: Persistence::Transient,
        summary: "update exited with code 1".into(),
        detail: String::new(),
    })
}

fn after(
    rows: &(Cluster, Cluster),
    action: Action,
    outcome: &Outcome,
    observed: &Observation,
) -> Option<Status> {
    let policy = Policy::default();
    conclude_changed(
        (&rows.0, &rows.1),
        action,
        outcome,
        observed,
        &policy,
        moment(),
    )
}

fn updated(attempts: u32) -> Status {
    let (rows, healthy) = (changed(attempts), Observation::HEALTHY);
    after(&rows, Action::Update, &Outcome::Succeeded, &healthy).unwrap()
}

#[test]
fn only_repeated_changes_wait() {
    let first = updated(0);
    assert_eq!(
        (first.reason, first.next_attempt_at),
        (Reason::Updated, None)
    );
    let mut last = NOW;
    for attempts in 1..8 {
        let again = updated(attempts);
        assert_eq!(
            (again.actual, again.reason),
            (Actual::Running, Reason::ChangeDeferred)
        );
        assert_eq!(again.failed_attempts, attempts + 1);
        assert_eq!((again.applied, again.reached), (Applied::Kept, false));
        let due = again.next_attempt_at.unwrap();
        assert!(due > last, "the delay grows");
        last = due;
        // When it is due, the changed spec is applied.
        let (_, mut row) = changed(attempts);
        again.apply_to(&mut row, NOW);
        assert_eq!(
            word(&plan(&row, None, &Policy::default(), moment())),
            "rest"
        );
        row.next_attempt_at = Some(NOW);
        assert_eq!(
            word(&plan(&row, None, &Policy::default(), moment())),
            "update"
        );
    }
    assert!(last <= moment().after(Policy::default().backoff.max));
}

#[test]
fn a_failure_counts_on_although_the_row_changed() {
    for action in [Action::Create, Action::Update, Action::Delete] {
        let rows = changed(2);
        let status = after(&rows, action, &failed(), &Observation::unhealthy("x")).unwrap();
        assert_eq!((status.actual, status.failed_attempts), (Actual::Failed, 3));
        assert!(status.next_attempt_at > Some(NOW));
    }
}

#[test]
fn a_spec_that_is_the_same_again_is_applied() {
    let (begun, mut now) = changed(3);
    now.spec_hash = begun.spec_hash.clone();
    let healthy = Observation::HEALTHY;
    let status = after(&(begun, now), Action::Update, &Outcome::Succeeded, &healthy).unwrap();
    assert_eq!(
        (status.applied, status.failed_attempts),
        (Applied::Proven, 0)
    );
}

#[test]
fn other_changes_are_planned_again() {
    let healthy = Observation::HEALTHY;
    let again = |change: fn(&mut Cluster)| {
        let (begun, mut now) = changed(1);
        change(&mut now);
        after(&(begun, now), Action::Update, &failed(), &healthy)
    };
    assert_eq!(again(|now| now.desired = Desired::Absent), None);
    assert_eq!(again(|now| now.paused = true), None);
    assert_eq!(again(|now| now.generation = 1), None);
    let gone = changed(1);
    let gone = (
        gone.0.wanted(Desired::Absent),
        gone.1.wanted(Desired::Absent),
    );
    let removed = after(&gone, Action::Delete, &failed(), &Observation::Absent);
    assert_eq!(removed, None, "the row is removed");
}
