//! Runs an action on a cluster: commits the intent, runs the driver with or without steps,
//! observes, and writes the result.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clusters::observation::{Observation, PresentState};
use crate::clusters::plan::steps::{StepsOf, after_removal, after_run, as_retried};
use crate::clusters::plan::{
    Action, Conclusion, Failure, Outcome, Status, conclude, interrupt, started_message,
};
use crate::clusters::{Actual, Cluster};
use crate::core::controller::Finished;
use crate::core::database::DatabaseError;
use crate::core::rows::{Leased, Written};
use crate::core::steps::{Run, RunResult, StepChange, StepError};
use crate::core::work::CancelReason;
use crate::drivers::{ActionRequest, direction};
use crate::metrics::ActionResult;

use super::context::ReconcileContext;
use super::unwritten::UnwrittenResult;
use super::{CONTROLLER, ClusterReconciler, Next, moment};

/// How long a cluster may take to become healthy after its command succeeded.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// The time between two observations during that time.
const SETTLE_EVERY: Duration = Duration::from_millis(500);

/// How the driver's part of an action ended.
enum DriverResult {
    /// It ended, with the step changes that are not written yet.
    Ended(Outcome, Vec<StepChange>),
    /// It was interrupted; nothing is concluded.
    Cancelled(CancelReason),
    /// The row changed between two steps: plan again.
    PlanAgain,
}

impl ClusterReconciler {
    /// Runs an action and writes its result.
    pub(super) async fn act(
        &self,
        context: &ReconcileContext<'_>,
        action: Action,
        mut intent: Status,
        row: Box<Leased<Cluster>>,
    ) -> Result<Next, DatabaseError> {
        if action.is_long() && !context.work.begin_long_work() {
            return Ok(Next::End(Finished::NoPlace));
        }
        let cancel = CancellationToken::new();
        let records = as_retried(&row.object, context.work.steps());
        let request = Self::request(context, &row.object, &cancel);
        let set = self.driver.steps(action, &request);
        let mut run = set.as_ref().map(|set| {
            let metrics = Some(context.work.step_metrics());
            let (way, backoff) = (direction(action), self.policy.backoff);
            Run::new(set, &records, way, backoff, row.now(), metrics)
        });
        let mut opening = Vec::new();
        if let Some(run) = &mut run {
            let (changes, cancelled) = context.observe_with(run.open(), Vec::new).await;
            if let Some(cancelled) = cancelled {
                return Ok(ReconcileContext::end(cancelled));
            }
            opening = changes;
            if let Some(step) = run.started_step() {
                let reason = intent.reason;
                intent.message = started_message(&row.object, action, reason, Some(&step));
            }
        }
        let begun = match self.commit(context, action, &row, intent, &opening).await? {
            Ok(begun) => begun,
            Err(next) => return Ok(next),
        };
        let began = Instant::now();
        info!(
            action = action.as_str(),
            attempt = row.object.failed_attempts + 1,
            "acting"
        );
        let (outcome, changes) = match self.drive(context, action, &request, run).await? {
            DriverResult::Ended(outcome, changes) => (outcome, changes),
            DriverResult::PlanAgain => return context.reload().await,
            DriverResult::Cancelled(cancelled) => {
                return self.interrupted(context, action, cancelled, began).await;
            }
        };
        let ended = UnwrittenResult {
            action,
            outcome,
            changes,
            began,
            ended: Instant::now(),
        };
        self.unwritten.keep(&begun, &ended);
        self.conclude_action(context, begun, ended).await
    }

    /// Observes what an ended action has led to, and writes the result. `row` has its intent.
    pub(super) async fn conclude_action(
        &self,
        context: &ReconcileContext<'_>,
        row: Box<Leased<Cluster>>,
        ended: UnwrittenResult,
    ) -> Result<Next, DatabaseError> {
        let (action, outcome) = (ended.action, &ended.outcome);
        let (observed, cancelled) = self.verify(context, action, outcome, &row.object).await;
        if let Some(cancelled @ (CancelReason::LeaseLost | CancelReason::Stopping)) = cancelled {
            return Ok(ReconcileContext::end(cancelled));
        }
        let (policy, now) = (&self.policy, moment(&row));
        let mut conclusion = conclude(&row.object, action, outcome, &observed, policy, now);
        if let Conclusion::Record(status) = &mut conclusion
            && (outcome, &observed) == (&Outcome::Succeeded, &Observation::Absent)
            && status.actual == Actual::Failed
            && let Some(check) = self.driver.absence(&row.object)
        {
            status.message = format!("{}: {check}", status.message);
            status.error = Some(status.message.clone());
        }
        let changes = &ended.changes;
        let mut conclusion =
            self.check_steps(context, &row, (action, outcome), conclusion, changes);
        if let Some(status) = self.recreation_after(&row, action, &observed).await {
            conclusion = Conclusion::Record(status);
        }
        match self.finish(context, &row, conclusion, &ended).await? {
            Some(next) => {
                self.unwritten.forget(context.key());
                Ok(next)
            }
            // The result is kept: the row may be the same, and only the lease is lost.
            None => {
                let ended = (action, outcome);
                self.changed_meanwhile(context, ended, &observed, &row, changes)
                    .await
            }
        }
    }

