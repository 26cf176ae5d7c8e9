//! The status that is committed before an action starts: it shows during the action, and
//! after a crash.

use crate::clusters::event::Reason;
use crate::clusters::observation::Observation;
use crate::clusters::{Actual, Cluster};

use super::{Action, Applied, Status};

/// The longest cause in a message, in characters; the whole one is in the last error.
const CAUSE_CHARS: usize = 300;

/// The intent to run this action after this observation.
pub(super) fn intent(cluster: &Cluster, action: Action, observed: Option<&Observation>) -> Status {
    let repairs = repairs_in_place(cluster, action, observed);
    let (actual, reason) = if repairs {
        (Actual::Restarting, Reason::Repairing)
    } else {
        (action.intent(), action.started_reason())
    };
    let applied = match action {
        Action::Create | Action::Update | Action::Delete => Applied::Cleared,
        // A start with steps may apply the current spec.
        Action::Start if !cluster.spec_applied => Applied::Cleared,
        Action::Start | Action::Stop => Applied::Kept,
    };
    Status {
        actual,
        reason,
        message: started_message(cluster, action, reason, None),
        // The last error stays visible while the retry runs.
        next_attempt_at: None,
        applied,
        ..Status::unchanged(cluster)
    }
}

/// Whether the action repairs a cluster that exists and was healthy before.
fn repairs_in_place(cluster: &Cluster, action: Action, observed: Option<&Observation>) -> bool {
    action == Action::Create
        && matches!(cluster.actual, Actual::Failed | Actual::Restarting)
        && cluster.last_healthy_at.is_some()
        && matches!(observed, Some(Observation::Present(_)))
}

/// The message of an intent with this reason: the action, its first step, the number of the
/// attempt, and why it is needed. `cluster` is the row before the intent.
pub fn started_message(
    cluster: &Cluster,
    action: Action,
    reason: Reason,
    step: Option<&str>,
) -> String {
    let lost = cluster.has_reason(Reason::HealthLost);
    let mut message = match action {
        Action::Create if reason == Reason::Repairing => "repairing".to_owned(),
        Action::Start if lost => "repairing by a start".to_owned(),
        _ => format!("{} started", action.as_str()),
    };
    let attempt = cluster.failed_attempts.saturating_add(1);
    if attempt > 1 {
        message.push_str(&format!(", attempt {attempt}"));
    }
    if let Some(step) = step {
        message.push_str(&format!(": {step}"));
    }
    match last_failure(cluster) {
        Some(why) if lost => message.push_str(&format!(": {why}")),
        Some(why) => message.push_str(&format!("; the last attempt failed: {why}")),
        None => {}
    }
    message
}

/// The first line of the last error.
pub(super) fn last_failure(cluster: &Cluster) -> Option<String> {
    let error = cluster.reconcile_error.as_deref()?;
    let first = error.lines().find(|line| !line.trim().is_empty())?;
    Some(first.trim().chars().take(CAUSE_CHARS).collect())
}
