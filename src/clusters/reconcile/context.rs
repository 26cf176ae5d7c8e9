//! The context of one reconcile: the lease, observations under it, and the fields of the
//! tracing span.

use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::clusters::Cluster;
use crate::clusters::event::Reason;
use crate::clusters::observation::Observation;
use crate::core::controller::Finished;
use crate::core::database::DatabaseError;
use crate::core::rows::Leased;
use crate::core::work::{CancelReason, Work};
use crate::drivers::Driver;

use super::{ClusterReconciler, Next};

/// The decision that does nothing.
const REST: &str = "rest";

/// One reconcile of one cluster, under its lease.
pub(super) struct ReconcileContext<'a> {
    pub(super) work: &'a Work<ClusterReconciler>,
    span_fields: Mutex<SpanFields>,
}

#[derive(Debug, Default)]
struct SpanFields {
    decision: Option<&'static str>,
    reason: Option<Reason>,
}

impl<'a> ReconcileContext<'a> {
    pub(super) fn new(work: &'a Work<ClusterReconciler>) -> Self {
        Self {
            work,
            span_fields: Mutex::default(),
        }
    }

    pub(super) fn key(&self) -> &str {
        &self.work.lease().key
    }

    /// Notes a decision for the span; it keeps the last one other than rest.
    pub(super) fn note_decision(&self, decision: &'static str) {
        let mut fields = self.span_fields();
        if fields.decision.is_none() || decision != REST {
            fields.decision = Some(decision);
        }
    }

    /// Notes the reason that was written to the row, for the span.
    pub(super) fn note_reason(&self, reason: Reason) {
        self.span_fields().reason = Some(reason);
    }

    /// Records the noted fields in the span.
    pub(super) fn complete(&self) {
        let (span, fields) = (Span::current(), self.span_fields());
        span.record("step", fields.decision);
        span.record("reason", fields.reason.map(Reason::as_str));
    }

    fn span_fields(&self) -> MutexGuard<'_, SpanFields> {
        self.span_fields
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the current row after a lost write; ends the reconcile if the lease is lost.
    pub(super) async fn reload(&self) -> Result<Next, DatabaseError> {
        Ok(match self.work.renew().await? {
            Some(row) => Next::Plan(Box::new(row)),
            None => Next::End(self.work.lost().finished()),
        })
    }

    /// Observes a cluster under the lease; unknown if it is interrupted.
    pub(super) async fn observe(
        &self,
        driver: &dyn Driver,
        cluster: &Cluster,
    ) -> (Observation, Option<CancelReason>) {
        self.observe_with(driver.observe(cluster), || {
            Observation::unknown("the observation was interrupted")
        })
        .await
    }

    /// Runs an observation under the lease; the result is `interrupted` if it is stopped.
    pub(super) async fn observe_with<T>(
        &self,
        observation: impl Future<Output = T>,
        interrupted: impl Fn() -> T,
    ) -> (T, Option<CancelReason>) {
        let cancel = CancellationToken::new();
        let observe = async {
            tokio::select! {
                observed = observation => observed,
                () = cancel.cancelled() => interrupted(),
            }
        };
        self.work.during(&cancel, |_| None, observe).await
    }

    /// Observes other clusters, all at once and without a claim: an observation changes
    /// nothing.
    pub(super) async fn observe_others(
        &self,
        driver: &dyn Driver,
        others: &[Cluster],
    ) -> Result<Vec<Observation>, CancelReason> {
        let observations = join_all(others.iter().map(|other| driver.observe(other)));
        match self.observe_with(observations, Vec::new).await {
            (observed, None) => Ok(observed),
            (_, Some(cancelled)) => Err(cancelled),
        }
    }

    /// The end of a reconcile that was interrupted.
    pub(super) fn end(cancelled: CancelReason) -> Next {
        Next::End(cancelled.finished())
    }
}

/// The end of a reconcile whose row is not due before `until`.
pub(super) fn rest(row: &Leased<Cluster>, until: jiff::Timestamp) -> Finished {
    use crate::clusters::Actual;
    let cluster = &row.object;
    let wait = until.duration_since(row.read_at);
    let wait = std::time::Duration::try_from(wait).unwrap_or_default();
    match cluster.actual {
        Actual::Failed => Finished::Failed(wait),
        _ if cluster.settled() || cluster.observe_only() => Finished::Settled(Some(wait)),
        _ => Finished::Waiting(wait),
    }
}
