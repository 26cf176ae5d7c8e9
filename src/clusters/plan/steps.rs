//! What the steps of a driver mean for the cluster. Pure, like the rest of the
//! plan; what is to be done about one step is [`crate::core::steps::decide`]'s.

use jiff::Timestamp;

use crate::clusters::event::Reason;
use crate::clusters::{Actual, Cluster};
use crate::core::steps::decide::{foreign_leftovers, next_try, unknown_leftovers};
use crate::core::steps::{GIVEN_UP, StepChange, StepFacts, StepRecord, StepState};

use super::{
    Action, Applied, Conclusion, Decision, Failure, Moment, Outcome, Persistence, Policy, Status,
};

/// The steps of one cluster, as its driver knows and the database records them.
#[derive(Clone, Copy, Debug)]
pub struct StepsOf<'a> {
    /// Whose steps count.
    pub driver: &'a str,
    /// Those that this release has.
    pub facts: &'a [StepFacts],
    /// Those that are recorded.
    pub records: &'a [StepRecord],
}

impl StepsOf<'_> {
    fn of_driver(&self) -> impl Iterator<Item = &StepRecord> {
        self.records.iter().filter(|r| r.driver == self.driver)
    }

    /// The steps that can be observed by themselves and of which something is
    /// recorded to be there, although the cluster is gone.
    fn left(&self) -> Vec<&str> {
        let observable = |r: &&StepRecord| {
            let known = |f: &StepFacts| f.observable && f.name == r.name && f.version >= r.version;
            self.facts.iter().any(known)
        };
        let given_up = |r: &&StepRecord| r.reason.as_deref() == Some(GIVEN_UP);
        self.of_driver()
            .filter(|r| !r.state.leaves_nothing())
            .filter(observable)
            .filter(|r| !given_up(r))
            .map(|r| r.name.as_str())
            .collect()
    }

    /// A required step that can be observed by itself and whose last attempt failed.
    fn lost(&self) -> Option<&StepRecord> {
        let observable = |r: &&StepRecord| {
            let named = |f: &StepFacts| f.observable && f.name == r.name;
            self.facts.iter().any(named)
        };
        self.of_driver()
            .filter(|r| r.required && r.state == StepState::Failed)
            .find(observable)
    }

    /// The best-effort steps whose last attempt failed.
    fn failed(&self) -> Vec<&StepRecord> {
        self.of_driver()
            .filter(|r| r.state == StepState::Failed && !r.required)
            .collect()
    }
}

/// The records as a run reads them: a person who asked for an attempt since a step
/// failed gets it at once, and the count starts over.
pub fn as_retried(cluster: &Cluster, mut records: Vec<StepRecord>) -> Vec<StepRecord> {
    if let Some(asked) = cluster.retry_requested_at {
        let before = |r: &&mut StepRecord| r.finished_at.is_none_or(|at| at < asked);
        let failed = records.iter_mut().filter(|r| r.state == StepState::Failed);
        for record in failed.filter(before) {
            record.attempt = 0;
            record.next_try_at = None;
        }
    }
    records
}

/// Lets a row go only when nothing of its steps is left: what this release can
/// remove is removed first; what only a newer release knows keeps the row.
pub fn before_removal(
    cluster: &Cluster,
    decision: Decision,
    steps: StepsOf<'_>,
    policy: &Policy,
    moment: Moment,
) -> Decision {
    if decision != Decision::Remove {
        return decision;
    }
    if let Some(status) = leftovers(cluster, steps, policy, moment) {
        return Decision::Record(status);
    }
    if steps.left().is_empty() {
        return Decision::Remove;
    }
    let intent = Status {
        actual: Actual::Deleting,
        reason: Reason::Deleting,
        message: format!("removing what is left: {}", steps.left().join(", ")),
        next_attempt_at: None,
        ..Status::keeping(cluster)
    };
    Decision::Act {
        action: Action::Delete,
        intent,
    }
}

