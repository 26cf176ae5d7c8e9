//! What the steps of a driver mean for the cluster. Pure, like the rest of the plan;
//! [`crate::core::steps::decide`] decides about one step.

use jiff::Timestamp;

use crate::clusters::event::Reason;
use crate::clusters::{Actual, Cluster};
use crate::core::steps::decide::{foreign_leftovers, next_try, unknown_leftovers};
use crate::core::steps::{GIVEN_UP, StepChange, StepFacts, StepRecord, StepState};

use super::{
    Action, Applied, Conclusion, Decision, Failure, Moment, Outcome, Persistence, Policy, Status,
};

/// The steps of one cluster: those of its driver, and those that are recorded.
#[derive(Clone, Copy, Debug)]
pub struct StepsOf<'a> {
    /// The name of the driver.
    pub driver: &'a str,
    /// The steps of this release.
    pub facts: &'a [StepFacts],
    /// The recorded steps.
    pub records: &'a [StepRecord],
}

impl StepsOf<'_> {
    fn of_driver(&self) -> impl Iterator<Item = &StepRecord> {
        self.records.iter().filter(|r| r.driver == self.driver)
    }

    /// The observable steps that are not recorded as removed, although the cluster is
    /// absent.
    fn leftovers(&self) -> Vec<&str> {
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

    /// A required, observable step whose last attempt failed.
    fn failed_required(&self) -> Option<&StepRecord> {
        let observable = |r: &&StepRecord| {
            let named = |f: &StepFacts| f.observable && f.name == r.name;
            self.facts.iter().any(named)
        };
        self.of_driver()
            .filter(|r| r.required && r.state == StepState::Failed)
            .find(observable)
    }

    /// The best-effort steps whose last attempt failed.
    fn failed_best_effort(&self) -> Vec<&StepRecord> {
        self.of_driver()
            .filter(|r| r.state == StepState::Failed && !r.required)
            .collect()
    }
}

/// The records for a run: if a person requested an attempt since a step failed, it is
/// retried at once and the count of attempts starts over.
pub fn as_retried(cluster: &Cluster, mut records: Vec<StepRecord>) -> Vec<StepRecord> {
    if let Some(requested) = cluster.retry_requested_at {
        let before = |r: &&mut StepRecord| r.finished_at.is_none_or(|at| at < requested);
        let failed = records.iter_mut().filter(|r| r.state == StepState::Failed);
        for record in failed.filter(before) {
            record.attempt = 0;
            record.next_try_at = None;
        }
    }
    records
}

/// Removes a row only when nothing of its steps is left: this release first removes the
/// steps that it can; steps that only a newer release or another driver knows keep the
/// row.
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
    if let Some(status) = unremovable(cluster, steps, policy, moment) {
        return Decision::Record(status);
    }
    if steps.leftovers().is_empty() {
        return Decision::Remove;
    }
    let intent = Status {
        actual: Actual::Deleting,
        reason: Reason::Deleting,
        message: format!("removing leftovers: {}", steps.leftovers().join(", ")),
        next_attempt_at: None,
        ..Status::unchanged(cluster)
    };
    Decision::Act {
        action: Action::Delete,
        intent,
    }
}

/// The failure to record if a delete left steps behind although the cluster is absent;
/// none if nothing is left.
pub fn after_removal(
    cluster: &Cluster,
    steps: StepsOf<'_>,
    policy: &Policy,
    moment: Moment,
) -> Option<Status> {
    let unremovable = unremovable(cluster, steps, policy, moment);
    unremovable.or_else(|| {
        let left = steps.leftovers();
        let why = || format!("the cluster is deleted, but not {}", left.join(", "));
        (!left.is_empty())
            .then(|| failed(cluster, Reason::DeleteFailed, why(), policy, moment, false))
    })
}

