//! Reconciles one cluster: claim, observe, plan, act, verify, write.
//!
//! It carries out the pure decisions of [`crate::clusters::plan`] and decides nothing itself.
//! Every write passes the fence, and the lease is renewed before every effect. A changed
//! desired state interrupts a running command; nothing is concluded from an interrupted one.
//!
//! ```text
//! claim ──> plan ──> Observe ─> plan ──> Record / Act / Remove ──> plan ... Rest ──> release
//!                                          │
//!                      observe the steps, write intent and first start, renew the lease,
//!                      run the steps while the lease is renewed further, observe,
//!                      conclude, write result and last end
//! ```

mod act;
mod changed;
mod context;
mod limits;
mod made_by;
mod maintain;
mod unwritten;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Span, debug, info, info_span, warn};

use crate::clusters::event::Reason;
use crate::clusters::observation::Observation;
use crate::clusters::plan::steps::{StepsOf, before_removal, interrupted_steps, with_steps};
use crate::clusters::plan::{
    Action, Decision, Moment, Policy, Status, counts_on_spec, needs_recreation, plan, wait_for_host,
};
use crate::clusters::{Actual, Cluster, Desired};
use crate::core::backoff::Backoff;
use crate::core::controller::Finished;
use crate::core::database::{DatabaseError, Undecodable};
use crate::core::lease::{LeasePolicy, Term};
use crate::core::resource::{Resource, ResourceReconciler, STANDBY};
use crate::core::rows::{Leased, Written};
use crate::core::steps::{StepChange, StepFacts};
use crate::core::work::Work;
use crate::drivers::{ActionRequest, Driver, HostFault};
use crate::metrics::{Drift, Metrics};
use crate::store::{ClusterStatus, Store};

use context::{ReconcileContext, rest};

pub use limits::SafetyLimits;
pub use unwritten::UnwrittenResults;

/// After more decisions than this in one reconcile the plan does not settle: the reconcile
/// ends and the row is reconciled again later. The longest regular sequence (complete a
/// delete, create, apply) has six.
const MAX_DECISIONS: usize = 12;

/// The name of this controller in metrics.
pub const CONTROLLER: &str = "cluster";

/// Reconciles the rows of `clusters` with the clusters of this host.
pub struct ClusterReconciler {
    /// The database.
    pub store: Store,
    /// The driver of the clusters.
    pub driver: Arc<dyn Driver>,
    /// The policy of the plan.
    pub policy: Policy,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The safety limits.
    pub limits: Arc<SafetyLimits>,
    /// The results that could not be written yet.
    pub unwritten: UnwrittenResults,
    /// Why this replica is on standby, if it is: the schema is of a later release.
    pub standby: watch::Receiver<Option<String>>,
}

/// What follows a decision.
enum Next {
    /// Plan again with this row.
    Plan(Box<Leased<Cluster>>),
    /// The reconcile ends.
    End(Finished),
}

impl ClusterReconciler {
    /// The reconciler for a controller: claims belong to `owner`, which is unique for each
    /// start of a process, and their leases last as `lease` says.
    pub fn owned_by(self, owner: &str, lease: LeasePolicy) -> ResourceReconciler<Self> {
        let metrics = self.metrics.controller(CONTROLLER);
        metrics
            .steps
            .expect(self.driver.name(), self.driver.step_names());
        ResourceReconciler {
            rows: self.store.claims().clone(),
            owner: owner.into(),
            lease,
            metrics,
            resource: self,
        }
    }
}

#[async_trait]
impl Resource for ClusterReconciler {
    type Object = Cluster;

