//! A running cluster that is declared with something that its provider cannot change. It stays
//! running and shows why; nothing is retried until a person declares the old value again, or
//! requests that it is created again. Pure, like the rest of the plan.

use crate::clusters::event::Reason;
use crate::clusters::health::HealthCheckResult;
use crate::clusters::observation::Observation;
use crate::clusters::{Actual, Cluster, Desired};

use super::{Action, Applied, Decision, Moment, Policy, Status};

/// Whether a decision counts on a spec that may not be what runs: it applies one to a healthy
/// cluster, or records one as healthy.
pub fn counts_on_spec(cluster: &Cluster, decision: &Decision) -> bool {
    if cluster.observe_only() || cluster.desired != Desired::Present {
        return false;
    }
    match decision {
        Decision::Act { action, .. } => *action == Action::Update,
        Decision::Record(status) => status.actual == Actual::Running && status.healthy,
        Decision::Rest { .. } | Decision::Observe { .. } | Decision::Remove => false,
    }
}

/// The status of a cluster that needs a recreation for this reason, after this observation; none
/// if its health matters more.
pub fn needs_recreation(
    cluster: &Cluster,
    observed: &Observation,
    why: &str,
    policy: &Policy,
    moment: Moment,
) -> Option<Status> {
    let health = policy.health;
    let shown = format!(
        "{why}; its provider cannot change that: declare the old value again, or delete the cluster \
         and create it again (kindler recreate {})",
        cluster.name
    );
    if !observed.is_healthy() && cluster.actual != Actual::Running {
        return None;
    }
    let again = Some(moment.after(health.reprobe));
    let waits = Status {
        error: Some(shown.clone()),
        next_attempt_at: again,
        next_check_at: again,
        ..Status::unchanged(cluster)
    };
    Some(match health.evaluate(cluster.health_failures, observed) {
        HealthCheckResult::Healthy => {
            let next = Some(moment.after(health.next_check(moment.jitter)));
            Status {
                actual: Actual::Running,
                reason: Reason::NeedsRecreation,
                message: shown,
                failed_attempts: 0,
                // The spec is not applied, so this is the time of the next check.
                next_attempt_at: next,
                next_check_at: next,
                health_failures: 0,
                healthy: true,
                applied: Applied::Cleared,
                ..waits
            }
        }
        HealthCheckResult::Unknown { why } => Status {
            reason: Reason::ObservationFailed,
            message: format!("the health check could not run: {why}; {shown}"),
            ..waits
        },
        HealthCheckResult::Suspect { failures, why } => Status {
            reason: Reason::ProbeFailed,
            message: format!(
                "{failures} of {} probes failed: {why}; {shown}",
                health.threshold
            ),
            health_failures: failures,
            ..waits
        },
        HealthCheckResult::Lost { failures, why } => Status {
            actual: Actual::Failed,
            reason: Reason::HealthLost,
            message: format!("{failures} probes failed in a row: {why}"),
            error: Some(format!("{failures} probes failed in a row: {why}")),
            health_failures: failures,
            next_attempt_at: None,
            ..waits
        },
    })
}
