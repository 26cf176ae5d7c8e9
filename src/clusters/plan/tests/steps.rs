//! What failed steps mean for the status of a cluster.

use super::dev;
use jiff::{SignedDuration, Timestamp};

use crate::clusters::Actual;
use crate::clusters::event::Reason;
use crate::clusters::plan::steps::{StepsOf, after_run, interrupted_steps, with_steps};
use crate::clusters::plan::{
    Action, Applied, Conclusion, Failure, Moment, Outcome, Persistence, Policy, Status,
};
use crate::core::steps::{Requirement, StepFacts, StepRecord, StepState};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const MOMENT: Moment = Moment {
    now: NOW,
    jitter: 0.5,
};

fn in_seconds(seconds: i64) -> Timestamp {
    NOW + SignedDuration::from_secs(seconds)
}

fn failed_step(required: bool, next_try_at: Option<Timestamp>) -> StepRecord {
    StepRecord {
        driver: "sandbox".into(),
        name: "port".into(),
        position: 1,
        total: 1,
        version: 1,
        required,
        state: StepState::Failed,
        attempt: 1,
        reason: Some("Failed".into()),
        message: Some("in use".into()),
        input_hash: None,
        started_at: None,
        finished_at: None,
        next_try_at,
    }
}

fn running() -> Status {
    Status::running(&dev(), Reason::Healthy, in_seconds(10))
}

fn port(observable: bool) -> StepFacts {
    StepFacts {
        name: "port",
        version: 1,
        requirement: Requirement::Required,
        observable,
        input_hash: String::new(),
    }
}

#[test]
fn a_future_attempt_brings_the_check_forward() {
    for (next, check) in [(5, 5), (20, 10), (0, 10), (-5, 10)] {
        let records = [failed_step(false, Some(in_seconds(next)))];
        let steps = StepsOf {
            driver: "sandbox",
            facts: &[],
            records: &records,
        };
        let status = with_steps(running(), steps, NOW);
        assert_eq!(status.next_check_at, Some(in_seconds(check)), "{next}");
        assert_eq!(status.reason, Reason::StepFailed);
    }
}

#[test]
fn a_healthy_probe_does_not_hide_a_failed_step() {
    for (observable, actual) in [(true, Actual::Failed), (false, Actual::Running)] {
        let (facts, records) = ([port(observable)], [failed_step(true, None)]);
        let steps = StepsOf {
            driver: "sandbox",
            facts: &facts,
            records: &records,
        };
        let conclusion = Conclusion::Record(running());
        let outcome = Outcome::Failed(Failure {
            persistence: Persistence::Transient,
            summary: "step port: it is in use".into(),
            detail: String::new(),
        });
        let ended = (Action::Create, &outcome);
        let ended = after_run(&dev(), ended, conclusion, steps, &Policy::default(), MOMENT);
        let Conclusion::Record(status) = ended else {
            panic!("the row stays")
        };
        assert_eq!(status.actual, actual);
        if observable {
            assert_eq!(status.applied, Applied::Cleared);
            assert_eq!(status.reason, Reason::CreateFailed);
        }
    }
}

#[test]
fn a_failed_best_effort_step_hides_no_other_reason() {
    let records = [failed_step(false, Some(in_seconds(20)))];
    let steps = StepsOf {
        driver: "sandbox",
        facts: &[],
        records: &records,
    };
    for (reason, expected) in [
        (Reason::Healthy, Reason::StepFailed),
        (Reason::Recovered, Reason::StepFailed),
        (Reason::ProbeFailed, Reason::ProbeFailed),
        (Reason::RepairHeld, Reason::RepairHeld),
        (Reason::ObservationFailed, Reason::ObservationFailed),
        (Reason::Paused, Reason::Paused),
    ] {
        let status = Status {
            reason,
            ..running()
        };
        let status = with_steps(status, steps, NOW);
        assert_eq!(status.reason, expected);
        assert!(status.message.ends_with("step port failed: in use"));
    }
}

#[test]
fn a_step_of_a_newer_version_is_named_in_every_state() {
    for &state in StepState::ALL {
        let newer = StepRecord {
            version: 2,
            state,
            ..failed_step(true, None)
        };
        let steps = StepsOf {
            driver: "sandbox",
            facts: &[port(true)],
            records: &[newer],
        };
        let message = with_steps(running(), steps, NOW).message;
        assert!(
            message.contains("left to a newer release: port"),
            "{state}: {message}"
        );
    }
}

#[test]
fn a_step_in_progress_is_recorded_as_interrupted_afterwards() {
    for &state in StepState::ALL {
        let record = StepRecord {
            state,
            ..failed_step(true, None)
        };
        let steps = StepsOf {
            driver: "sandbox",
            facts: &[port(true)],
            records: &[record],
        };
        let in_progress = matches!(state, StepState::Running | StepState::Removing);
        assert_eq!(
            interrupted_steps(steps).len(),
            usize::from(in_progress),
            "{state}"
        );
    }
}
