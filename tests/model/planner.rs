//! The planner with observations that fail, are empty or are cut off, on clusters of others, and
//! with requests to adopt and to create again: whatever the row says, a failed observation deletes
//! nothing, and nothing acts on a cluster that is not the row's. Random walks over the real plan;
//! the model explores fewer rows, but all orders of events.

use jiff::{SignedDuration, Timestamp};
use kindler::clusters::observation::{Observation, PresentState};
use kindler::clusters::plan::{
    Action, Conclusion, Decision, Failure, Moment, Outcome, Persistence, Policy, conclude, plan,
};
use kindler::clusters::{Actual, Cluster, Desired};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

use crate::row::template;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// Three observations of four have failed, with the texts that drivers use.
fn observations() -> impl Strategy<Value = Observation> {
    let failed = select(vec![
        "kubectl ended with exit code 1",
        "the list is empty",
        "the list was cut off after 65536 bytes",
        "no answer within 10 s",
        "the look was cut short",
    ]);
    prop_oneof![
        3 => failed.prop_map(Observation::unknown),
        1 => select(vec![
            Observation::HEALTHY,
            Observation::unhealthy("refused"),
            Observation::STOPPED,
            Observation::Absent,
        ]),
        1 => Just(Observation::foreign("it exists, and this row did not make it")),
    ]
}

/// What a person does between two looks of the daemon.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Nothing,
    Adopt,
    Recreate,
    Retry,
    Desire(Desired),
}

fn wishes() -> impl Strategy<Value = Wish> {
    prop_oneof![
        4 => Just(Wish::Nothing),
        1 => Just(Wish::Adopt),
        1 => Just(Wish::Recreate),
        1 => Just(Wish::Retry),
        1 => select(Desired::ALL).prop_map(Wish::Desire),
    ]
}

impl Wish {
    /// As the statements and the triggers change the row.
    fn apply_to(self, cluster: &mut Cluster, now: Timestamp) {
        match self {
            Self::Nothing => return,
            Self::Adopt => {
                cluster.adopt_requested_at = Some(now);
                cluster.driver = None;
                cluster.engine = None;
            }
            Self::Recreate => cluster.recreate_requested_at = Some(now),
            Self::Retry => cluster.retry_requested_at = Some(now),
            Self::Desire(desired) if desired == cluster.desired => return,
            Self::Desire(desired) => {
                cluster.desired = desired;
                cluster.generation += 1;
            }
        }
        cluster.failed_attempts = 0;
        cluster.next_attempt_at = None;
        cluster.next_check_at = None;
    }
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let failed = |persistence| {
        Outcome::Failed(Failure {
            persistence,
            summary: "exit code 1".into(),
            detail: String::new(),
        })
    };
    prop_oneof![
        Just(Outcome::Succeeded),
        Just(failed(Persistence::Transient)),
        Just(failed(Persistence::Permanent)),
    ]
}

fn rows() -> impl Strategy<Value = Cluster> {
    let states = (select(Desired::ALL), select(Actual::ALL));
    let flags = (any::<bool>(), any::<bool>(), 0..8_u8, any::<bool>());
    (states, flags, 0..12_u32, 0..5_u32).prop_map(
        |(
            (desired, actual),
            (spec_applied, reached, flag, was_healthy),
            failed_attempts,
            health_failures,
        )| {
            Cluster {
                last_healthy_at: template().last_healthy_at.filter(|_| was_healthy),
                desired,
                actual,
                spec_applied,
                generation: 2,
                observed_generation: if reached { 2 } else { 1 },
                paused: flag == 0,
                protected: flag == 1,
                failed_attempts,
                health_failures,
                ..template().clone()
            }
        },
    )
}

/// Repeats plan, observe, act and conclude, and checks each decision.
fn walk(mut cluster: Cluster, events: &[(Wish, Observation, Outcome)]) {
    let policy = Policy::default();
    let mut now = NOW;
    for (wish, observation, outcome) in events {
        wish.apply_to(&mut cluster, now);
        // No driver finds the cluster of another where a row has one.
        let observation = match observation {
            Observation::Present(PresentState::Foreign(_)) if cluster.owns_a_cluster() => {
                &Observation::HEALTHY
            }
            observation => observation,
        };
        now = cluster.due_at().unwrap_or(now).max(now);
        let moment = Moment { now, jitter: 0.5 };
        let first = plan(&cluster, None, &policy, moment);
        let (step, observed) = match first {
            Decision::Observe { .. } => (
                plan(&cluster, Some(observation), &policy, moment),
                Some(observation),
            ),
            other => (other, None),
        };
        check(&cluster, &step, observed);
        match step {
            Decision::Rest { .. } | Decision::Observe { .. } => {}
            Decision::Remove => return,
            Decision::Record(status) => status.apply_to(&mut cluster, now),
            Decision::Act { action, intent } => {
                intent.apply_to(&mut cluster, now);
                cluster.driver = Some("sandbox".to_owned());
                match conclude(&cluster, action, outcome, observation, &policy, moment) {
                    Conclusion::Record(status) => status.apply_to(&mut cluster, now),
                    Conclusion::Remove => {
                        assert_gone(&cluster, Some(observation));
                        return;
                    }
                }
            }
        }
        now = now.checked_add(SignedDuration::from_secs(1)).expect("soon");
    }
}

fn check(cluster: &Cluster, step: &Decision, observed: Option<&Observation>) {
    let acts = matches!(step, Decision::Act { .. } | Decision::Remove);
    assert!(!(acts && cluster.observe_only()), "{step:?} on {cluster:?}");
    let is_own = cluster.owns_a_cluster()
        || matches!(
            observed,
            Some(
                Observation::Absent
                    | Observation::Present(
                        PresentState::Healthy | PresentState::Unhealthy(_) | PresentState::Stopped
                    )
            )
        );
    assert!(!acts || is_own, "{step:?} after {observed:?}: {cluster:?}");
    match step {
        Decision::Remove => assert_gone(cluster, observed),
        Decision::Act {
            action: Action::Delete,
            ..
        } => {
            // A delete may go on after its `absent` was withdrawn if the cluster was
            // observed and is half-deleted, never if it could not be observed.
            let begun = cluster.actual == Actual::Deleting
                && matches!(observed, Some(Observation::Present(_)))
                && !observed.is_some_and(Observation::is_healthy);
            let ordered = cluster.desired == Desired::Absent;
            // A person requested it for this cluster, and it was seen.
            let again = cluster.recreate_requested_at.is_some()
                && cluster.desired == Desired::Present
                && matches!(observed, Some(Observation::Present(_)));
            assert!(
                ordered || begun || again,
                "deletes after {observed:?}: {cluster:?}"
            );
        }
        Decision::Rest { .. }
        | Decision::Observe { .. }
        | Decision::Record(_)
        | Decision::Act { .. } => {}
    }
}

fn assert_gone(cluster: &Cluster, observed: Option<&Observation>) {
    let gone = (cluster.desired, observed);
    assert_eq!(gone, (Desired::Absent, Some(&Observation::Absent)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]
    #[test]
    fn failed_observations_delete_nothing(
        row in rows(),
        events in proptest::collection::vec((wishes(), observations(), outcomes()), 1..12),
    ) {
        walk(row, &events);
    }
}