/// The failure to record if a newer release or another driver created something that this
/// daemon cannot remove.
fn unremovable(
    cluster: &Cluster,
    steps: StepsOf<'_>,
    policy: &Policy,
    moment: Moment,
) -> Option<Status> {
    let unknown = unknown_leftovers(steps.driver, steps.facts, steps.records);
    let why = if let Some(why) = of_another_driver(steps.driver, cluster, steps.records) {
        why
    } else if !unknown.is_empty() {
        format!(
            "a newer release created {}, which this release cannot remove: start a daemon of that \
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
        ..Status::unchanged(cluster)
    }
}

/// The changes for interrupted steps, to write with a status in which no action runs: a step
/// is recorded as running only while an action runs. Steps of other drivers and of newer
/// releases are not touched.
pub fn interrupted_steps(steps: StepsOf<'_>) -> Vec<StepChange> {
    let newer = unknown_leftovers(steps.driver, steps.facts, steps.records);
    steps
        .of_driver()
        .filter(|r| !newer.contains(&&*r.name))
        .filter_map(StepRecord::interrupted)
        .collect()
}

/// Why this daemon can neither observe nor change a cluster: the row, or steps, record another
/// driver. None if neither does.
pub fn of_another_driver(
    driver: &str,
    cluster: &Cluster,
    records: &[StepRecord],
) -> Option<String> {
    let of_steps = foreign_leftovers(driver, records).next();
    let of_row = cluster.driver.as_ref().filter(|owner| *owner != driver);
    let owner = of_steps.map(|first| &first.driver).or(of_row)?;
    let names = foreign_leftovers(driver, records).filter(|r| r.driver == *owner);
    let names: Vec<&str> = names.map(|r| r.name.as_str()).collect();
    let made = if names.is_empty() {
        "this cluster".to_owned()
    } else {
        names.join(", ")
    };
    Some(format!(
        "driver {owner} created {made}, and this daemon has driver {driver}: start a daemon with \
         KINDLER_DRIVER={owner}; or remove by hand what it made, then `kindler adopt {}` gives the \
         row to this daemon's driver",
        cluster.name
    ))
}

/// The status of a cluster of another driver whose declaration requires an action.
pub fn left_to_another_driver(
    cluster: &Cluster,
    why: String,
    policy: &Policy,
    moment: Moment,
) -> Status {
    // Its state is kept and no attempt counts, so that its own driver works at once.
    Status {
        reason: Reason::StepsUnknown,
        error: Some(why.clone()),
        message: why,
        next_attempt_at: Some(moment.after(policy.observe_retry)),
        ..Status::unchanged(cluster)
    }
}

/// Adds failed best-effort steps to the status of a running cluster. The next check comes
/// with the next attempt of one. An attempt that is due already waits for the next
/// check: the cluster is not healthy now, or is only observed.
pub fn with_steps(status: Status, steps: StepsOf<'_>, now: Timestamp) -> Status {
    if !matches!(status.actual, Actual::Running | Actual::Failed) {
        return status;
    }
    let status = with_newer(status, steps);
    let failed = steps.failed_best_effort();
    if status.actual == Actual::Failed || failed.is_empty() {
        return status;
    }
    let next = next_try(steps.driver, steps.records).filter(|next| *next > now);
    let failures: Vec<String> = failed
        .iter()
        .map(|r| {
            format!(
                "step {} failed: {}",
                r.name,
                r.message.as_deref().unwrap_or("?")
            )
        })
        .collect();
    // What is wrong with the cluster itself comes first.
    let reason = match status.reason {
        Reason::Healthy
        | Reason::Created
        | Reason::CreatedWithWarning
        | Reason::Updated
        | Reason::Started
        | Reason::Repaired
        | Reason::Recovered => Reason::StepFailed,
        other => other,
    };
    Status {
        reason,
        message: format!("{}; {}", status.message, failures.join("; ")),
        next_check_at: match (status.next_check_at, next) {
            (Some(check), Some(next)) => Some(check.min(next)),
            (check, next) => check.or(next),
        },
        ..status
    }
}

/// Adds the steps that this release leaves to a newer one: their input may have changed
/// since they ran.
fn with_newer(status: Status, steps: StepsOf<'_>) -> Status {
    if status.reason == Reason::StepsUnknown {
        return status;
    }
    let newer_version = |r: &&StepRecord| {
        let fact = steps.facts.iter().find(|fact| fact.name == r.name);
        fact.map_or(!r.state.leaves_nothing(), |fact| fact.version < r.version)
    };
    let newer = steps.of_driver().filter(newer_version);
    let newer: Vec<&str> = newer.map(|r| r.name.as_str()).collect();
    if newer.is_empty() {
        return status;
    }
    let newer = newer.join(", ");
    Status {
        message: format!("{}; steps left to a newer release: {newer}", status.message),
        ..status
    }
}

/// Adds steps that cannot be observed to the status of a healthy cluster: it stays running,
/// with the reason, and is checked again soon.
pub fn with_unobserved(
    status: Status,
    unobserved: &[String],
    policy: &Policy,
    moment: Moment,
) -> Status {
    if unobserved.is_empty() {
        return status;
    }
    let again = moment.after(policy.health.reprobe);
    Status {
        reason: Reason::ObservationFailed,
        message: format!("{}; {}", status.message, unobserved.join("; ")),
        next_check_at: Some(status.next_check_at.map_or(again, |check| check.min(again))),
        ..status
    }
}

/// The status of a running cluster whose required step drifted and could not be repaired.
pub fn required_step_failed(
    cluster: &Cluster,
    failure: &Failure,
    policy: &Policy,
    moment: Moment,
) -> Status {
    failed_though_healthy(cluster, Reason::StepFailed, failure, policy, moment)
}

/// Adds the steps to the conclusion of an action: the action failed if a required,
/// observable step has failed, even if the cluster is healthy. An action that succeeded
/// may not know about it: another owner may have recorded it since the claim.
pub fn after_run(
    cluster: &Cluster,
    (action, outcome): (Action, &Outcome),
    conclusion: Conclusion,
    steps: StepsOf<'_>,
    policy: &Policy,
    moment: Moment,
) -> Conclusion {
    let running = matches!(&conclusion, Conclusion::Record(s) if s.actual == Actual::Running);
    let Some(step) = steps.failed_required().filter(|_| running) else {
        return conclusion;
    };
    let failure = match outcome {
        Outcome::Failed(failure) => failure.clone(),
        Outcome::Succeeded => Failure {
            persistence: Persistence::Transient,
            summary: format!(
                "step {}: {}",
                step.name,
                step.message.as_deref().unwrap_or("?")
            ),
            detail: String::new(),
        },
    };
    let reason = action.failed_reason();
    let status = failed_though_healthy(cluster, reason, &failure, policy, moment);
    Conclusion::Record(status)
}

fn failed_though_healthy(
    cluster: &Cluster,
    reason: Reason,
    failure: &Failure,
    policy: &Policy,
    moment: Moment,
) -> Status {
    let permanent = failure.persistence == Persistence::Permanent;
    let message = format!("{}; the cluster is healthy", failure.summary);
    let status = failed(cluster, reason, message, policy, moment, permanent);
    let error = if failure.detail.is_empty() {
        failure.summary.clone()
    } else {
        format!("{}\n{}", failure.summary, failure.detail)
    };
    // Not all of the spec is applied, so a successful probe alone is not enough.
    Status {
        error: Some(error),
        applied: Applied::Cleared,
        ..status
    }
}
