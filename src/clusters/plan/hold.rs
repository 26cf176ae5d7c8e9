//! Steps that are right for one cluster and wait for the good of all.
//!
//! What is held back is never dropped and costs no attempt: the row says why,
//! and when it goes on. Pure, like the rest of the plan.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clusters::event::Reason;
use crate::clusters::health::Spread;
use crate::clusters::{Actual, Cluster};
use crate::duration;

use super::{Action, Decision, Moment, Policy, Status};

/// Over which deletions are counted.
const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// A deletion that waits is looked at again after this at the latest: the cap
/// may be another by then, or those before it withdrawn. Long enough that ten
/// thousand that wait cost 33 looks a second.
const LOOK_AT_LATEST: Duration = Duration::from_secs(300);

/// A person who asked for an attempt within this knows what the host is like.
const ASKED_WITHIN: SignedDuration = MINUTE;

/// What was begun lately and what waits, seen from one deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletionQueue {
    /// The database's clock when this was read.
    pub now: Timestamp,
    /// Whether this wish was counted before: a retry does no new harm.
    pub counted: bool,
    /// When deletions were begun, oldest first, at least the last minute's.
    pub begun: Vec<Timestamp>,
    /// How many were wanted before this one and still wait.
    pub ahead: usize,
    /// How many wait behind it.
    pub behind: usize,
}

impl DeletionQueue {
    /// When this deletion may begin under the cap, if those before it go first:
    /// each takes the place of the one that was begun `cap` before it, a
    /// minute later.
    pub(super) fn begins_at(&self, cap: usize) -> Timestamp {
        if cap == 0 || self.counted {
            return self.now;
        }
        let counts = |at: &&Timestamp| self.now.duration_since(**at) < MINUTE;
        let mut begun: Vec<Timestamp> = self.begun.iter().filter(counts).copied().collect();
        let mut mine = self.now;
        for _ in 0..=self.ahead {
            mine = match begun.len().checked_sub(cap) {
                Some(before) => self.now.max(
                    begun[before]
                        .saturating_add(MINUTE)
                        .unwrap_or(Timestamp::MAX),
                ),
                None => self.now,
            };
            begun.push(mine);
        }
        mine
    }
}

/// What a deletion writes first: its intent, or, while the cap is reached,
/// that it waits.
pub fn hold_deletion(
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
    let seconds = begins.duration_since(queue.now).as_secs_f64().ceil();
    let ahead = match queue.ahead {
        0 => String::new(),
        1 => ", after 1 other".to_owned(),
        n => format!(", after {n} others"),
    };
    Status {
        reason: Reason::DeletionHeld,
        message: format!(
            "its deletion waits: at most {cap} begin within a minute (KINDLER_DELETE_CAP); \
             it goes on in {seconds}s{ahead}"
        ),
        next_attempt_at: Some(begins.min(moment.after(LOOK_AT_LATEST))),
        ..Status::keeping(cluster)
    }
}

/// Whether a step repairs, or leads to the repair of, a cluster that ran
/// before. A first creation is none; nor is a start, since only a container
/// runtime that works tells stopped from silent; nor is what a person asked
/// for just now.
pub fn is_repair(cluster: &Cluster, step: &Decision, moment: Moment) -> bool {
    let asked = cluster
        .retry_requested_at
        .is_some_and(|at| moment.now.duration_since(at) < ASKED_WITHIN);
    if asked || cluster.hands_off() {
        return false;
    }
    match (step, cluster.actual) {
        (Decision::Record(status), Actual::Running) => status.reason == Reason::HealthLost,
        (Decision::Act { action, .. }, Actual::Failed | Actual::Creating) => {
            *action == Action::Create && cluster.last_healthy_at.is_some()
        }
        _ => false,
    }
}

/// Keeps a repair waiting while most clusters are silent: it would meet the
/// same host. The cluster stays as it is recorded and is looked at again soon.
/// A running one that could not be looked at says the same, so that one
/// condition is told and not two.
pub fn hold_repair(
    cluster: &Cluster,
    step: Decision,
    spread: Option<Spread>,
    policy: &Policy,
    moment: Moment,
) -> Decision {
    let Some(Spread { probed, silent }) = spread else {
        return step;
    };
    let (why, error) = match &step {
        Decision::Record(status)
            if is_repair(cluster, &step, moment) || is_blind(cluster, status) =>
        {
            (status.message.clone(), status.error.clone())
        }
        Decision::Act { .. } if is_repair(cluster, &step, moment) => {
            ("it failed".to_owned(), cluster.reconcile_error.clone())
        }
        _ => return step,
    };
    let again = moment.after(policy.health.reprobe);
    let held = Status {
        reason: Reason::RepairHeld,
        message: format!(
            "{why}; nothing is repaired while most clusters are silent ({silent} of {probed} \
             looked at lately), because the host is ill then; the next look is in {}",
            duration::compact(policy.health.reprobe)
        ),
        error,
        ..Status::keeping(cluster)
    };
    Decision::Record(match cluster.settled() {
        // The count stays one short of lost, so the next look decides again.
        true => Status {
            next_check_at: Some(again),
            ..held
        },
        false => Status {
            next_attempt_at: Some(again),
            ..held
        },
    })
}

fn is_blind(cluster: &Cluster, status: &Status) -> bool {
    cluster.actual == Actual::Running
        && !cluster.hands_off()
        && status.reason == Reason::ObservationFailed
}