    fn name(&self) -> &'static str {
        CONTROLLER
    }

    fn backoff(&self) -> Backoff {
        self.policy.backoff
    }

    fn on_standby(&self) -> bool {
        self.standby.borrow().is_some()
    }

    fn span(&self, key: &str, term: Term) -> Span {
        // Not `name`: JSON lines have the name of the span under that key.
        info_span!(
            "reconcile",
            cluster = key,
            term = term.0,
            attempt = Empty,
            step = Empty,
            reason = Empty,
            seconds = Empty,
        )
    }

    async fn reconcile(
        &self,
        row: Leased<Cluster>,
        work: &Work<Self>,
    ) -> Result<Finished, DatabaseError> {
        let context = ReconcileContext::new(work);
        Span::current().record("attempt", row.object.failed_attempts + 1);
        let ended = self.run_decisions(&context, Box::new(row)).await;
        context.complete();
        ended
    }

    fn unreadable(&self, _: &Undecodable) {
        Span::current().record("step", "record");
        Span::current().record("reason", Reason::RowInvalid.as_str());
    }

    fn unreadable_retry(&self) -> Duration {
        self.policy.backoff.longest(fastrand::f64())
    }
}

impl ClusterReconciler {
    async fn run_decisions(
        &self,
        context: &ReconcileContext<'_>,
        mut row: Box<Leased<Cluster>>,
    ) -> Result<Finished, DatabaseError> {
        for _ in 0..MAX_DECISIONS {
            if self.on_standby() {
                return Ok(Finished::Waiting(STANDBY));
            }
            match self.decide_once(context, row).await? {
                Next::Plan(now) => row = now,
                Next::End(finished) => return Ok(finished),
            }
        }
        warn!("the plan does not settle; reconciling again later");
        Ok(Finished::Waiting(self.policy.observe_retry))
    }

    async fn decide_once(
        &self,
        context: &ReconcileContext<'_>,
        row: Box<Leased<Cluster>>,
    ) -> Result<Next, DatabaseError> {
        let cluster = &row.object;
        if !cluster.observe_only()
            && let Some(ended) = self.unwritten.of(&row)
        {
            context.note_decision(ended.action.as_str());
            return self.conclude_action(context, row, ended).await;
        }
        let mut decision = plan(cluster, None, &self.policy, moment(&row));
        let mut observation = None;
        if let Some(why) = self.of_another_driver(context, cluster) {
            decision = self.leave_to_another_driver(&row, decision, why);
        } else if let Decision::Observe { why } = decision {
            let (observed, cancelled) = context.observe(&*self.driver, cluster).await;
            if let Some(cancelled) = cancelled {
                return Ok(ReconcileContext::end(cancelled));
            }
            debug!(why, observed = %observed, "observed");
            decision = plan(cluster, Some(&observed), &self.policy, moment(&row));
            decision = match self
                .limit_repair(context, &row, &observed, decision)
                .await?
            {
                Ok(decision) => decision,
                Err(cancelled) => return Ok(ReconcileContext::end(cancelled)),
            };
            observation = Some(observed);
        }
        if counts_on_spec(cluster, &decision)
            && let Some(why) = self.driver.recreation(cluster).await
        {
            let observed = match observation.take() {
                Some(observed) => observed,
                None => match context.observe(&*self.driver, cluster).await {
                    (observed, None) => observed,
                    (_, Some(cancelled)) => return Ok(ReconcileContext::end(cancelled)),
                },
            };
            let (policy, now) = (&self.policy, moment(&row));
            if let Some(status) = needs_recreation(cluster, &observed, &why, policy, now) {
                decision = Decision::Record(status);
            }
            observation = Some(observed);
        }
        let decision = self.before_removal(context, &row, decision);
        let decision = self.wait_for_host(&row, decision).await;
        context.note_decision(decision.as_str());
        match decision {
            Decision::Rest { until } => Ok(Next::End(rest(&row, until))),
            Decision::Observe { .. } => {
                unreachable!("a plan with an observation never asks for one")
            }
            Decision::Record(status) => self.record(context, row, status, observation).await,
            Decision::Remove => self.remove(context, &row).await,
            Decision::Act { action, intent } => self.act(context, action, intent, row).await,
        }
    }

