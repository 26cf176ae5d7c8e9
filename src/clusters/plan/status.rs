//! The status that a decision writes to a row: all status columns, and nothing of the
//! declaration.

use std::time::Duration;

use jiff::Timestamp;

use crate::clusters::event::Reason;
use crate::clusters::health::Flaps;
use crate::clusters::observation::Observation;
use crate::clusters::{Actual, Cluster};
use crate::core::backoff::Backoff;

use super::Moment;

/// How a status changes the record that the spec is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Unchanged.
    Kept,
    /// The spec does not count as applied: a command that may change it starts.
    Cleared,
    /// The spec is applied: a command with the spec of this row has succeeded.
    Proven,
}

/// The new values of the status columns of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The new state.
    pub actual: Actual,
    /// The reason, as a word.
    pub reason: Reason,
    /// The reason, as a sentence.
    pub message: String,
    /// The last failure, for `reconcile_error`.
    pub error: Option<String>,
    /// Failed attempts in a row.
    pub failed_attempts: u32,
    /// When the next attempt is due; none means at once.
    pub next_attempt_at: Option<Timestamp>,
    /// Failed probes in a row.
    pub health_failures: u32,
    /// Whether `last_healthy_at` becomes now.
    pub healthy: bool,
    /// Its recoveries and losses.
    pub flaps: Flaps,
    /// When a settled row is checked next.
    pub next_check_at: Option<Timestamp>,
    /// How the record changes that the spec is applied.
    pub applied: Applied,
    /// Whether the desired state of this generation is reached.
    pub reached: bool,
    /// Whether the cluster is known to be absent, so that its placement is cleared.
    pub absent: bool,
    /// The request to create the cluster again that is fulfilled: the cluster is deleted.
    pub recreated: Option<Timestamp>,
}

impl Status {
    /// Deleted, and wanted again.
    pub(super) fn deleted(cluster: &Cluster) -> Self {
        Self {
            actual: Actual::Unknown,
            reason: Reason::Deleted,
            message: match cluster.recreate_requested_at {
                Some(_) => "deleted; it is created again".into(),
                None => "deleted; it is not declared absent any more".into(),
            },
            error: None,
            failed_attempts: 0,
            next_attempt_at: None,
            health_failures: 0,
            recreated: cluster.recreate_requested_at,
            ..Self::unchanged(cluster)
        }
    }

    /// The current values; the caller overrides those that the decision changes.
    pub(super) fn unchanged(cluster: &Cluster) -> Self {
        Self {
            actual: cluster.actual,
            reason: Reason::Healthy,
            message: String::new(),
            error: cluster.reconcile_error.clone(),
            failed_attempts: cluster.failed_attempts,
            next_attempt_at: cluster.next_attempt_at,
            health_failures: cluster.health_failures,
            healthy: false,
            flaps: cluster.flaps,
            next_check_at: cluster.next_check_at,
            applied: Applied::Kept,
            reached: false,
            absent: false,
            recreated: None,
        }
    }

    /// Running and healthy; resets all counts.
    pub(super) fn running(cluster: &Cluster, reason: Reason, next_check: Timestamp) -> Self {
        Self {
            actual: Actual::Running,
            reason,
            message: "healthy: the probe succeeded".into(),
            healthy: true,
            reached: cluster.spec_applied,
            ..Self::settled(cluster, next_check)
        }
    }

    /// Stopped, as desired; resets all counts.
    pub(super) fn stopped(cluster: &Cluster, reason: Reason, next_check: Timestamp) -> Self {
        Self {
            actual: Actual::Stopped,
            reason,
            message: "stopped".into(),
            reached: true,
            ..Self::settled(cluster, next_check)
        }
    }

    fn settled(cluster: &Cluster, next_check: Timestamp) -> Self {
        Self {
            error: None,
            failed_attempts: 0,
            next_attempt_at: None,
            health_failures: 0,
            next_check_at: Some(next_check),
            ..Self::unchanged(cluster)
        }
    }

    /// Sets `absent` from the observation. A cluster that still counts as running is not
    /// absent after one failed check.
    pub(super) fn with_absence(self, observed: Option<&Observation>) -> Self {
        let may_be_absent = matches!(
            self.actual,
            Actual::Unknown | Actual::Stopped | Actual::Failed
        );
        Self {
            absent: may_be_absent && observed == Some(&Observation::Absent),
            ..self
        }
    }

    /// Applies the status to a row in memory, as `set_status` in `store::object` does in
    /// the database; for models and tests.
    pub fn apply_to(&self, cluster: &mut Cluster, now: Timestamp) {
        cluster.actual = self.actual;
        cluster.status_reason = Some(self.reason.as_str().to_owned());
        cluster.status_message = Some(self.message.clone());
        cluster.reconcile_error = self.error.clone();
        cluster.failed_attempts = self.failed_attempts;
        cluster.next_attempt_at = self.next_attempt_at;
        cluster.health_failures = self.health_failures;
        cluster.flaps = self.flaps;
        cluster.next_check_at = self.next_check_at;
        cluster.last_reconciled_at = Some(now);
        if self.healthy {
            cluster.last_healthy_at = Some(now);
        }
        match self.applied {
            Applied::Kept => {}
            Applied::Cleared => cluster.spec_applied = false,
            Applied::Proven => cluster.spec_applied = true,
        }
        if self.recreated.is_some() && self.recreated == cluster.recreate_requested_at {
            cluster.recreate_requested_at = None;
        }
        if self.absent {
            cluster.placed_by = None;
            cluster.engine = None;
        }
        if self.reached {
            cluster.observed_generation = cluster.generation;
        }
    }
}

/// The status of a row after the database refused a write to it, and the delay until the next
/// attempt. Running and stopped clusters keep their state: no action on them started.
pub fn write_refused(
    cluster: &Cluster,
    why: &str,
    backoff: &Backoff,
    moment: Moment,
) -> (Status, Duration) {
    let attempts = cluster.failed_attempts.saturating_add(1);
    let delay = backoff.delay(attempts, moment.jitter);
    let next = Some(moment.after(delay));
    let actual = match cluster.actual {
        Actual::Running | Actual::Stopped => cluster.actual,
        Actual::Unknown
        | Actual::Creating
        | Actual::Restarting
        | Actual::Updating
        | Actual::Stopping
        | Actual::Failed
        | Actual::Deleting => Actual::Failed,
    };
    let status = Status {
        actual,
        reason: Reason::WriteRefused,
        message: why.to_owned(),
        error: Some(why.to_owned()),
        failed_attempts: attempts,
        next_attempt_at: next,
        next_check_at: next,
        ..Status::unchanged(cluster)
    };
    (status, delay)
}