    /// Commits the intent and the start of the first step, then renews the lease
    /// immediately before the effect. A row that has changed meanwhile, or that is paused or
    /// protected now, is planned again instead.
    async fn commit(
        &self,
        context: &ReconcileContext<'_>,
        action: Action,
        row: &Leased<Cluster>,
        intent: Status,
        opening: &[StepChange],
    ) -> Result<Result<Box<Leased<Cluster>>, Next>, DatabaseError> {
        let intended = intent.actual;
        // An interrupted delete resumes: it was counted when it began.
        // A recreation was requested for this cluster alone: it is not counted.
        let begins = action == Action::Delete
            && row.object.actual != Actual::Deleting
            && row.object.recreate_requested_at.is_none();
        let written = if begins {
            self.begin_deletion(context, row, intent, opening).await?
        } else {
            let status = self.written(&row.object, &intent);
            context.work.write(row, &status, opening).await?
        };
        let begun = match written {
            Written::Yes(row) if row.object.actual == intended => row,
            Written::Yes(row) => return Ok(Err(Next::Plan(row))),
            Written::Lost => return Ok(Err(context.reload().await?)),
        };
        let fenced = match context.work.renew().await? {
            Some(now)
                if now.generation == begun.generation
                    && !now.object.observe_only()
                    && self.of_another_driver(context, &now.object).is_none() =>
            {
                now
            }
            Some(now) => return Ok(Err(Next::Plan(Box::new(now)))),
            None => return Ok(Err(ReconcileContext::end(context.work.lost()))),
        };
        self.limits.action_starts(context.key());
        context.work.work_on(fenced.generation);
        Ok(Ok(Box::new(fenced)))
    }

    /// Runs the driver while the lease is renewed, unless it is interrupted.
    async fn drive(
        &self,
        context: &ReconcileContext<'_>,
        action: Action,
        request: &ActionRequest<'_>,
        run: Option<Run<'_>>,
    ) -> Result<DriverResult, DatabaseError> {
        let effect = async {
            match run {
                Some(run) => {
                    let ended = run.go(context.work).await;
                    (ended.result, ended.changes)
                }
                None => match self.driver.act(action, request).await {
                    Ok(()) => (RunResult::Done, Vec::new()),
                    Err(StepError::Interrupted) => (RunResult::Interrupted, Vec::new()),
                    Err(error) => (RunResult::Failed(error), Vec::new()),
                },
            }
        };
        let interrupt = |now: &Leased<Cluster>| interrupt(action, now.object.desired);
        let ((result, changes), cancelled) =
            context.work.during(request.cancel, interrupt, effect).await;
        let ended = match result {
            RunResult::Done => Ok(()),
            RunResult::Failed(error) => Err(error),
            // If this process did not interrupt it, the guard did, because the trust ended
            // while this process was suspended.
            RunResult::Interrupted => {
                return Ok(DriverResult::Cancelled(
                    cancelled.unwrap_or_else(|| context.work.lost()),
                ));
            }
            RunResult::LeaseLost => return Ok(DriverResult::Cancelled(context.work.lost())),
            RunResult::PlanAgain => {
                return Ok(cancelled.map_or(DriverResult::PlanAgain, DriverResult::Cancelled));
            }
            RunResult::Unrecorded(error) => return Err(error),
        };
        let outcome = match ended {
            Ok(()) => Outcome::Succeeded,
            Err(error) => {
                self.count_kind(&error);
                match Failure::of(error) {
                    Some(failure) => Outcome::Failed(failure),
                    None => {
                        return Ok(DriverResult::Cancelled(
                            cancelled.unwrap_or_else(|| context.work.lost()),
                        ));
                    }
                }
            }
        };
        Ok(DriverResult::Ended(outcome, changes))
    }

