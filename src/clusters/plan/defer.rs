//! Safety limits that defer an action of one cluster to protect the others: the cap on
//! deletions, and no repairs during an outage of the host.
//!
//! A deferred action is never dropped and counts no attempt; the row says why it is
//! deferred and until when. Pure, like the rest of the plan.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clusters::event::Reason;
use crate::clusters::health::{HostOutage, MassVanishing};
use crate::clusters::{Actual, Cluster, Waiting};
use crate::duration;

use super::{Action, Decision, Moment, Policy, Status};

/// The time over which deletions are counted.
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// A deferred deletion is reconciled again after this at the latest, because the cap may
/// have changed, or deletions before it may be withdrawn. With ten thousand deferred
/// deletions that is 33 reconciles per second.
const MAX_DEFERRAL: Duration = Duration::from_secs(300);

/// A repair that a person requested within this time is not deferred.
const REQUESTED_WITHIN: SignedDuration = MINUTE;

/// Whether a person has just requested an attempt.
pub(super) fn is_requested(cluster: &Cluster, moment: Moment) -> bool {
    cluster
        .retry_requested_at
        .is_some_and(|at| moment.now.duration_since(at) < REQUESTED_WITHIN)
}

/// The recent and the deferred deletions, from the view of one deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletionQueue {
    /// The database's clock when this was read.
    pub now: Timestamp,
    /// Whether this deletion is counted already, so that this is a retry.
    pub counted: bool,
    /// When deletions began, oldest first, for at least the last minute.
    pub begun: Vec<Timestamp>,
    /// How many deferred deletions were declared before this one.
    pub ahead: usize,
    /// How many were declared after it.
    pub behind: usize,
}

impl DeletionQueue {
    /// When this deletion may begin under the cap, after those before it: each begins a
    /// minute after the one that is `cap` positions earlier.
    pub fn begins_at(&self, cap: usize) -> Timestamp {
        if cap == 0 || self.counted {
            return self.now;
        }
        let counts = |at: &&Timestamp| self.now.duration_since(**at) < MINUTE;
        let begun: Vec<Timestamp> = self.begun.iter().filter(counts).copied().collect();
        let mut position = begun.len() + self.ahead;
        let mut minutes = 0;
        while position >= cap {
            position -= cap;
            minutes += 1;
            if let Some(began) = begun.get(position) {
                return began
                    .saturating_add(MINUTE * minutes)
                    .unwrap_or(Timestamp::MAX);
            }
        }
        self.now
            .saturating_add(MINUTE * minutes)
            .unwrap_or(Timestamp::MAX)
    }
}

/// The first status of a deletion: its intent, or, if the cap is reached, that it is
/// deferred.
pub fn defer_deletion(
    cluster: &Cluster,
    intent: Status,
    cap: usize,
    queue: &DeletionQueue,
) -> Status {
    let begins = queue.begins_at(cap);
    if begins <= queue.now {
        return intent;
    }
    let moment = Moment {
        now: queue.now,
        jitter: 0.0,
    };
    let waiting = Waiting::Deferred {
        cap,
        position: queue.ahead + 1,
        begins_in: Duration::try_from(begins.duration_since(queue.now)).unwrap_or_default(),
    };
    Status {
        reason: Reason::DeletionHeld,
        message: waiting.to_string(),
        next_attempt_at: Some(begins.min(moment.after(MAX_DEFERRAL))),
        ..Status::unchanged(cluster)
    }
}

/// Whether a decision is, or leads to, the repair of a cluster that was healthy before. Not
/// a repair: a first create; a start, because the container runtime works if it reports a
/// stopped cluster; an attempt that a person has just requested.
pub fn is_repair(cluster: &Cluster, decision: &Decision, moment: Moment) -> bool {
    if is_requested(cluster, moment) || cluster.observe_only() {
        return false;
    }
    match (decision, cluster.actual) {
        (Decision::Record(status), Actual::Running) => status.reason == Reason::HealthLost,
        (Decision::Act { action, .. }, Actual::Failed | Actual::Creating | Actual::Restarting) => {
            *action == Action::Create && cluster.last_healthy_at.is_some()
        }
        _ => false,
    }
}

/// Defers a repair during an outage of the host, because it would fail for the same reason.
/// The recorded state stays, and the cluster is observed again soon. A running cluster that
/// cannot be observed gets the same reason, so that one outage does not show as two
/// problems.
pub fn defer_repair(
    cluster: &Cluster,
    decision: Decision,
    outage: Option<HostOutage>,
    policy: &Policy,
    moment: Moment,
) -> Decision {
    let Some(outage) = outage else {
        return decision;
    };
    let (why, error) = match &decision {
        Decision::Record(status)
            if is_repair(cluster, &decision, moment) || is_unobserved(cluster, status) =>
        {
            (status.message.clone(), status.error.clone())
        }
        Decision::Act { .. } if is_repair(cluster, &decision, moment) => (
            "the cluster failed".to_owned(),
            cluster.reconcile_error.clone(),
        ),
        _ => return decision,
    };
    let again = moment.after(policy.health.reprobe);
    let deferred = Status {
        reason: Reason::RepairHeld,
        message: format!(
            "{why}; repairs are deferred while most clusters do not answer ({} of {} observed \
             recently; {}), because the fault is then in the host; one repair is tried {}, \
             `kindler retry {}` repairs it now; next observation in {}",
            outage.unresponsive,
            outage.probed,
            outage.words,
            outage.tried(),
            cluster.name,
            duration::compact(policy.health.reprobe)
        ),
        error,
        ..Status::unchanged(cluster)
    };
    observed_again(cluster, deferred, again)
}

/// A deferred action: the cluster is observed again at that time. The count of failures stays one
/// below lost, so the next observation decides again.
fn observed_again(cluster: &Cluster, deferred: Status, again: Timestamp) -> Decision {
    Decision::Record(match cluster.settled() {
        true => Status {
            next_check_at: Some(again),
            ..deferred
        },
        false => Status {
            next_attempt_at: Some(again),
            ..deferred
        },
    })
}

/// Defers the recreation of a cluster that vanished together with most others. The recorded state
/// stays, and the cluster is observed again soon.
pub fn defer_recreation(
    cluster: &Cluster,
    decision: Decision,
    event: &MassVanishing,
    policy: &Policy,
    moment: Moment,
) -> Decision {
    if !is_repair(cluster, &decision, moment) {
        return decision;
    }
    let deferred = Status {
        reason: Reason::RepairHeld,
        message: format!(
            "the cluster does not exist any more; {} of {} clusters vanished at about the same time, \
             so none is created again until the container engine shows them: is it the right one, \
             with its data? `kindler retry {}` creates this one again now",
            event.absent.len(),
            event.known,
            cluster.name
        ),
        ..Status::unchanged(cluster)
    };
    observed_again(cluster, deferred, moment.after(policy.health.reprobe))
}

/// The status of a cluster whose action waits until this host can run it. The state stays, and no
/// attempt counts.
pub fn wait_for_host(
    cluster: &Cluster,
    (what, next): (&str, &str),
    policy: &Policy,
    moment: Moment,
) -> Status {
    Status {
        reason: Reason::HostUnusable,
        message: format!("waiting for this host: {what}; next: {next}"),
        next_attempt_at: Some(moment.after(policy.observe_retry)),
        ..Status::unchanged(cluster)
    }
}

fn is_unobserved(cluster: &Cluster, status: &Status) -> bool {
    cluster.actual == Actual::Running
        && !cluster.observe_only()
        && status.reason == Reason::ObservationFailed
}
