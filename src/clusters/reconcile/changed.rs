//! Records the result of an action whose row was changed while it ran.

use tracing::warn;

use crate::clusters::Cluster;
use crate::clusters::event::Reason;
use crate::clusters::observation::Observation;
use crate::clusters::plan::{Action, Conclusion, Outcome, conclude_changed};
use crate::core::database::DatabaseError;
use crate::core::rows::Leased;
use crate::core::steps::StepChange;

use super::context::ReconcileContext;
use super::{ClusterReconciler, Next, moment};

impl ClusterReconciler {
    /// Reads the row again after the result of an action was not written, because the row is
    /// not that of the action any more. If only the spec changed, records what the action found;
    /// otherwise the row is planned again.
    pub(super) async fn changed_meanwhile(
        &self,
        context: &ReconcileContext<'_>,
        (action, outcome): (Action, &Outcome),
        observed: &Observation,
        begun: &Leased<Cluster>,
        changes: &[StepChange],
    ) -> Result<Next, DatabaseError> {
        let Some(mut now) = context.work.renew().await? else {
            return Ok(Next::End(context.work.lost().finished()));
        };
        let rows = (&begun.object, &now.object);
        let (policy, at) = (&self.policy, moment(&now));
        let Some(status) = conclude_changed(rows, action, outcome, observed, policy, at) else {
            return Ok(Next::Plan(Box::new(now)));
        };
        let attempts = now.object.failed_attempts;
        now.object.failed_attempts = begun.object.failed_attempts;
        let conclusion = Conclusion::Record(status);
        let conclusion = self.check_steps(context, &now, (action, outcome), conclusion, changes);
        now.object.failed_attempts = attempts;
        let Conclusion::Record(status) = conclusion else {
            return Ok(Next::Plan(Box::new(now)));
        };
        if status.reason == Reason::ChangeDeferred {
            self.metrics.actions.change_deferred();
            let changes = status.failed_attempts;
            warn!(
                changes,
                "the spec changes whenever its command runs: applied after a pause"
            );
        }
        self.write_result(context, &now, status, changes).await
    }
}
