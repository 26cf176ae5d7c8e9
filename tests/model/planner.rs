//! The planner with observations that fail, are empty or are cut off: whatever the row
//! says, a failed observation deletes nothing. Random walks over the real plan; the
//! model explores fewer rows, but all orders of events.

use jiff::{SignedDuration, Timestamp};
use kindler::clusters::observation::Observation;
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
    ]
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
    let flags = (any::<bool>(), any::<bool>(), 0..8_u8);
    (states, flags, 0..12_u32, 0..5_u32).prop_map(
        |((desired, actual), (spec_applied, reached, flag), failed_attempts, health_failures)| {
            Cluster {
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
fn walk(mut cluster: Cluster, events: &[(Observation, Outcome)]) {
    let policy = Policy::default();
    let mut now = NOW;
    for (observation, outcome) in events {
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
            assert!(ordered || begun, "deletes after {observed:?}: {cluster:?}");
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
        events in proptest::collection::vec((observations(), outcomes()), 1..12),
    ) {
        walk(row, &events);
    }
}
