//! One pass over one cluster: claim, observe, plan, act, verify, write.
//!
//! This is where the pure decisions of [`crate::clusters::plan`] meet the edges. Every
//! write and every spawn goes through the fence of one claim; a change of
//! desire is heard while a command runs; nothing is concluded from a command
//! that was cut short. It must not decide anything by itself.
//!
//! ```text
//! claim ──> plan ──> Observe ─> plan ──> Record / Act / Remove ──> plan ... Rest ──> release
//!                                          │
//!                      intent written, lease renewed (the fence before the spawn),
//!                      driver acts while the lease is kept, observe, conclude, write
//! ```

mod caution;
mod held;
mod unreadable;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, Span, debug, info, info_span, warn};

use crate::clusters::observation::{Condition, Observation};
use crate::clusters::plan::{
    Action, Conclusion, Moment, Outcome, Policy, Status, Step, conclude, plan,
};
use crate::clusters::{Actual, Cluster, Desired};
use crate::command::MonotonicDeadline;
use crate::core::controller::{Finished, Reconciler, Turn};
use crate::core::database::DatabaseError;
use crate::core::lease::LeasePolicy;
use crate::drivers::{Driver, DriverError, Order};
use crate::metrics::{ActionResult, Drift, Metrics};
use crate::store::{Claim, Claimed, HeldRow, Store, Written};

use held::{Cut, Held};

pub use caution::Caution;

/// More steps than this in one turn mean that a plan does not come to rest:
/// the turn ends and the row is looked at again later. The longest path that a
/// cluster takes (finish a delete, create, apply) has six.
const STEPS_PER_TURN: usize = 12;

/// The name of this controller, in metrics.
pub const CONTROLLER: &str = "cluster";

/// Between two looks whether work may begin again.
const STAND_ASIDE: Duration = Duration::from_secs(5);

/// How long a cluster may take to answer after its command succeeded.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks in that time.
const SETTLE_EVERY: Duration = Duration::from_millis(500);

/// Reconciles the rows of `clusters` with the clusters of this host.
pub struct ClusterReconciler {
    /// The rows.
    pub store: Store,
    /// The clusters.
    pub driver: Arc<dyn Driver>,
    /// The numbers that plans depend on.
    pub policy: Policy,
    /// How long a claim lasts.
    pub lease: LeasePolicy,
    /// Who claims: unique to this start of this process.
    pub owner: String,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What was told of steps that are held back.
    pub caution: Caution,
    /// Why nothing new is begun: a later release owns the schema.
    pub stand_aside: watch::Receiver<Option<String>>,
}

/// How one step of a turn ended.
enum Next {
    /// The row as it is now: plan again.
    Plan(Box<HeldRow>),
    /// The turn is over.
    End(Finished),
}

#[async_trait]
impl Reconciler for ClusterReconciler {
    type Error = DatabaseError;

    fn name(&self) -> &'static str {
        CONTROLLER
    }

    fn is_outage(&self, error: &DatabaseError) -> bool {
        error.is_unreachable()
    }

    async fn due(
        &self,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(String, Duration)>, DatabaseError> {
        if self.stands_aside() {
            return Ok(Vec::new());
        }
        self.store.due(horizon, limit).await
    }

    async fn reconcile(&self, key: &str, turn: &Turn) -> Result<Finished, DatabaseError> {
        if self.stands_aside() {
            return Ok(Finished::Waiting(STAND_ASIDE));
        }
        // Trust counts from before the request that wins the lease.
        let trust = MonotonicDeadline::in_(self.lease.trusted_for());
        let claimed = match self.store.claim(key, &self.owner, self.lease.ttl).await? {
            Claim::Won(claimed) => claimed,
            Claim::NoSuchRow | Claim::NotSelected => return Ok(Finished::Settled(None)),
            Claim::NotDue { due_in } => return Ok(Finished::Settled(due_in)),
            Claim::Busy { expires_in } => {
                return Ok(Finished::Waiting(expires_in + Duration::from_millis(100)));
            }
        };
        let term = claimed.term;
        // Not `name`: a JSON line has the span's own name under that key.
        let span = info_span!(
            "reconcile",
            cluster = key,
            term = term.0,
            attempt = Empty,
            step = Empty,
            reason = Empty,
            seconds = Empty,
        );
        let began = Instant::now();
        async {
            debug!("claimed");
            let _counted = self.metrics.controller(CONTROLLER).leases.hold();
            let held = Held::new(self, key, term, trust);
            let ended = self.work(&held, claimed, turn).await;
            held.tell(began.elapsed());
            if let Err(error) = self.store.release(key, term).await {
                // It ends with its lifetime, and nothing runs under it.
                warn!(
                    error = &error as &dyn std::error::Error,
                    "lease could not be released"
                );
            }
            ended
        }
        .instrument(span)
        .await
    }
}

impl ClusterReconciler {
    /// What runs is finished and written; nothing new begins.
    fn stands_aside(&self) -> bool {
        self.stand_aside.borrow().is_some()
    }