    /// An action that this host cannot run now waits; so does the look before the first one.
    async fn wait_for_host(&self, row: &Leased<Cluster>, decision: Decision) -> Decision {
        let action = match &decision {
            Decision::Act { action, .. } => *action,
            Decision::Record(status)
                if status.reason == Reason::ObservationFailed
                    && row.object.desired == Desired::Present
                    && !row.object.owns_a_cluster() =>
            {
                Action::Create
            }
            _ => return decision,
        };
        match self.driver.host_fault(action, &row.object).await {
            Some(HostFault { what, next, .. }) => {
                let why = (what.as_str(), next.as_str());
                Decision::Record(wait_for_host(&row.object, why, &self.policy, moment(row)))
            }
            None => decision,
        }
    }

    /// Writes a status; maintains the steps of a healthy cluster first.
    async fn record(
        &self,
        context: &ReconcileContext<'_>,
        row: Box<Leased<Cluster>>,
        status: Status,
        observation: Option<Observation>,
    ) -> Result<Next, DatabaseError> {
        let healthy = observation.as_ref().is_some_and(Observation::is_healthy)
            && status.actual == Actual::Running
            && status.reason != Reason::NeedsRecreation
            && row.object.spec_applied
            && !row.object.observe_only();
        if healthy {
            return self.maintain(context, row, status).await;
        }
        let lost = found_lost(&row.object, &status);
        let drift = observation.as_ref().filter(|_| lost).and_then(Drift::of);
        if status.reason == Reason::ObservationFailed
            && !row.object.has_reason(Reason::ObservationFailed)
        {
            let because = &status.message;
            warn!(because, "the cluster cannot be observed");
        }
        let next = self.write(context, &row, status.clone(), &[]).await;
        if let Ok(Next::Plan(now)) = &next
            && lost
            && now.object.actual == status.actual
        {
            let (reason, because) = (status.reason.as_str(), &status.message);
            warn!(reason, because, "the cluster is lost; repairing it");
            if let Some(drift) = drift {
                self.metrics.actions.drifted(drift);
            }
        }
        next
    }

    /// Removes a row only when nothing of its steps is left.
    fn before_removal(
        &self,
        context: &ReconcileContext<'_>,
        row: &Leased<Cluster>,
        decision: Decision,
    ) -> Decision {
        if decision != Decision::Remove {
            return decision;
        }
        let (facts, records) = (self.facts(context, &row.object), context.work.steps());
        let steps = StepsOf {
            driver: self.driver.name(),
            facts: &facts,
            records: &records,
        };
        before_removal(&row.object, decision, steps, &self.policy, moment(row))
    }

    /// What to write of steps whose attempt was interrupted, now that none runs.
    fn interrupted_changes(
        &self,
        context: &ReconcileContext<'_>,
        cluster: &Cluster,
    ) -> Vec<StepChange> {
        let (facts, records) = (self.facts(context, cluster), context.work.steps());
        interrupted_steps(StepsOf {
            driver: self.driver.name(),
            facts: &facts,
            records: &records,
        })
    }

    /// The facts of the steps of a cluster, for decisions.
    fn facts(&self, context: &ReconcileContext<'_>, cluster: &Cluster) -> Vec<StepFacts> {
        let cancel = CancellationToken::new();
        let request = Self::request(context, cluster, &cancel);
        let set = self.driver.steps(Action::Delete, &request);
        set.map(|set| set.facts()).unwrap_or_default()
    }

