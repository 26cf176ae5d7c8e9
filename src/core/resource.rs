//! The trait that makes the rows of a table reconciled, and what runs it.
//!
//! # Flow
//! ```text
//! wake-up or full pass ─> claim (lease with a term) ─> reconcile ─┬─> write a status, plan again
//!                                                                 ├─> act while the lease is kept
//!                                                                 └─> remove the row ─> release
//! ```
//!
//! # Guarantees
//! - A row is reconciled by one owner at a time: each pass holds a lease, which the
//!   database grants to one and which expires by the database's clock.
//! - A write is refused, as an answer and not as an error, once the lease, the row's
//!   identity, its generation or its recorded state is another than the one that
//!   the decision was made on.
//! - Work under [`Work::during`] is cut short when the lease is lost, when it cannot
//!   be trusted any more, when the object should become another, or when the process
//!   ends; it is waited for while it ends.
//! - A change of the desired columns leads to a pass soon after its commit; every
//!   due row leads to one within the resync interval, also when every notification
//!   is lost.
//! - A row that is deleted stays until [`Work::remove`] took it away.
//!
//! # Assumptions
//! - What a pass does to the world is idempotent, and looked at before it is done
//!   again: after a crash, the next owner does not know how far the last one came.
//! - The next time at which a row is to be looked at is written into the row.
//!
//! # Caveats
//! - A process that stands still for longer than its lease is trusted may have begun
//!   an effect before. Effects that can be fenced should carry the term, the others
//!   should run below a guard that ends them, as Kindler's commands do.
//! - Removing a row is final: verify first that nothing is left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tracing::{Instrument, Span, debug, info_span, warn};

use super::backoff::Backoff;
use super::controller::{ClaimOutcome, Finished, Reconciler, Signals};
use super::database::{DatabaseError, Undecodable};
use super::lease::{LeasePolicy, Term};
use super::metrics::ControllerMetrics;
use super::object::Object;
use super::queue::Key;
use super::rows::{Claim, Claimed, Leased, Rows};
use super::work::Work;

/// How long an owner on standby waits before it looks again whether it may begin.
const STANDBY: Duration = Duration::from_secs(5);

/// What is done about the objects that the rows of a table stand for. See the
/// module's comment for flow, guarantees, assumptions and caveats.
#[async_trait]
pub trait Resource: Send + Sync + Sized + 'static {
    /// A row, as the domain sees it.
    type Object: Object;

    /// The controller's name, in metrics and logs.
    fn name(&self) -> &'static str;

    /// Brings one object closer to what its row declares.
    ///
    /// # Errors
    /// Only when the pass itself could not be made; what fails about the object is
    /// written into its row, and is [`Finished::Failed`].
    async fn reconcile(
        &self,
        row: Leased<Self::Object>,
        work: &Work<Self>,
    ) -> Result<Finished, DatabaseError>;

    /// Sees a row that cannot be read, after that was written into it.
    fn unreadable(&self, why: &Undecodable) {
        let _ = why;
    }

    /// Before a row that cannot be read is looked at again; a change of the row wakes
    /// its reconciler earlier.
    fn unreadable_retry(&self) -> Duration {
        Backoff::default().longest(fastrand::f64())
    }

    /// Whether nothing new may begin; what runs is finished.
    fn on_standby(&self) -> bool {
        false
    }

    /// The span of one pass.
    fn span(&self, key: &str, term: Term) -> Span {
        info_span!("reconcile", controller = self.name(), key, term = term.0)
    }
}

/// Runs a [`Resource`] below a controller.
pub struct ResourceReconciler<R: Resource> {
    /// What is reconciled.
    pub resource: R,
    /// Its rows.
    pub rows: Rows<R::Object>,
    /// Who claims: unique to this start of this process.
    pub owner: Arc<str>,
    /// How long a claim lasts.
    pub lease: LeasePolicy,
    /// What is counted.
    pub metrics: ControllerMetrics,
}

#[async_trait]
impl<R: Resource> Reconciler for ResourceReconciler<R> {
    type Claimed = Box<Claimed<R::Object>>;
    type Error = DatabaseError;

    fn name(&self) -> &'static str {
        self.resource.name()
    }

    fn is_outage(&self, error: &DatabaseError) -> bool {
        error.is_unreachable()
    }

    async fn due(
        &self,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(String, Duration)>, DatabaseError> {
        if self.resource.on_standby() {
            return Ok(Vec::new());
        }
        self.rows.due(horizon, limit).await
    }

    async fn claim(
        &self,
        keys: &[Key],
    ) -> Result<Vec<(Key, ClaimOutcome<Self::Claimed>)>, DatabaseError> {
        if self.resource.on_standby() {
            let later = |key: &Key| {
                (
                    key.clone(),
                    ClaimOutcome::Finished(Finished::Waiting(STANDBY)),
                )
            };
            return Ok(keys.iter().map(later).collect());
        }
        let (ttl, trusted_for) = (self.lease.ttl, self.lease.trusted_for());
        let claims = self.rows.claim(keys, &self.owner, ttl, trusted_for).await?;
        Ok(claims
            .into_iter()
            .map(|(key, claim)| (key, outcome(claim)))
            .collect())
    }

    async fn reconcile(
        &self,
        claimed: Self::Claimed,
        signals: &Signals,
    ) -> Result<Finished, DatabaseError> {
        let Claimed {
            lease,
            trust,
            row,
            steps,
        } = *claimed;
        let span = self.resource.span(&lease.key, lease.term);
        let began = Instant::now();
        async {
            debug!("claimed");
            let _counted = self.metrics.leases.hold();
            let work = Work::new(self, lease, trust, steps, signals.clone());
            let ended = self.pass(row, &work).await;
            Span::current().record("seconds", began.elapsed().as_secs_f64());
            debug!("reconciled");
            if let Err(error) = self.rows.release(work.lease()).await {
                // It ends with its lifetime, and nothing runs under it.
                let error = &error as &dyn std::error::Error;
                warn!(error, "lease could not be released");
            }
            ended
        }
        .instrument(span)
        .await
    }
}

impl<R: Resource> ResourceReconciler<R> {
    async fn pass(
        &self,
        row: Leased<Result<R::Object, Undecodable>>,
        work: &Work<R>,
    ) -> Result<Finished, DatabaseError> {
        match row.readable() {
            Ok(row) => self.resource.reconcile(row, work).await,
            Err(row) => {
                let (why, retry) = (&row.object, self.resource.unreadable_retry());
                warn!(error = %why, "row cannot be read");
                self.metrics.terminal_errors_total.inc();
                self.resource.unreadable(why);
                work.write(&row, &R::Object::unreadable(why, retry), &[])
                    .await?;
                Ok(Finished::Failed(retry))
            }
        }
    }
}

fn outcome<T>(claim: Claim<T>) -> ClaimOutcome<Box<Claimed<T>>> {
    match claim {
        Claim::Won(claimed) => ClaimOutcome::Won(claimed),
        Claim::NotSelected => ClaimOutcome::Finished(Finished::Settled(None)),
        Claim::NotDue { due_in } => ClaimOutcome::Finished(Finished::Settled(due_in)),
        // A little later than the other lease ends.
        Claim::Busy { expires_in } => {
            let after = expires_in + Duration::from_millis(100);
            ClaimOutcome::Finished(Finished::Waiting(after))
        }
    }
}
