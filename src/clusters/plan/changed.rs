//! The result of an action during which the spec of its row changed: by a person, or by the
//! action's own command. Pure, like the rest of the plan.
//!
//! A changed spec is applied after the action. A command that changes its own row would
//! therefore run again and again without a pause, even if it fails, because a change resets
//! the count of failures. So the result of the action is recorded on the changed row, and
//! the count continues: from the second such action in a row the change is applied with a
//! backoff. A change while no command runs resets the count.

use crate::clusters::event::Reason;
use crate::clusters::observation::Observation;
use crate::clusters::{Actual, Cluster};

use super::{Action, Conclusion, Moment, Outcome, Policy, Status, conclude};

/// Concludes an action on the row `now`, whose generation is no longer that of `begun`, the
/// row with the action's intent. `None`: nothing is recorded, and the row is planned again.
pub fn conclude_changed(
    (begun, now): (&Cluster, &Cluster),
    action: Action,
    outcome: &Outcome,
    observed: &Observation,
    policy: &Policy,
    moment: Moment,
) -> Option<Status> {
    if now.generation == begun.generation || now.desired != begun.desired || now.observe_only() {
        return None;
    }
    // The change has reset the count.
    let row = Cluster {
        failed_attempts: begun.failed_attempts,
        ..now.clone()
    };
    match conclude(&row, action, outcome, observed, policy, moment) {
        Conclusion::Remove => None,
        Conclusion::Record(status)
            if status.actual == Actual::Running && now.spec_hash != begun.spec_hash =>
        {
            Some(apply_later(&row, status, policy, moment))
        }
        Conclusion::Record(status) => Some(status),
    }
}

/// The cluster is healthy, with the spec that its row had when the action began.
fn apply_later(row: &Cluster, ended: Status, policy: &Policy, moment: Moment) -> Status {
    let changes = row.failed_attempts.saturating_add(1);
    let status = Status {
        actual: Actual::Running,
        reason: ended.reason,
        message: "healthy; its spec changed while the command ran and is applied next".into(),
        error: None,
        failed_attempts: changes,
        next_attempt_at: None,
        health_failures: 0,
        healthy: true,
        ..Status::unchanged(row)
    };
    if changes == 1 {
        return status;
    }
    let delay = policy.backoff.delay(changes - 1, moment.jitter);
    Status {
        reason: Reason::ChangeDeferred,
        message: format!(
            "healthy; its spec changed while its command ran, {changes} times in a row, so the \
             change is applied after a pause. Does the command write its own row? See \
             `kindler events {}`",
            row.name
        ),
        next_attempt_at: Some(moment.after(delay)),
        ..status
    }
}
