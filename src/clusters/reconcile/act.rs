//! An action on a cluster: its intent, its effect in steps or at once, the look at
//! what it left, and its result.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clusters::observation::{Condition, Observation};
use crate::clusters::plan::steps::{StepsOf, after_removal, after_run, as_retried};
use crate::clusters::plan::{Action, Conclusion, Failure, Outcome, Status, conclude, interrupt};
use crate::clusters::{Actual, Cluster};
use crate::core::database::DatabaseError;
use crate::core::rows::{Leased, Written};
use crate::core::steps::{Run, RunResult, StepChange, StepError};
use crate::core::work::Cut;
use crate::drivers::{Order, direction};
use crate::metrics::ActionResult;
use crate::store::ClusterStatus;

use super::pass::Pass;
use super::{CONTROLLER, ClusterReconciler, Next, moment};

/// How long a cluster may take to answer after its command succeeded.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks in that time.
const SETTLE_EVERY: Duration = Duration::from_millis(500);

/// How the effect of an action ended.
enum Driven {
    /// It is to be judged; with what is to be written of its steps.
    Ended(Outcome, Vec<StepChange>),
    /// It was cut short; nothing is concluded.
    Cut(Cut),
    /// The row changed between two steps: plan again.
    PlanAgain,
}

impl ClusterReconciler {
    /// Does an action and writes what came of it.
    pub(super) async fn act(
        &self,
        pass: &Pass<'_>,
        action: Action,
        mut intent: Status,
        row: Box<Leased<Cluster>>,
    ) -> Result<Next, DatabaseError> {
        let cancel = CancellationToken::new();
        let records = as_retried(&row.object, pass.work.steps());
        let order = Self::order(pass, &row.object, &cancel);
        let set = self.driver.steps(action, &order);
        let mut run = set.as_ref().map(|set| {
            let metrics = Some(pass.work.step_metrics());
            let (way, backoff) = (direction(action), self.policy.backoff);
            Run::new(set, &records, way, backoff, row.now(), metrics)
        });
        let mut opening = Vec::new();
        if let Some(run) = &mut run {
            let (changes, cut) = pass.look_with(run.open(), Vec::new).await;
            if let Some(cut) = cut {
                return Ok(Pass::end(cut));
            }
            opening = changes;
            if let Some(step) = run.begins() {
                intent.message = format!("{}: {step}", intent.message);
            }
        }
        let begun = match self.commit(pass, action, &row, intent, &opening).await? {
            Ok(begun) => begun,
            Err(next) => return Ok(next),
        };
        let began = Instant::now();
        info!(
            action = action.as_str(),
            attempt = row.object.failed_attempts + 1,
            "acting"
        );
        let (outcome, changes) = match self.drive(pass, action, &order, run).await? {
            Driven::Ended(outcome, changes) => (outcome, changes),
            Driven::PlanAgain => return pass.reload().await,
            Driven::Cut(cut) => return self.cut_short(pass, action, cut, began).await,
        };
        let (observed, cut) = self.verify(pass, action, &outcome, &begun.object).await;
        if let Some(cut @ (Cut::LeaseLost | Cut::Stopping)) = cut {
            return Ok(Pass::end(cut));
        }
        let conclusion = conclude(
            &begun.object,
            action,
            &outcome,
            &observed,
            &self.policy,
            moment(&begun),
        );
        let conclusion = self.check_steps(pass, &begun, (action, &outcome), conclusion, &changes);
        self.finish(pass, action, begun, conclusion, &changes, began)
            .await
    }

    /// Commits the intent, and which step begins with it; then the fence,
    /// immediately before the effect: the row under the renewed lease. A row that
    /// changed since, or is only to be looked at by now, is planned again instead.
    async fn commit(
        &self,
        pass: &Pass<'_>,
        action: Action,
        row: &Leased<Cluster>,
        intent: Status,
        opening: &[StepChange],
    ) -> Result<Result<Box<Leased<Cluster>>, Next>, DatabaseError> {
        // A delete that was interrupted goes on: it was counted when it began.
        let begins = action == Action::Delete && row.object.actual != Actual::Deleting;
        let written = if begins {
            self.begin_deletion(pass, row, intent, opening).await?
        } else {
            let status = ClusterStatus::new(&intent, &row.object.spec_hash);
            pass.work.write(row, &status, opening).await?
        };
        let intended = match written {
            Written::Yes(row) if row.object.actual == action.intent() => row,
            Written::Yes(row) => return Ok(Err(Next::Plan(row))),
            Written::Lost => return Ok(Err(pass.reload().await?)),
        };
        let fenced = match pass.work.renew().await? {
            Some(now) if now.generation == intended.generation && !now.object.hands_off() => now,
            Some(now) => return Ok(Err(Next::Plan(Box::new(now)))),
            None => return Ok(Err(Pass::end(pass.work.lost()))),
        };
        self.caution.works_on(pass.key());
        pass.work.work_on(fenced.generation);
        Ok(Ok(Box::new(fenced)))
    }

