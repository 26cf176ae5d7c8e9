//! Clusters that a row did not make, and rows that own none yet.

use super::*;

fn foreign() -> Observation {
    Observation::foreign("a k3d cluster dev exists that this row did not make")
}

/// Every row that an owner, a person or a crash may leave, and that owns no cluster.
fn unowned() -> Vec<Cluster> {
    let states = [Actual::Unknown, Actual::Stopped, Actual::Failed];
    let rows = states.iter().flat_map(|&actual| {
        Desired::ALL.iter().flat_map(move |&desired| {
            let row = samples::dev().recorded(actual).wanted(desired);
            let asked = Cluster {
                retry_requested_at: Some(NOW),
                ..row.clone()
            };
            let again = Cluster {
                recreate_requested_at: Some(NOW),
                ..row.clone()
            };
            let refused = Cluster {
                status_reason: Some(Reason::WriteRefused.as_str().into()),
                ..row.clone()
            };
            [row.clone().applied(), row, asked, again, refused]
        })
    });
    let rows: Vec<Cluster> = rows.collect();
    assert!(rows.iter().all(|row| !row.owns_a_cluster()));
    rows
}

#[test]
fn a_row_acts_on_what_it_owns_after_a_look_at_the_earliest() {
    let policy = Policy::default();
    for cluster in unowned() {
        let first = plan(&cluster, None, &policy, moment());
        assert!(!matches!(first, Decision::Act { .. }), "{cluster:?}");
        let unknown = Observation::unknown("docker is down");
        let blind = plan(&cluster, Some(&unknown), &policy, moment());
        assert!(matches!(blind, Decision::Record(_)), "{blind:?}");
    }
}

#[test]
fn a_foreign_cluster_fails_the_row_and_nothing_acts() {
    let policy = Policy::default();
    for cluster in unowned() {
        let mut cluster = cluster;
        for _ in 0..3 {
            let Decision::Record(status) = plan(&cluster, Some(&foreign()), &policy, moment())
            else {
                panic!("{cluster:?}")
            };
            assert_eq!(status.actual, Actual::Failed);
            assert!(status.message.contains("did not make"));
            // It may be deleted by hand at any time.
            assert_eq!(
                status.next_attempt_at,
                Some(moment().after(policy.observe_retry))
            );
            assert_eq!(status.failed_attempts, 1);
            status.apply_to(&mut cluster, NOW);
            assert!(!cluster.owns_a_cluster());
            cluster.next_attempt_at = None;
        }
        let gone = plan(&cluster, Some(&Observation::Absent), &policy, moment());
        let expected = match cluster.desired {
            Desired::Present if cluster.recreate_requested_at.is_some() => "=unknown",
            Desired::Present => "create",
            Desired::Stopped => "=stopped",
            Desired::Absent => "remove",
        };
        assert_eq!(word(&gone), expected, "{cluster:?}");
    }
}

#[test]
fn a_row_that_may_only_observe_owns_nothing_it_sees() {
    let policy = Policy::default();
    let mut cluster = samples::dev();
    cluster.paused = true;
    let Decision::Record(status) = plan(&cluster, Some(&foreign()), &policy, moment()) else {
        panic!("it is recorded")
    };
    assert_eq!(status.reason, Reason::Paused);
    status.apply_to(&mut cluster, NOW);
    assert!(!cluster.owns_a_cluster());
}

/// A first action is that of the row after it is observed absent, or taken over.
#[test]
fn what_began_or_was_taken_over_is_owned() {
    let adopted = Cluster {
        adopt_requested_at: Some(NOW),
        ..samples::dev()
    };
    assert_eq!(row(&adopted), ["create"; 6]);
    let failed = adopted.recorded(Actual::Failed);
    let cells = ["observe", "update", "create", "start", "create", "later"];
    assert_eq!(row(&failed), cells);
    for &actual in Actual::ALL {
        let began = samples::dev().recorded(actual);
        let nothing = [Actual::Unknown, Actual::Stopped, Actual::Failed];
        assert_eq!(
            began.owns_a_cluster(),
            !nothing.contains(&actual),
            "{actual}"
        );
    }
    let was_healthy = Cluster {
        last_healthy_at: Some(NOW),
        ..samples::dev()
    };
    assert!(was_healthy.owns_a_cluster() && dev().owns_a_cluster());
}
