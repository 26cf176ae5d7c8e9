//! The planner among reads that fail, are empty or are cut off: whatever the
//! row says, ignorance deletes nothing. Random walks over the real plan; the
//! model beside it explores fewer rows, but all of their orders.

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

/// A read that could not tell: how drivers say it. Three looks of four.
fn looks() -> impl Strategy<Value = Observation> {
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
        |((desired, actual), (spec_applied, reached, held), failed_attempts, health_failures)| {
            Cluster {
                desired,
                actual,
                spec_applied,
                generation: 2,
                observed_generation: if reached { 2 } else { 1 },
                paused: held == 0,
                protected: held == 1,
                failed_attempts,
                health_failures,
                ..template().clone()
            }
        },
    )
}

/// One turn of plan, look, act and conclude after another, each judged.
fn walk(mut cluster: Cluster, luck: &[(Observation, Outcome)]) {
    let policy = Policy::default();
    let mut now = NOW;
    for (look, outcome) in luck {
        now = cluster.due_at().unwrap_or(now).max(now);
        let moment = Moment { now, jitter: 0.5 };
        let first = plan(&cluster, None, &policy, moment);
        let (step, seen) = match first {
            Decision::Observe { .. } => (plan(&cluster, Some(look), &policy, moment), Some(look)),
            other => (other, None),
        };
        judge(&cluster, &step, seen);
        match step {
            Decision::Rest { .. } | Decision::Observe { .. } => {}
            Decision::Remove => return,
            Decision::Record(status) => status.apply_to(&mut cluster, now),
            Decision::Act { action, intent } => {
                intent.apply_to(&mut cluster, now);
                match conclude(&cluster, action, outcome, look, &policy, moment) {
                    Conclusion::Record(status) => status.apply_to(&mut cluster, now),
                    Conclusion::Remove => {
                        assert_gone(&cluster, Some(look));
                        return;
                    }
                }
            }
        }
        now = now.checked_add(SignedDuration::from_secs(1)).expect("soon");
    }
}

fn judge(cluster: &Cluster, step: &Decision, seen: Option<&Observation>) {
    let acts = matches!(step, Decision::Act { .. } | Decision::Remove);
    assert!(!(acts && cluster.observe_only()), "{step:?} on {cluster:?}");
    match step {
        Decision::Remove => assert_gone(cluster, seen),
        Decision::Act {
            action: Action::Delete,
            ..
        } => {
            // One delete may go on after its `absent` was withdrawn: of what
            // was seen, half-deleted. Never of what could not be seen.
            let begun = cluster.actual == Actual::Deleting
                && matches!(seen, Some(Observation::Present(_)))
                && !seen.is_some_and(Observation::is_healthy);
            let ordered = cluster.desired == Desired::Absent;
            assert!(ordered || begun, "deletes after {seen:?}: {cluster:?}");
        }
        Decision::Rest { .. }
        | Decision::Observe { .. }
        | Decision::Record(_)
        | Decision::Act { .. } => {}
    }
}

fn assert_gone(cluster: &Cluster, seen: Option<&Observation>) {
    let gone = (cluster.desired, seen);
    assert_eq!(gone, (Desired::Absent, Some(&Observation::Absent)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]
    #[test]
    fn a_look_that_could_not_tell_deletes_nothing(
        row in rows(),
        luck in proptest::collection::vec((looks(), outcomes()), 1..12),
    ) {
        walk(row, &luck);
    }
}