    /// Lets the driver act while the lease is kept, unless that is cut short.
    async fn drive(
        &self,
        pass: &Pass<'_>,
        action: Action,
        order: &Order<'_>,
        run: Option<Run<'_>>,
    ) -> Result<Driven, DatabaseError> {
        let effect = async {
            match run {
                Some(run) => {
                    let ended = run.go(pass.work).await;
                    (ended.result, ended.changes)
                }
                None => match self.driver.act(action, order).await {
                    Ok(()) => (RunResult::Done, Vec::new()),
                    Err(StepError::Interrupted) => (RunResult::Interrupted, Vec::new()),
                    Err(error) => (RunResult::Failed(error), Vec::new()),
                },
            }
        };
        let interrupt = |now: &Leased<Cluster>| interrupt(action, now.object.desired);
        let ((result, changes), cut) = pass.work.during(order.cancel, interrupt, effect).await;
        let ended = match result {
            RunResult::Done => Ok(()),
            RunResult::Failed(error) => Err(error),
            // Where nothing here cut it short, the guard did: it saw the trust end
            // before this process, which may have been stopped, could.
            RunResult::Interrupted => {
                return Ok(Driven::Cut(cut.unwrap_or_else(|| pass.work.lost())));
            }
            RunResult::LeaseLost => return Ok(Driven::Cut(pass.work.lost())),
            RunResult::PlanAgain => return Ok(cut.map_or(Driven::PlanAgain, Driven::Cut)),
            RunResult::Unrecorded(error) => return Err(error),
        };
        let outcome = match ended {
            Ok(()) => Outcome::Succeeded,
            Err(error) => {
                self.count_kind(&error);
                match Failure::of(error) {
                    Some(failure) => Outcome::Failed(failure),
                    None => return Ok(Driven::Cut(cut.unwrap_or_else(|| pass.work.lost()))),
                }
            }
        };
        Ok(Driven::Ended(outcome, changes))
    }

    async fn cut_short(
        &self,
        pass: &Pass<'_>,
        action: Action,
        cut: Cut,
        began: Instant,
    ) -> Result<Next, DatabaseError> {
        let actions = &self.metrics.actions;
        actions.ended(action, ActionResult::Interrupted, began.elapsed());
        info!(action = action.as_str(), cut = ?cut, "action was cut short");
        match cut {
            Cut::Changed(_) => pass.reload().await,
            Cut::LeaseLost | Cut::Stopping => Ok(Pass::end(cut)),
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

    /// Looks at what an action left, while the lease is kept; a cluster that was
    /// just made may take a moment to answer.
    async fn verify(
        &self,
        pass: &Pass<'_>,
        action: Action,
        outcome: &Outcome,
        cluster: &Cluster,
    ) -> (Observation, Option<Cut>) {
        let patient = *outcome == Outcome::Succeeded;
        let give_up = Instant::now() + SETTLE_WITHIN;
        let settle = async {
            loop {
                let observed = self.driver.observe(cluster).await;
                if !patient || !may_settle(action, &observed) || Instant::now() >= give_up {
                    return observed;
                }
                tokio::time::sleep(SETTLE_EVERY).await;
            }
        };
        let cut_short = || Observation::unknown("the look was cut short");
        pass.look_with(settle, cut_short).await
    }

    /// A row whose cluster is gone stays while something of its steps is left; a
    /// cluster that answers is not well while a required step failed.
    fn check_steps(
        &self,
        pass: &Pass<'_>,
        row: &Leased<Cluster>,
        ended: (Action, &Outcome),
        conclusion: Conclusion,
        changes: &[StepChange],
    ) -> Conclusion {
        let facts = self.facts(pass, &row.object);
        let mut records = pass.work.steps();
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

    /// Counts and writes the result.
    async fn finish(
        &self,
        pass: &Pass<'_>,
        action: Action,
        row: Box<Leased<Cluster>>,
        conclusion: Conclusion,
        changes: &[StepChange],
        began: Instant,
    ) -> Result<Next, DatabaseError> {
        let failed =
            matches!(&conclusion, Conclusion::Record(status) if status.actual == Actual::Failed);
        let result = if failed {
            ActionResult::Failure
        } else {
            ActionResult::Success
        };
        let seconds = began.elapsed().as_secs_f64();
        self.metrics.actions.ended(action, result, began.elapsed());
        let action = action.as_str();
        match conclusion {
            Conclusion::Remove => {
                info!(action, seconds, "verified gone");
                self.remove(pass, &row).await
            }
            Conclusion::Record(status) => {
                // Not `message`: that is the line's own.
                let (reason, because) = (status.reason.as_str(), &status.message);
                if failed {
                    warn!(action, seconds, reason, because, "action failed");
                } else {
                    info!(action, seconds, reason, because, "action succeeded");
                }
                self.write(pass, &row, status, changes).await
            }
        }
    }
}

/// Whether what was seen after a successful action may still turn into what is
/// declared by itself.
fn may_settle(action: Action, observed: &Observation) -> bool {
    match (action, observed) {
        (_, Observation::Unknown(_)) => true,
        (Action::Create | Action::Update | Action::Start, Observation::Present(seen)) => {
            *seen != Condition::Healthy
        }
        (Action::Create | Action::Update | Action::Start, Observation::Absent) => false,
        (Action::Stop, seen) => seen.is_healthy(),
        // What still answers was not deleted; a remnant may be on its way out.
        (Action::Delete, Observation::Present(seen)) => *seen != Condition::Healthy,
        (Action::Delete, Observation::Absent) => false,
    }
}
