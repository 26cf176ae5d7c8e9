//! Looking after the steps of a cluster that is well: drift of one step, and
//! best-effort steps that failed, are mended while the cluster goes on running.

use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::clusters::plan::steps::{as_retried, step_lost, with_unseen};
use crate::clusters::plan::{Action, Failure, Status};
use crate::clusters::{Cluster, Desired};
use crate::core::database::DatabaseError;
use crate::core::rows::Leased;
use crate::core::steps::{Advanced, Direction, Purpose, Run, RunResult, StepLog};
use crate::core::work::Cut;

use super::pass::Pass;
use super::{ClusterReconciler, Next, moment};

impl ClusterReconciler {
    /// Writes `status` of a cluster that answers, once its steps are looked after.
    /// Drivers whose steps cannot be observed by themselves have nothing to look at.
    pub(super) async fn maintain(
        &self,
        pass: &Pass<'_>,
        row: Box<Leased<Cluster>>,
        status: Status,
    ) -> Result<Next, DatabaseError> {
        let cancel = CancellationToken::new();
        let records = as_retried(&row.object, pass.work.steps());
        let order = Self::order(pass, &row.object, &cancel);
        let set = self.driver.steps(Action::Update, &order);
        let Some(set) = set.filter(|set| set.steps.iter().any(|step| step.is_observable())) else {
            return self.write(pass, &row, status, &[]).await;
        };
        let (way, backoff) = (Direction::Forward(Purpose::Maintain), self.policy.backoff);
        let metrics = Some(pass.work.step_metrics());
        let mut run = Run::new(&set, &records, way, backoff, row.now(), metrics);
        let (opening, cut) = pass.look_with(run.open(), Vec::new).await;
        if let Some(cut) = cut {
            return Ok(Pass::end(cut));
        }
        if !run.has_work() {
            let status = with_unseen(status, run.unobserved(), &self.policy, moment(&row));
            return self.write(pass, &row, status, &opening).await;
        }
        // The start is committed under the fence, immediately before the effect.
        pass.work.work_on(row.generation);
        match pass.work.advance(&opening, &status.message).await? {
            Advanced::GoOn => {}
            Advanced::PlanAgain => return pass.reload().await,
            Advanced::LeaseLost => return Ok(Pass::end(pass.work.lost())),
        }
        info!("mending a step of a running cluster");
        let desired = |now: &Leased<Cluster>| {
            (now.object.desired != Desired::Present)
                .then_some("it is not declared present any more")
        };
        let (ended, cut) = pass.work.during(&cancel, desired, run.go(pass.work)).await;
        match ended.result {
            RunResult::Done => {
                let status = with_unseen(status, &ended.unobserved, &self.policy, moment(&row));
                self.write(pass, &row, status, &ended.changes).await
            }
            RunResult::Failed(error) => {
                self.count_kind(&error);
                let Some(failure) = Failure::of(error) else {
                    return Ok(Pass::end(cut.unwrap_or_else(|| pass.work.lost())));
                };
                let lost = step_lost(&row.object, &failure, &self.policy, moment(&row));
                self.write(pass, &row, lost, &ended.changes).await
            }
            RunResult::PlanAgain => pass.reload().await,
            RunResult::LeaseLost => Ok(Pass::end(pass.work.lost())),
            RunResult::Unrecorded(error) => Err(error),
            RunResult::Interrupted => match cut.unwrap_or_else(|| pass.work.lost()) {
                Cut::Changed(_) => pass.reload().await,
                cut @ (Cut::LeaseLost | Cut::Stopping) => Ok(Pass::end(cut)),
            },
        }
    }
}
