//! Maintains the steps of a healthy cluster: repairs drift of single steps, and retries
//! failed best-effort steps, while the cluster keeps running.

use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::clusters::plan::steps::{as_retried, required_step_failed, with_unobserved};
use crate::clusters::plan::{Action, Failure, Status};
use crate::clusters::{Cluster, Desired};
use crate::core::controller::Finished;
use crate::core::database::DatabaseError;
use crate::core::rows::Leased;
use crate::core::steps::{Advanced, Direction, Purpose, Run, RunResult, StepLog};
use crate::core::work::CancelReason;

use super::context::ReconcileContext;
use super::{ClusterReconciler, Next, moment};

impl ClusterReconciler {
    /// Maintains the steps of a healthy cluster, then writes `status`. Does nothing for a
    /// driver without observable steps.
    pub(super) async fn maintain(
        &self,
        context: &ReconcileContext<'_>,
        row: Box<Leased<Cluster>>,
        status: Status,
    ) -> Result<Next, DatabaseError> {
        let cancel = CancellationToken::new();
        let records = as_retried(&row.object, context.work.steps());
        let request = Self::request(context, &row.object, &cancel);
        let set = self.driver.steps(Action::Update, &request);
        let Some(set) = set.filter(|set| set.steps.iter().any(|step| step.is_observable())) else {
            return self.write(context, &row, status, &[]).await;
        };
        let (way, backoff) = (Direction::Forward(Purpose::Maintain), self.policy.backoff);
        let metrics = Some(context.work.step_metrics());
        let mut run = Run::new(&set, &records, way, backoff, row.now(), metrics);
        let (opening, cancelled) = context.observe_with(run.open(), Vec::new).await;
        if let Some(cancelled) = cancelled {
            return Ok(ReconcileContext::end(cancelled));
        }
        if !run.has_work() {
            let status = with_unobserved(status, run.unobserved(), &self.policy, moment(&row));
            return self.write(context, &row, status, &opening).await;
        }
        if !context.work.begin_long_work() {
            return Ok(Next::End(Finished::NoPlace));
        }
        // The start is committed under the fence, immediately before the effect.
        context.work.work_on(row.generation);
        match context.work.advance(&opening, &status.message).await? {
            Advanced::GoOn => {}
            Advanced::PlanAgain => return context.reload().await,
            Advanced::LeaseLost => return Ok(ReconcileContext::end(context.work.lost())),
        }
        info!("repairing a step of a running cluster");
        let desired = |now: &Leased<Cluster>| {
            (now.object.desired != Desired::Present)
                .then_some("the cluster is not declared present any more")
        };
        let (ended, cancelled) = context
            .work
            .during(&cancel, desired, run.go(context.work))
            .await;
        match ended.result {
            RunResult::Done => {
                let status = with_unobserved(status, &ended.unobserved, &self.policy, moment(&row));
                self.write_result(context, &row, status, &ended.changes)
                    .await
            }
            RunResult::Failed(error) => {
                self.count_kind(&error);
                let Some(failure) = Failure::of(error) else {
                    return Ok(ReconcileContext::end(
                        cancelled.unwrap_or_else(|| context.work.lost()),
                    ));
                };
                let (policy, now) = (&self.policy, moment(&row));
                let status = required_step_failed(&row.object, &failure, policy, now);
                self.write_result(context, &row, status, &ended.changes)
                    .await
            }
            RunResult::PlanAgain => context.reload().await,
            RunResult::LeaseLost => Ok(ReconcileContext::end(context.work.lost())),
            RunResult::Unrecorded(error) => Err(error),
            RunResult::Interrupted => match cancelled.unwrap_or_else(|| context.work.lost()) {
                CancelReason::Changed(_) => context.reload().await,
                cancelled @ (CancelReason::LeaseLost | CancelReason::Stopping) => {
                    Ok(ReconcileContext::end(cancelled))
                }
            },
        }
    }
}
