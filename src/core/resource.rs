//! The trait to implement for the rows of a table, and what runs it under a controller.
//!
//! # Flow
//! ```text
//! wake-up or full pass ─> claim (lease with a term) ─> reconcile ─┬─> write a status, plan again
//!                                                                 ├─> act while the lease is kept
//!                                                                 └─> remove the row ─> release
//! ```
//!
//! # Guarantees
//! - One owner at a time reconciles a row: each reconcile has a lease, which the database
//!   grants to one owner and which expires by the database's clock.
//! - A write has no effect, and says so without an error, if the lease, the UID, the
//!   generation or the recorded state of the row is no longer that of the decision.
//! - Work under [`Work::during`] is cancelled when the lease is lost or not trusted any
//!   more, when the declaration requires it, or when the process ends. The reconcile
//!   waits until the work has ended.
//! - A change of the desired columns leads to a reconcile soon after its commit. Every
//!   due row is reconciled within the resync interval, even if all notifications are
//!   lost.
//! - A deleted row stays until [`Work::remove`] removes it.
//!
//! # Assumptions
//! - Effects are idempotent, and a reconcile observes before it acts: after a crash the
//!   next owner does not know how far the last one got.
//! - Each status says when the row is reconciled next.
//! - The database may refuse a write, such as by a trigger of others. Then the
//!   status of [`Object::refused`] is written; if that is refused too, the cause is kept in
//!   memory ([`Refusals`](super::refusals::Refusals)). Both have a growing delay.
//!
//! # Caveats
//! - A process that is stopped for longer than its lease is trusted may continue an
//!   effect that it started before. Give the term to effects that can compare it, and run the
//!   others below a guard that ends them, as Kindler runs its commands.
//! - The removal of a row is final: verify first that nothing is left.

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
use super::rows::{Claim, Claimed, Leased, Rows, Written};
use super::work::Work;
use crate::cause::chain;

/// How long a key waits while the owner is on standby.
pub const STANDBY: Duration = Duration::from_secs(5);

/// Reconciles the objects that the rows of a table describe. See the module's comment
/// for flow, guarantees, assumptions and caveats.
#[async_trait]
pub trait Resource: Send + Sync + Sized + 'static {
    /// A row, as the domain sees it.
    type Object: Object;

    /// The controller's name, in metrics and logs.
    fn name(&self) -> &'static str;

    /// Brings one object closer to what its row declares.
    ///
    /// # Errors
    /// Only if the reconcile itself could not run. A failure of the object is written to
    /// its row, and is [`Finished::Failed`].
    async fn reconcile(
        &self,
        row: Leased<Self::Object>,
        work: &Work<Self>,
    ) -> Result<Finished, DatabaseError>;

    /// Called for a row that cannot be read, before that is written to its status.
    fn unreadable(&self, why: &Undecodable) {
        let _ = why;
    }

    /// The delay before a row that cannot be read is read again; a change of the row
    /// wakes the reconciler earlier.
    fn unreadable_retry(&self) -> Duration {
        Backoff::default().longest(fastrand::f64())
    }

    /// The delay after the database refused a write.
    fn backoff(&self) -> Backoff {
        Backoff::default()
    }

    /// Whether this owner starts no new work. Running work is finished.
    fn on_standby(&self) -> bool {
        false
    }

    /// The tracing span of one reconcile.
    fn span(&self, key: &str, term: Term) -> Span {
        info_span!("reconcile", controller = self.name(), key, term = term.0)
    }
}

/// Runs a [`Resource`] below a controller.
pub struct ResourceReconciler<R: Resource> {
    /// The resource.
    pub resource: R,
    /// Its rows.
    pub rows: Rows<R::Object>,
    /// The owner of the claims, unique for each start of a process.
    pub owner: Arc<str>,
    /// The lifetime of the leases.
    pub lease: LeasePolicy,
    /// The metrics of the controller.
    pub metrics: ControllerMetrics,
}

#[async_trait]
impl<R: Resource> Reconciler for ResourceReconciler<R> {
    type ClaimedKey = Box<Claimed<R::Object>>;
    type Error = DatabaseError;

    fn name(&self) -> &'static str {
        self.resource.name()
    }

    fn is_outage(&self, error: &DatabaseError) -> bool {
        error.is_outage()
    }

    fn is_refusal(&self, error: &DatabaseError) -> bool {
        error.is_refusal()
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
    ) -> Result<Vec<(Key, ClaimOutcome<Self::ClaimedKey>)>, DatabaseError> {
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
        claimed: Self::ClaimedKey,
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
            let _held = self.metrics.leases.hold();
            let work = Work::new(self, lease, trust, steps, signals.clone());
            let ended = match self.reconcile_row(row, &work).await {
                Err(error) if error.is_refusal() => self.refused(&work, error).await,
                ended => ended,
            };
            Span::current().record("seconds", began.elapsed().as_secs_f64());
            debug!("reconciled");
            if let Err(error) = self.rows.release(work.lease()).await {
                // It expires, and nothing runs under it.
                if error.is_refusal() {
                    self.metrics.refused_writes_total.inc();
                }
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
    /// Writes to the row why the database refused a write, and when the next attempt is due.
    ///
    /// # Errors
    /// The refusal, if that cannot be written either.
    async fn refused(
        &self,
        work: &Work<R>,
        refusal: DatabaseError,
    ) -> Result<Finished, DatabaseError> {
        let why = chain(&refusal);
        // The row as it is now: an earlier write of this reconcile may have changed it.
        let Ok(Some(row)) = work.renew().await else {
            return Err(refusal);
        };
        let (attempted, backoff) = (work.attempted(), self.resource.backoff());
        let status = R::Object::refused(&row, attempted.as_ref(), &why, &backoff);
        let Some((status, delay)) = status else {
            return Err(refusal);
        };
        match work.write(&row, &status, &[]).await {
            Ok(Written::Yes(_)) => {
                warn!(why, "the database refused a write; retrying");
                self.metrics.refused_writes_total.inc();
                Ok(Finished::Failed(delay))
            }
            Ok(Written::Lost) | Err(_) => Err(refusal),
        }
    }

    async fn reconcile_row(
        &self,
        row: Leased<Result<R::Object, Undecodable>>,
        work: &Work<R>,
    ) -> Result<Finished, DatabaseError> {
        match row.readable() {
            Ok(row) => self.resource.reconcile(row, work).await,
            Err(row) => {
                let (why, retry) = (&row.object, self.resource.unreadable_retry());
                warn!(error = chain(why), "row cannot be read");
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
        // Shortly after the other lease expires.
        Claim::Busy { expires_in } => {
            let after = expires_in + Duration::from_millis(100);
            ClaimOutcome::Finished(Finished::Waiting(after))
        }
    }
}