    async fn work(
        &self,
        held: &Held<'_>,
        claimed: Box<Claimed>,
        turn: &Turn,
    ) -> Result<Finished, DatabaseError> {
        let mut row = match &claimed.row {
            Ok(row) => {
                let attempt = row.cluster.failed_attempts + 1;
                Span::current().record("attempt", attempt);
                Box::new(row.clone())
            }
            Err(_) => return self.show_unreadable(held, &claimed).await,
        };
        for _ in 0..STEPS_PER_TURN {
            if self.stands_aside() {
                return Ok(Finished::Waiting(STAND_ASIDE));
            }
            match self.step(held, row, turn).await? {
                Next::Plan(now) => row = now,
                Next::End(finished) => return Ok(finished),
            }
        }
        warn!("the plan does not come to rest; looking again later");
        Ok(Finished::Waiting(self.policy.look_again))
    }

    async fn step(
        &self,
        held: &Held<'_>,
        row: Box<HeldRow>,
        turn: &Turn,
    ) -> Result<Next, DatabaseError> {
        let mut step = plan(&row.cluster, None, &self.policy, moment(&row));
        let mut drift = None;
        if let Step::Observe { why } = step {
            let (observed, cut) = held.look(&row.cluster, turn).await;
            if let Some(cut) = cut {
                return Ok(Next::End(cut.finished()));
            }
            debug!(why, observed = %observed, "observed");
            step = plan(&row.cluster, Some(&observed), &self.policy, moment(&row));
            step = match self.weigh_repair(held, &row, &observed, step, turn).await? {
                Ok(step) => step,
                Err(cut) => return Ok(Next::End(cut.finished())),
            };
            drift = found_lost(&row.cluster, &step).then(|| Drift::seen(&observed));
        }
        held.note_step(step.as_str());
        match step {
            Step::Rest { until } => Ok(Next::End(rest(&row, until))),
            Step::Observe { .. } => unreachable!("a plan with an observation never asks for one"),
            Step::Record(status) => {
                let next = self.write(held, &row, &status).await;
                if let (Ok(Next::Plan(now)), Some(drift)) = (&next, drift.flatten())
                    && now.cluster.actual == status.actual
                {
                    self.metrics.actions.drifted(drift);
                }
                next
            }
            Step::Remove => self.remove(held, &row).await,
            Step::Act { action, intent } => {
                // One that was interrupted goes on: it was counted when it began.
                let begins = action == Action::Delete && row.cluster.actual != Actual::Deleting;
                let written = if begins {
                    self.begin_deletion(held, &row, intent).await?
                } else {
                    self.store.write_status(&row, held.term, &intent).await?
                };
                match written {
                    Written::Yes(row) if row.cluster.actual == action.intent() => {
                        self.act(held, action, row, turn).await
                    }
                    Written::Yes(row) => Ok(Next::Plan(row)),
                    Written::Lost => held.reload().await,
                }
            }
        }
    }

    /// Does an action whose intent is in the row, and writes what came of it.
    async fn act(
        &self,
        held: &Held<'_>,
        action: Action,
        row: Box<HeldRow>,
        turn: &Turn,
    ) -> Result<Next, DatabaseError> {
        // The fence, immediately before the effect. A row that changed since
        // the intent, or is only to be looked at by now, is planned again instead.
        let row = match held.renew().await? {
            Some(now)
                if now.cluster.generation == row.cluster.generation && !now.cluster.hands_off() =>
            {
                now
            }
            Some(now) => return Ok(Next::Plan(Box::new(now))),
            None => return Ok(Next::End(Cut::LeaseLost.finished())),
        };
        self.caution.works_on(held.key);
        let began = Instant::now();
        info!(
            action = action.as_str(),
            attempt = row.cluster.failed_attempts + 1,
            "acting"
        );
        let outcome = match self.drive(held, action, &row.cluster, turn).await {
            Ok(outcome) => outcome,
            Err(cut) => {
                let actions = &self.metrics.actions;
                actions.ended(action, ActionResult::Interrupted, began.elapsed());
                info!(action = action.as_str(), cut = ?cut, "action was cut short");
                return match cut {
                    Cut::Desire(_) => held.reload().await,
                    Cut::LeaseLost | Cut::Stopping => Ok(Next::End(cut.finished())),
                };
            }
        };
        let (observed, cut) = self
            .verify(held, action, &outcome, &row.cluster, turn)
            .await;
        if let Some(cut @ (Cut::LeaseLost | Cut::Stopping)) = cut {
            return Ok(Next::End(cut.finished()));
        }
        let conclusion = conclude(
            &row.cluster,
            action,
            &outcome,
            &observed,
            &self.policy,
            moment(&row),
        );
        let failed =
            matches!(&conclusion, Conclusion::Record(status) if status.actual == Actual::Failed);
        let result = if failed {
            ActionResult::Failure
        } else {
            ActionResult::Success
        };
        let seconds = began.elapsed().as_secs_f64();
        self.metrics.actions.ended(action, result, began.elapsed());
        match conclusion {
            Conclusion::Remove => {
                info!(action = action.as_str(), seconds, "verified gone");
                self.remove(held, &row).await
            }
            Conclusion::Record(status) => {
                // Not `message`: that is the line's own.
                let (reason, because) = (status.reason.as_str(), &status.message);
                if failed {
                    warn!(
                        action = action.as_str(),
                        seconds, reason, because, "action failed"
                    );
                } else {
                    info!(
                        action = action.as_str(),
                        seconds, reason, because, "action succeeded"
                    );
                }
                self.write(held, &row, &status).await
            }
        }
    }

