//! A row that cannot be read: shown as such, and nothing else is done to it.

use tracing::warn;

use crate::clusters::Actual;
use crate::clusters::event::Reason;
use crate::clusters::plan::{Applied, Moment, Status};
use crate::core::controller::Finished;
use crate::core::database::DatabaseError;
use crate::store::Claimed;

use super::held::Held;
use super::{CONTROLLER, ClusterReconciler};

impl ClusterReconciler {
    /// Lets a person see that a row cannot be read, and tries it again rarely:
    /// a change of the row rings anyway.
    pub(super) async fn show_unreadable(
        &self,
        held: &Held<'_>,
        claimed: &Claimed,
    ) -> Result<Finished, DatabaseError> {
        let told = claimed
            .row
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default();
        warn!(error = told, "row cannot be read");
        let controller = self.metrics.controller(CONTROLLER);
        controller.terminal_errors_total.inc();
        held.note_step("record");
        held.note_reason(Reason::RowInvalid);
        let retry = self.policy.backoff.longest(fastrand::f64());
        let next = Moment {
            now: claimed.read_at,
            jitter: 0.0,
        }
        .after(retry);
        let status = Status {
            actual: Actual::Failed,
            reason: Reason::RowInvalid,
            message: format!("its row cannot be read: {told}"),
            error: Some(told),
            failed_attempts: 1,
            next_attempt_at: Some(next),
            health_failures: 0,
            healthy: false,
            next_check_at: Some(next),
            applied: Applied::Kept,
            reached: false,
            absent: false,
        };
        self.store
            .write_unreadable(held.key, claimed, &status)
            .await?;
        Ok(Finished::Failed(retry))
    }
}
