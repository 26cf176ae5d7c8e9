//! One pass over one cluster: claim, observe, plan, act, verify, write.
//!
//! This is where the pure decisions of [`crate::clusters::plan`] meet the edges.
//! Every write and every spawn goes through the fence of one claim; a change of
//! desire is seen while a command runs; nothing is concluded from a command that was
//! cut short. It must not decide anything by itself.
//!
//! ```text
//! claim ──> plan ──> Observe ─> plan ──> Record / Act / Remove ──> plan ... Rest ──> release
//!                                          │
//!                      first look at the steps, intent and first start written, lease
//!                      renewed (the fence before the effect), steps run while the lease is
//!                      kept, observe, conclude, result and last end written
//! ```

mod act;
mod caution;
mod maintain;
mod pass;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Span, debug, info, info_span, warn};

use crate::clusters::event::Reason;
use crate::clusters::observation::Observation;
use crate::clusters::plan::steps::{
    StepsOf, before_removal, cut_short, left_to_another_driver, of_another_driver, with_steps,
};
use crate::clusters::plan::{Action, Decision, Moment, Policy, Status, plan};
use crate::clusters::{Actual, Cluster, Desired};
use crate::core::controller::Finished;
use crate::core::database::{DatabaseError, Undecodable};
use crate::core::lease::{LeasePolicy, Term};
use crate::core::resource::{Resource, ResourceReconciler};
use crate::core::rows::{Leased, Written};
use crate::core::steps::{StepChange, StepFacts};
use crate::core::work::Work;
use crate::drivers::{Driver, Order};
use crate::metrics::{Drift, Metrics};
use crate::store::{ClusterStatus, Store};

use pass::{Pass, rest};

pub use caution::Caution;

/// More decisions than this in one pass mean that a plan does not come to rest:
/// the pass ends and the row is looked at again later. The longest path that a
/// cluster takes (finish a delete, create, apply) has six.
const DECISIONS_PER_PASS: usize = 12;

/// The name of this controller, in metrics.
pub const CONTROLLER: &str = "cluster";

/// Between two looks whether work may begin again.
const STANDBY: Duration = Duration::from_secs(5);

/// Reconciles the rows of `clusters` with the clusters of this host.
pub struct ClusterReconciler {
    /// The rows.
    pub store: Store,
    /// The clusters.
    pub driver: Arc<dyn Driver>,
    /// The numbers that plans depend on.
    pub policy: Policy,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What was logged of actions that are deferred.
    pub caution: Caution,
    /// Why nothing new is begun: a later release owns the schema.
    pub standby: watch::Receiver<Option<String>>,
}

/// How one decision of a pass ended.
enum Next {
    /// The row as it is now: plan again.
    Plan(Box<Leased<Cluster>>),
    /// The pass is over.
    End(Finished),
}

impl ClusterReconciler {
    /// What a controller runs: this reconciler, for `owner`, which is unique to this
    /// start of this process, with claims that last as long as `lease` says.
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

    /// What runs is finished and written; nothing new begins.
    fn on_standby(&self) -> bool {
        self.standby.borrow().is_some()
    }