    async fn interrupted(
        &self,
        context: &ReconcileContext<'_>,
        action: Action,
        cancelled: CancelReason,
        began: Instant,
    ) -> Result<Next, DatabaseError> {
        let actions = &self.metrics.actions;
        actions.ended(action, ActionResult::Interrupted, began.elapsed());
        info!(action = action.as_str(), cancelled = ?cancelled, "action was interrupted");
        match cancelled {
            CancelReason::Changed(_) => context.reload().await,
            CancelReason::LeaseLost | CancelReason::Stopping => {
                Ok(ReconcileContext::end(cancelled))
            }
        }
    }

    pub(super) fn count_kind(&self, error: &StepError) {
        let controller = self.metrics.controller(CONTROLLER);
        match error {
            StepError::Late { .. } => controller.reconcile_timeouts_total.inc(),
            StepError::Permanent { .. } => controller.terminal_errors_total.inc(),
            StepError::Transient { .. } | StepError::Interrupted => {}
        }
    }

    /// Observes the result of an action, while the lease is renewed. A new cluster may take
    /// a moment to become healthy.
    async fn verify(
        &self,
        context: &ReconcileContext<'_>,
        action: Action,
        outcome: &Outcome,
        cluster: &Cluster,
    ) -> (Observation, Option<CancelReason>) {
        let may_wait = *outcome == Outcome::Succeeded;
        let give_up = Instant::now() + SETTLE_WITHIN;
        let settle = async {
            loop {
                let observed = self.driver.observe(cluster).await;
                if !may_wait || !may_settle(action, &observed) || Instant::now() >= give_up {
                    return observed;
                }
                tokio::time::sleep(SETTLE_EVERY).await;
            }
        };
        let interrupted = || Observation::unknown("the observation was interrupted");
        context.observe_with(settle, interrupted).await
    }

    /// Adds the steps to a conclusion: the row of a deleted cluster stays while steps are
    /// left, and a healthy cluster with a failed required step has failed.
    pub(super) fn check_steps(
        &self,
        context: &ReconcileContext<'_>,
        row: &Leased<Cluster>,
        ended: (Action, &Outcome),
        conclusion: Conclusion,
        changes: &[StepChange],
    ) -> Conclusion {
        let facts = self.facts(context, &row.object);
        let mut records = context.work.steps();
        for change in changes {
            change.apply_to(&mut records, row.now());
        }
        let steps = StepsOf {
            driver: self.driver.name(),
            facts: &facts,
            records: &records,
        };
        let (policy, now) = (&self.policy, moment(row));
        match conclusion {
            Conclusion::Remove => after_removal(&row.object, steps, policy, now)
                .map_or(Conclusion::Remove, Conclusion::Record),
            conclusion => after_run(&row.object, ended, conclusion, steps, policy, now),
        }
    }

    /// Writes the result, and counts it; `None` if the row has changed meanwhile.
    async fn finish(
        &self,
        context: &ReconcileContext<'_>,
        row: &Leased<Cluster>,
        conclusion: Conclusion,
        ended: &UnwrittenResult,
    ) -> Result<Option<Next>, DatabaseError> {
        let failed =
            matches!(&conclusion, Conclusion::Record(status) if status.actual == Actual::Failed);
        let result = if failed {
            ActionResult::Failure
        } else {
            ActionResult::Success
        };
        let took = ended.ended.duration_since(ended.began);
        let (action, seconds) = (ended.action.as_str(), took.as_secs_f64());
        let next = match conclusion {
            Conclusion::Remove => {
                info!(action, seconds, "cluster is verified absent");
                self.remove(context, row).await.map(Some)
            }
            Conclusion::Record(status) => {
                // Not `message`, which is the message of the log line.
                let (reason, because) = (status.reason.as_str(), &status.message);
                if failed {
                    warn!(action, seconds, reason, because, "action failed");
                } else {
                    info!(action, seconds, reason, because, "action succeeded");
                }
                self.try_write_result(context, row, status, &ended.changes)
                    .await
            }
        }?;
        self.metrics.actions.ended(ended.action, result, took);
        if matches!(ended.action, Action::Create | Action::Start) {
            self.limits.repair_ended(context.key(), !failed);
        }
        Ok(next)
    }
}

/// Whether the cluster may still reach the declared state by itself after a successful
/// action.
fn may_settle(action: Action, observed: &Observation) -> bool {
    match (action, observed) {
        (_, Observation::Unknown(_)) => true,
        (Action::Create | Action::Update | Action::Start, Observation::Present(seen)) => {
            *seen != PresentState::Healthy
        }
        (Action::Create | Action::Update | Action::Start, Observation::Absent) => false,
        (Action::Stop, seen) => seen.is_healthy(),
        // A healthy cluster was not deleted; an unhealthy one may be about to end.
        (Action::Delete, Observation::Present(seen)) => *seen != PresentState::Healthy,
        (Action::Delete, Observation::Absent) => false,
    }
}