    /// Lets the driver act while the lease is kept, unless that is cut short.
    async fn drive(
        &self,
        held: &Held<'_>,
        action: Action,
        cluster: &Cluster,
        turn: &Turn,
    ) -> Result<Outcome, Cut> {
        let cancel = CancellationToken::new();
        let order = Order {
            cluster,
            term: held.term,
            trust: held.trust(),
            cancel: &cancel,
        };
        let driven = self.driver.act(action, &order);
        let (ended, cut) = held.keep_during(Some(action), turn, &cancel, driven).await;
        match ended {
            Ok(()) => Ok(Outcome::Succeeded),
            // When nobody here cut it short, the guard did: it saw the trust
            // end before this process, which may have been stopped, could.
            Err(error) => {
                self.count_kind(&error);
                match error.into_failure() {
                    Some(failure) => Ok(Outcome::Failed(failure)),
                    None => Err(cut.unwrap_or_else(|| held.lost())),
                }
            }
        }
    }

    fn count_kind(&self, error: &DriverError) {
        let controller = self.metrics.controller(CONTROLLER);
        match error {
            DriverError::Late { .. } => controller.reconcile_timeouts_total.inc(),
            DriverError::Permanent { .. } => controller.terminal_errors_total.inc(),
            DriverError::Transient { .. } | DriverError::Interrupted => {}
        }
    }

    /// Looks at what an action left, while the lease is kept; a cluster that
    /// was just made may take a moment to answer.
    async fn verify(
        &self,
        held: &Held<'_>,
        action: Action,
        outcome: &Outcome,
        cluster: &Cluster,
        turn: &Turn,
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
        held.look_with(turn, settle).await
    }

    async fn write(
        &self,
        held: &Held<'_>,
        row: &HeldRow,
        status: &Status,
    ) -> Result<Next, DatabaseError> {
        match self.store.write_status(row, held.term, status).await? {
            Written::Yes(now) => {
                held.note_reason(status.reason);
                if reached_running(&row.cluster, &now.cluster) {
                    self.time_to_ready(&now.cluster).await;
                }
                Ok(Next::Plan(now))
            }
            Written::Lost => held.reload().await,
        }
    }

    /// Tells how long the wish took; a number less is no reason to fail.
    async fn time_to_ready(&self, cluster: &Cluster) {
        let since = self.store.declared_for(&cluster.name, cluster.generation);
        match since.await {
            Ok(Some(since)) => self.metrics.actions.ready(since),
            Ok(None) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                debug!(error, "how long the wish took is not known");
            }
        }
    }

    async fn remove(&self, held: &Held<'_>, row: &HeldRow) -> Result<Next, DatabaseError> {
        if self.store.remove(row, held.term).await? {
            info!("row removed");
            return Ok(Next::End(Finished::Settled(None)));
        }
        held.reload().await
    }
}

/// This moment by the database's clock, with one throw of the dice. Not the
/// moment at which the row was read: a command of many minutes may lie between,
/// and the wait after a failure counts from its end.
fn moment(row: &HeldRow) -> Moment {
    Moment {
        now: row.now(),
        jitter: fastrand::f64(),
    }
}

/// The end of a turn whose row has nothing due before `until`.
fn rest(row: &HeldRow, until: jiff::Timestamp) -> Finished {
    let wait = Duration::try_from(until.duration_since(row.read_at)).unwrap_or_default();
    match row.cluster.actual {
        Actual::Failed => Finished::Failed(wait),
        _ if row.cluster.settled() || row.cluster.hands_off() => Finished::Settled(Some(wait)),
        _ => Finished::Waiting(wait),
    }
}

/// Whether a step records that a running cluster was lost.
fn found_lost(cluster: &Cluster, step: &Step) -> bool {
    let runs = cluster.desired == Desired::Present && cluster.actual == Actual::Running;
    runs && matches!(step, Step::Record(status) if status.actual == Actual::Failed)
}

/// Whether a write brought a generation to running, for the first time.
fn reached_running(before: &Cluster, now: &Cluster) -> bool {
    now.actual == Actual::Running
        && now.desired == Desired::Present
        && now.observed_generation == now.generation
        && before.observed_generation != now.generation
}

/// Whether what was seen after a successful action may still turn into what is
/// wanted by itself.
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
