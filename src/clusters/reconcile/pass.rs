//! One pass over one cluster: its lease, and what it came to, for the span.

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
use crate::core::work::{Cut, Work};
use crate::drivers::Driver;

use super::{ClusterReconciler, Next};

/// The decision that does nothing.
const REST: &str = "rest";

/// One pass under one lease.
pub(super) struct Pass<'a> {
    pub(super) work: &'a Work<ClusterReconciler>,
    course: Mutex<Course>,
}

/// What a pass came to.
#[derive(Debug, Default)]
struct Course {
    decision: Option<&'static str>,
    reason: Option<Reason>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(work: &'a Work<ClusterReconciler>) -> Self {
        Self {
            work,
            course: Mutex::default(),
        }
    }

    pub(super) fn key(&self) -> &str {
        &self.work.lease().key
    }

    /// Notes a decision; the last one that was more than resting counts.
    pub(super) fn note_decision(&self, decision: &'static str) {
        let mut course = self.course();
        if course.decision.is_none() || decision != REST {
            course.decision = Some(decision);
        }
    }

    /// Notes what was written into the row as the reason.
    pub(super) fn note_reason(&self, reason: Reason) {
        self.course().reason = Some(reason);
    }

    /// Completes the span of this pass.
    pub(super) fn complete(&self) {
        let (span, course) = (Span::current(), self.course());
        span.record("step", course.decision);
        span.record("reason", course.reason.map(Reason::as_str));
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a write lost: the row as it is now, or the end if the lease went.
    pub(super) async fn reload(&self) -> Result<Next, DatabaseError> {
        Ok(match self.work.renew().await? {
            Some(row) => Next::Plan(Box::new(row)),
            None => Next::End(self.work.lost().finished()),
        })
    }

    /// Observes under the lease. What is cut short saw nothing.
    pub(super) async fn look(
        &self,
        driver: &dyn Driver,
        cluster: &Cluster,
    ) -> (Observation, Option<Cut>) {
        self.look_with(driver.observe(cluster), || {
            Observation::unknown("the look was cut short")
        })
        .await
    }

    /// Looks in another way under the lease; `cut_short` is what a look saw that
    /// was cut short.
    pub(super) async fn look_with<T>(
        &self,
        looking: impl Future<Output = T>,
        cut_short: impl Fn() -> T,
    ) -> (T, Option<Cut>) {
        let cancel = CancellationToken::new();
        let look = async {
            tokio::select! {
                seen = looking => seen,
                () = cancel.cancelled() => cut_short(),
            }
        };
        self.work.during(&cancel, |_| None, look).await
    }

    /// Looks at other clusters too, all at once and without a claim on them: a
    /// look changes nothing.
    pub(super) async fn look_at_others(
        &self,
        driver: &dyn Driver,
        others: &[Cluster],
    ) -> Result<Vec<Observation>, Cut> {
        let looks = join_all(others.iter().map(|other| driver.observe(other)));
        match self.look_with(looks, Vec::new).await {
            (seen, None) => Ok(seen),
            (_, Some(cut)) => Err(cut),
        }
    }

    /// The end of a pass that was cut short.
    pub(super) fn end(cut: Cut) -> Next {
        Next::End(cut.finished())
    }
}

/// The end of a pass whose row has nothing due before `until`.
pub(super) fn rest(row: &Leased<Cluster>, until: jiff::Timestamp) -> Finished {
    use crate::clusters::Actual;
    let cluster = &row.object;
    let wait = until.duration_since(row.read_at);
    let wait = std::time::Duration::try_from(wait).unwrap_or_default();
    match cluster.actual {
        Actual::Failed => Finished::Failed(wait),
        _ if cluster.settled() || cluster.hands_off() => Finished::Settled(Some(wait)),
        _ => Finished::Waiting(wait),
    }
}