    fn span(&self, key: &str, term: Term) -> Span {
        // Not `name`: a JSON line has the span's own name under that key.
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
        let pass = Pass::new(work);
        Span::current().record("attempt", row.object.failed_attempts + 1);
        let ended = self.decide_and_do(&pass, Box::new(row)).await;
        pass.complete();
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
    async fn decide_and_do(
        &self,
        pass: &Pass<'_>,
        mut row: Box<Leased<Cluster>>,
    ) -> Result<Finished, DatabaseError> {
        for _ in 0..DECISIONS_PER_PASS {
            if self.on_standby() {
                return Ok(Finished::Waiting(STANDBY));
            }
            match self.decide_once(pass, row).await? {
                Next::Plan(now) => row = now,
                Next::End(finished) => return Ok(finished),
            }
        }
        warn!("the plan does not come to rest; looking again later");
        Ok(Finished::Waiting(self.policy.look_again))
    }

    async fn decide_once(
        &self,
        pass: &Pass<'_>,
        row: Box<Leased<Cluster>>,
    ) -> Result<Next, DatabaseError> {
        let cluster = &row.object;
        let mut decision = plan(cluster, None, &self.policy, moment(&row));
        let mut seen = None;
        if let Some(why) = of_another_driver(self.driver.name(), &pass.work.steps()) {
            decision = self.keep_off(&row, decision, why);
        } else if let Decision::Observe { why } = decision {
            let (observed, cut) = pass.look(&*self.driver, cluster).await;
            if let Some(cut) = cut {
                return Ok(Pass::end(cut));
            }
            debug!(why, observed = %observed, "observed");
            decision = plan(cluster, Some(&observed), &self.policy, moment(&row));
            decision = match self.weigh_repair(pass, &row, &observed, decision).await? {
                Ok(decision) => decision,
                Err(cut) => return Ok(Pass::end(cut)),
            };
            seen = Some(observed);
        }
        let decision = self.before_removal(pass, &row, decision);
        pass.note_decision(decision.as_str());
        match decision {
            Decision::Rest { until } => Ok(Next::End(rest(&row, until))),
            Decision::Observe { .. } => {
                unreachable!("a plan with an observation never asks for one")
            }
            Decision::Record(status) => self.record(pass, row, status, seen).await,
            Decision::Remove => self.remove(pass, &row).await,
            Decision::Act { action, intent } => self.act(pass, action, intent, row).await,
        }
    }

    /// The decision about a cluster of another driver: what this one does not see is
    /// unknown and not absent, and nothing is done to it.
    fn keep_off(&self, row: &Leased<Cluster>, decision: Decision, why: String) -> Decision {
        let (cluster, policy, moment) = (&row.object, &self.policy, moment(row));
        let unknown = || Observation::unknown(why.clone());
        let decision = match decision {
            Decision::Observe { .. } => plan(cluster, Some(&unknown()), policy, moment),
            decision => decision,
        };
        match decision {
            Decision::Act { .. } => {
                Decision::Record(left_to_another_driver(cluster, why, policy, moment))
            }
            decision => decision,
        }
    }

    /// Writes what was found; looks after the steps of a cluster that is well.
    async fn record(
        &self,
        pass: &Pass<'_>,
        row: Box<Leased<Cluster>>,
        status: Status,
        seen: Option<Observation>,
    ) -> Result<Next, DatabaseError> {
        let well = seen.as_ref().is_some_and(Observation::is_healthy)
            && status.actual == Actual::Running
            && row.object.spec_applied
            && !row.object.hands_off();
        if well {
            return self.maintain(pass, row, status).await;
        }
        let lost = found_lost(&row.object, &status);
        let drift = seen.as_ref().filter(|_| lost).and_then(Drift::of);
        let next = self.write(pass, &row, status.clone(), &[]).await;
        if let (Ok(Next::Plan(now)), Some(drift)) = (&next, drift)
            && now.object.actual == status.actual
        {
            self.metrics.actions.drifted(drift);
        }
        next
    }

    /// Lets a row go only when nothing of its steps is left.
    fn before_removal(
        &self,
        pass: &Pass<'_>,
        row: &Leased<Cluster>,
        decision: Decision,
    ) -> Decision {
        if decision != Decision::Remove {
            return decision;
        }
        let (facts, records) = (self.facts(pass, &row.object), pass.work.steps());
        let steps = StepsOf {
            driver: self.driver.name(),
            facts: &facts,
            records: &records,
        };
        before_removal(&row.object, decision, steps, &self.policy, moment(row))
    }

    /// What decisions need to know of the steps of a cluster.
    fn facts(&self, pass: &Pass<'_>, cluster: &Cluster) -> Vec<StepFacts> {
        let cancel = CancellationToken::new();
        let order = Self::order(pass, cluster, &cancel);
        let set = self.driver.steps(Action::Delete, &order);
        set.map(|set| set.facts()).unwrap_or_default()
    }

    fn order<'a>(
        pass: &Pass<'_>,
        cluster: &'a Cluster,
        cancel: &'a CancellationToken,
    ) -> Order<'a> {
        Order {
            cluster,
            term: pass.work.lease().term,
            trust: pass.work.trust(),
            cancel,
        }
    }

    /// Writes a status, with the condition that failed steps are, and the step changes
    /// that belong to it.
    async fn write(
        &self,
        pass: &Pass<'_>,
        row: &Leased<Cluster>,
        status: Status,
        changes: &[StepChange],
    ) -> Result<Next, DatabaseError> {
        let mut records = pass.work.steps();
        for change in changes {
            change.apply_to(&mut records, row.now());
        }
        let facts = self.facts(pass, &row.object);
        let steps = StepsOf {
            driver: self.driver.name(),
            facts: &facts,
            records: &records,
        };
        let cut_short = cut_short(&row.object, &status, steps);
        let changes = [changes, &cut_short].concat();
        let status = with_steps(status, steps, row.now());
        let written = ClusterStatus::new(&status, &row.object.spec_hash);
        match pass.work.write(row, &written, &changes).await? {
            Written::Yes(now) => {
                pass.note_reason(status.reason);
                if reached_running(&row.object, &now.object) {
                    self.time_to_ready(&now.object).await;
                }
                Ok(Next::Plan(now))
            }
            Written::Lost => pass.reload().await,
        }
    }

    /// Counts how long the declaration took; a number less is no reason to fail.
    async fn time_to_ready(&self, cluster: &Cluster) {
        let since = self
            .store
            .time_since_declared(&cluster.name, cluster.generation);
        match since.await {
            Ok(Some(since)) => self.metrics.actions.ready(since),
            Ok(None) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                debug!(error, "how long the declaration took is not known");
            }
        }
    }

    async fn remove(&self, pass: &Pass<'_>, row: &Leased<Cluster>) -> Result<Next, DatabaseError> {
        if pass.work.remove(row).await? {
            info!("row removed");
            return Ok(Next::End(Finished::Settled(None)));
        }
        pass.reload().await
    }
}

/// This moment by the database's clock, with jitter. Not the moment at which the
/// row was read: a command of many minutes may lie between, and the wait after a
/// failure counts from its end.
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

/// Whether a write brought a generation to running, for the first time.
fn reached_running(before: &Cluster, now: &Cluster) -> bool {
    now.actual == Actual::Running
        && now.desired == Desired::Present
        && now.observed_generation == now.generation
        && before.observed_generation != now.generation
}
