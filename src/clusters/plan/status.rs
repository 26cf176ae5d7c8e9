//! What a decision writes into a row: all of the status columns, and nothing
//! of spec or desire.

use jiff::Timestamp;

use crate::clusters::event::Reason;
use crate::clusters::observation::Observation;
use crate::clusters::{Actual, Cluster};

/// What becomes of the record that the spec has been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// As it was.
    Kept,
    /// Not proven any more: a command that changes things begins.
    Cleared,
    /// A command that ended well has applied the spec this row was read with.
    Proven,
}

/// The new values of the status columns of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The new state.
    pub actual: Actual,
    /// Why, as a word.
    pub reason: Reason,
    /// Why, as a sentence.
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
    /// When a settled row is looked at again.
    pub next_check_at: Option<Timestamp>,
    /// Whether the spec counts as applied.
    pub applied: Applied,
    /// Whether this generation's desire is reached.
    pub reached: bool,
    /// Whether the cluster is known not to be there, so that it may be placed anew.
    pub absent: bool,
}

impl Status {
    /// Everything as it is; the caller changes what the decision is about.
    pub(super) fn keeping(cluster: &Cluster) -> Self {
        Self {
            actual: cluster.actual,
            reason: Reason::Healthy,
            message: String::new(),
            error: cluster.reconcile_error.clone(),
            failed_attempts: cluster.failed_attempts,
            next_attempt_at: cluster.next_attempt_at,
            health_failures: cluster.health_failures,
            healthy: false,
            next_check_at: cluster.next_check_at,
            applied: Applied::Kept,
            reached: false,
            absent: false,
        }
    }

    /// It answers its probe: running, all counts start over.
    pub(super) fn running(cluster: &Cluster, reason: Reason, next_check: Timestamp) -> Self {
        Self {
            actual: Actual::Running,
            reason,
            message: "it answers its probe".into(),
            healthy: true,
            reached: cluster.spec_applied,
            ..Self::settled(cluster, next_check)
        }
    }

    /// Nothing of it runs, as wanted.
    pub(super) fn stopped(cluster: &Cluster, reason: Reason, next_check: Timestamp) -> Self {
        Self {
            actual: Actual::Stopped,
            reason,
            message: "it is stopped".into(),
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
            ..Self::keeping(cluster)
        }
    }

    /// Says whether nothing is there: it was not seen, and not only missed by a
    /// check of what is still taken for running.
    pub(super) fn noting(self, observed: Option<&Observation>) -> Self {
        let nothing = matches!(
            self.actual,
            Actual::Unknown | Actual::Stopped | Actual::Failed
        );
        Self {
            absent: nothing && observed == Some(&Observation::Absent),
            ..self
        }
    }

    /// What the write does to a row in memory: the meaning of
    /// `set_status` in `store::object`, for models and tests.
    pub fn apply_to(&self, cluster: &mut Cluster, now: Timestamp) {
        cluster.actual = self.actual;
        cluster.status_reason = Some(self.reason.as_str().to_owned());
        cluster.status_message = Some(self.message.clone());
        cluster.reconcile_error = self.error.clone();
        cluster.failed_attempts = self.failed_attempts;
        cluster.next_attempt_at = self.next_attempt_at;
        cluster.health_failures = self.health_failures;
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
        if self.absent {
            cluster.placed_by = None;
        }
        if self.reached {
            cluster.observed_generation = cluster.generation;
        }
    }
}