/// The failure to record after a delete that left steps behind although the
/// cluster is gone; none if nothing is left.
pub fn after_removal(
    cluster: &Cluster,
    steps: StepsOf<'_>,
    policy: &Policy,
    moment: Moment,
) -> Option<Status> {
    let newer = leftovers(cluster, steps, policy, moment);
    newer.or_else(|| {
        let left = steps.left();
        let why = || format!("the cluster is gone, but not {}", left.join(", "));
        (!left.is_empty())
            .then(|| failed(cluster, Reason::DeleteFailed, why(), policy, moment, false))
    })
}

/// That a newer release or another driver made something that this daemon cannot
/// remove.
fn leftovers(
    cluster: &Cluster,
    steps: StepsOf<'_>,
    policy: &Policy,
    moment: Moment,
) -> Option<Status> {
    let unknown = unknown_leftovers(steps.driver, steps.facts, steps.records);
    let why = if let Some(why) = of_another_driver(steps.driver, steps.records) {
        why
    } else if !unknown.is_empty() {
        format!(
            "a newer release made {}, which this release cannot remove: start a daemon of that \
             release, or remove it by hand and set its state in cluster_steps to 'removed'",
            unknown.join(", ")
        )
    } else {
        return None;
    };
    Some(failed(
        cluster,
        Reason::StepsUnknown,
        why,
        policy,
        moment,
        true,
    ))
}

fn failed(
    cluster: &Cluster,
    reason: Reason,
    message: String,
    policy: &Policy,
    moment: Moment,
    permanent: bool,
) -> Status {
    let attempts = cluster.failed_attempts.saturating_add(1);
    let delay = if permanent {
        policy.backoff.longest(moment.jitter)
    } else {
        policy.backoff.delay(attempts, moment.jitter)
    };
    Status {
        actual: Actual::Failed,
        reason,
        error: Some(message.clone()),
        message,
        failed_attempts: attempts,
        next_attempt_at: Some(moment.after(delay)),
        ..Status::keeping(cluster)
    }
}

/// What is written of steps that were cut short, with a status under which nothing
/// works on the cluster: a record says that a step is under way only while it is.
/// Steps of other drivers and of newer releases are left as they are.
pub fn cut_short(cluster: &Cluster, status: &Status, steps: StepsOf<'_>) -> Vec<StepChange> {
    if status.actual.is_at_work() && !cluster.hands_off() {
        return Vec::new();
    }
    let newer = unknown_leftovers(steps.driver, steps.facts, steps.records);
    steps
        .of_driver()
        .filter(|r| !newer.contains(&&*r.name))
        .filter_map(StepRecord::cut_short)
        .collect()
}

/// Why this daemon can neither see nor change a cluster: steps of another driver are
/// recorded. None if there are none.
pub fn of_another_driver(driver: &str, records: &[StepRecord]) -> Option<String> {
    let first = foreign_leftovers(driver, records).next()?;
    let owner = &first.driver;
    let names = foreign_leftovers(driver, records).filter(|r| r.driver == *owner);
    let names: Vec<&str> = names.map(|r| r.name.as_str()).collect();
    Some(format!(
        "driver {owner} made {}, and this daemon has driver {driver}: start a daemon with \
         KINDLER_DRIVER={owner}, or remove it by hand and set its state in cluster_steps to 'removed'",
        names.join(", ")
    ))
}

/// A cluster that another driver made, of which something else is declared now.
pub fn left_to_another_driver(
    cluster: &Cluster,
    why: String,
    policy: &Policy,
    moment: Moment,
) -> Status {
    failed(cluster, Reason::StepsUnknown, why, policy, moment, true)
}