    fn request<'a>(
        context: &ReconcileContext<'_>,
        cluster: &'a Cluster,
        cancel: &'a CancellationToken,
    ) -> ActionRequest<'a> {
        ActionRequest {
            cluster,
            term: context.work.lease().term,
            trust: context.work.trust(),
            cancel,
        }
    }

    /// Writes a status, which mentions failed steps, and its step changes.
    async fn write(
        &self,
        context: &ReconcileContext<'_>,
        row: &Leased<Cluster>,
        status: Status,
        changes: &[StepChange],
    ) -> Result<Next, DatabaseError> {
        let (status, written, changes) = self.prepared(context, row, status, changes);
        let answer = context.work.write(row, &written, &changes).await?;
        match self.after_write(context, row, &status, answer).await {
            Some(next) => Ok(next),
            None => context.reload().await,
        }
    }

    /// As [`ClusterReconciler::write`], for the result of an effect, which is written again
    /// while an error may pass.
    async fn write_result(
        &self,
        context: &ReconcileContext<'_>,
        row: &Leased<Cluster>,
        status: Status,
        changes: &[StepChange],
    ) -> Result<Next, DatabaseError> {
        let written = self.try_write_result(context, row, status, changes);
        match written.await? {
            Some(next) => Ok(next),
            None => context.reload().await,
        }
    }

    /// The same; `None` if the row, or the lease, is no longer that of the decision.
    async fn try_write_result(
        &self,
        context: &ReconcileContext<'_>,
        row: &Leased<Cluster>,
        status: Status,
        changes: &[StepChange],
    ) -> Result<Option<Next>, DatabaseError> {
        let (status, written, changes) = self.prepared(context, row, status, changes);
        let answer = context.work.write_result(row, &written, &changes).await?;
        Ok(self.after_write(context, row, &status, answer).await)
    }

    /// The status with its failed steps, also as it is written, and all step changes.
    fn prepared(
        &self,
        context: &ReconcileContext<'_>,
        row: &Leased<Cluster>,
        status: Status,
        changes: &[StepChange],
    ) -> (Status, ClusterStatus, Vec<StepChange>) {
        let mut records = context.work.steps();
        for change in changes {
            change.apply_to(&mut records, row.now());
        }
        let facts = self.facts(context, &row.object);
        let steps = StepsOf {
            driver: self.driver.name(),
            facts: &facts,
            records: &records,
        };
        let interrupted = interrupted_steps(steps);
        let changes = [changes, &interrupted].concat();
        let status = with_steps(status, steps, row.now());
        let written = self
            .written(&row.object, &status)
            .with_server_ip(self.driver.server_ip(&row.object));
        (status, written, changes)
    }

    /// What follows a write; `None` if it was lost.
    async fn after_write(
        &self,
        context: &ReconcileContext<'_>,
        row: &Leased<Cluster>,
        status: &Status,
        answer: Written<Cluster>,
    ) -> Option<Next> {
        match answer {
            Written::Yes(now) => {
                context.note_reason(status.reason);
                if reached_running(&row.object, &now.object) {
                    self.time_to_ready(&now.object).await;
                }
                Some(Next::Plan(now))
            }
            Written::Lost => None,
        }
    }

    /// Observes the time from the declaration until the cluster is ready. An error does not
    /// fail the reconcile.
    async fn time_to_ready(&self, cluster: &Cluster) {
        let since = self
            .store
            .time_since_declared(&cluster.name, cluster.generation);
        match since.await {
            Ok(Some(since)) => self.metrics.actions.ready(since),
            Ok(None) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                debug!(error, "time of the declaration cannot be read");
            }
        }
    }

    async fn remove(
        &self,
        context: &ReconcileContext<'_>,
        row: &Leased<Cluster>,
    ) -> Result<Next, DatabaseError> {
        if context.work.remove(row).await? {
            info!("row removed");
            return Ok(Next::End(Finished::Settled(None)));
        }
        context.reload().await
    }
}

/// The current time by the database's clock, and jitter. Not the time at which the row was
/// read: a command may have run for minutes since, and the delay after a failure counts
/// from its end.
fn moment(row: &Leased<Cluster>) -> Moment {
    Moment {
        now: row.now(),
        jitter: fastrand::f64(),
    }
}

/// Whether a status records that a running cluster was lost.
fn found_lost(cluster: &Cluster, status: &Status) -> bool {
    let runs = cluster.desired == Desired::Present && cluster.actual == Actual::Running;
    runs && status.actual == Actual::Failed
}

/// Whether a write records a generation as running for the first time.
fn reached_running(before: &Cluster, now: &Cluster) -> bool {
    now.actual == Actual::Running
        && now.desired == Desired::Present
        && now.observed_generation == now.generation
        && before.observed_generation != now.generation
}