/// What is written of a running cluster, with its steps: failed best-effort steps
/// are a condition of it, and it is looked at again when the next try of one comes.
/// A try that is due already waits for the next check: this look did not find the
/// cluster well, or it may only be looked at.
pub fn with_steps(status: Status, steps: StepsOf<'_>, now: Timestamp) -> Status {
    if !matches!(status.actual, Actual::Running | Actual::Failed) {
        return status;
    }
    let status = with_newer(status, steps);
    let failed = steps.failed();
    if status.actual == Actual::Failed || failed.is_empty() {
        return status;
    }
    let next = next_try(steps.driver, steps.records).filter(|next| *next > now);
    let told: Vec<String> = failed
        .iter()
        .map(|r| {
            format!(
                "step {} failed: {}",
                r.name,
                r.message.as_deref().unwrap_or("?")
            )
        })
        .collect();
    Status {
        reason: Reason::StepFailed,
        message: format!("{}; {}", status.message, told.join("; ")),
        next_check_at: match (status.next_check_at, next) {
            (Some(check), Some(next)) => Some(check.min(next)),
            (check, next) => check.or(next),
        },
        ..status
    }
}

/// Says which steps this release leaves to a newer one: what they depend on may have
/// changed since they ran.
fn with_newer(status: Status, steps: StepsOf<'_>) -> Status {
    if status.reason == Reason::StepsUnknown {
        return status;
    }
    let newer = unknown_leftovers(steps.driver, steps.facts, steps.records);
    if newer.is_empty() {
        return status;
    }
    let newer = newer.join(", ");
    Status {
        message: format!("{}; left to a newer release: {newer}", status.message),
        ..status
    }
}

/// What is written of a cluster that answers while some of its steps cannot be
/// seen: it keeps running, with the reason, and is looked at again soon.
pub fn with_unseen(status: Status, unseen: &[String], policy: &Policy, moment: Moment) -> Status {
    if unseen.is_empty() {
        return status;
    }
    let again = moment.after(policy.health.reprobe);
    Status {
        reason: Reason::ObservationFailed,
        message: format!("{}; {}", status.message, unseen.join("; ")),
        next_check_at: Some(status.next_check_at.map_or(again, |check| check.min(again))),
        ..status
    }
}

/// A running cluster whose required step is not in place and cannot be put back.
pub fn step_lost(cluster: &Cluster, failure: &Failure, policy: &Policy, moment: Moment) -> Status {
    not_well(cluster, Reason::StepFailed, failure, policy, moment)
}

/// What an action came to, with its steps: a cluster that answers is not well while
/// a required step that can be observed by itself has failed. An action that ended
/// well may not know of it: another owner may have recorded it since the claim.
pub fn after_run(
    cluster: &Cluster,
    (action, outcome): (Action, &Outcome),
    conclusion: Conclusion,
    steps: StepsOf<'_>,
    policy: &Policy,
    moment: Moment,
) -> Conclusion {
    let running = matches!(&conclusion, Conclusion::Record(s) if s.actual == Actual::Running);
    let Some(lost) = steps.lost().filter(|_| running) else {
        return conclusion;
    };
    let failure = match outcome {
        Outcome::Failed(failure) => failure.clone(),
        Outcome::Succeeded => Failure {
            persistence: Persistence::Transient,
            summary: format!(
                "step {}: {}",
                lost.name,
                lost.message.as_deref().unwrap_or("?")
            ),
            detail: String::new(),
        },
    };
    let status = not_well(cluster, action.failed(), &failure, policy, moment);
    Conclusion::Record(status)
}

fn not_well(
    cluster: &Cluster,
    reason: Reason,
    failure: &Failure,
    policy: &Policy,
    moment: Moment,
) -> Status {
    let permanent = failure.persistence == Persistence::Permanent;
    let message = format!("{}; it answers its probe", failure.summary);
    let status = failed(cluster, reason, message, policy, moment, permanent);
    let error = if failure.detail.is_empty() {
        failure.summary.clone()
    } else {
        format!("{}\n{}", failure.summary, failure.detail)
    };
    // Not all of the spec is applied, so an answer alone does not make it well.
    Status {
        error: Some(error),
        applied: Applied::Cleared,
        ..status
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::clusters::samples::dev;

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
            requirement: crate::core::steps::Requirement::Required,
            observable,
            input_hash: String::new(),
        }
    }

    #[test]
    fn only_a_next_try_ahead_brings_the_check_forward() {
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
    fn an_answer_does_not_hide_a_failed_required_step() {
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
}
