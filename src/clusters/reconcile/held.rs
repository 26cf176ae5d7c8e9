//! Holding a cluster's lease while something takes its time.
//!
//! A held lease is renewed four times in its life. Each renewal reads the row,
//! so a change of desire is heard even when its notification was lost; a ring
//! for the key brings the next renewal forward. When the lease is lost, or no
//! renewal got through until its trust ended, the work is cut short. This
//! module must not write statuses.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Span, debug, info, warn};

use crate::clusters::Cluster;
use crate::clusters::event::Reason;
use crate::clusters::observation::Observation;
use crate::clusters::plan::{Action, interrupt};
use crate::command::{MonotonicDeadline, Trust};
use crate::core::controller::{Finished, Turn};
use crate::core::database::DatabaseError;
use crate::core::lease::Term;
use crate::store::HeldRow;

use super::{ClusterReconciler, Next};

/// The step that does nothing.
const REST: &str = "rest";

/// Why work under a lease was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Something else is wanted now.
    Desire(&'static str),
    /// The lease is somebody else's, or cannot be trusted any more.
    LeaseLost,
    /// This process ends.
    Stopping,
}

impl Cut {
    /// How a turn ends that was cut short: somebody looks again soon, this
    /// replica, the next owner, or the next start.
    pub(super) fn finished(self) -> Finished {
        match self {
            Self::Desire(_) => Finished::Waiting(Duration::ZERO),
            Self::LeaseLost | Self::Stopping => Finished::Waiting(Duration::from_secs(5)),
        }
    }
}

/// One claim, for as long as its turn lasts.
pub(super) struct Held<'a> {
    reconciler: &'a ClusterReconciler,
    pub(super) key: &'a str,
    pub(super) term: Term,
    trust: watch::Sender<MonotonicDeadline>,
    course: Mutex<Course>,
}

/// What a turn came to, for its span.
#[derive(Debug, Default)]
struct Course {
    step: Option<&'static str>,
    reason: Option<Reason>,
}

impl<'a> Held<'a> {
    pub(super) fn new(
        reconciler: &'a ClusterReconciler,
        key: &'a str,
        term: Term,
        trust: MonotonicDeadline,
    ) -> Self {
        Self {
            reconciler,
            key,
            term,
            trust: watch::Sender::new(trust),
            course: Mutex::default(),
        }
    }

    /// Notes a step; the last one that was more than resting is told.
    pub(super) fn note_step(&self, step: &'static str) {
        let mut course = self.course();
        if course.step.is_none() || step != REST {
            course.step = Some(step);
        }
    }

    /// Notes what was written into the row as the reason.
    pub(super) fn note_reason(&self, reason: Reason) {
        self.course().reason = Some(reason);
    }

    /// Completes the span of this turn, and says that it ended.
    pub(super) fn tell(&self, took: Duration) {
        let span = Span::current();
        let course = self.course();
        span.record("step", course.step);
        span.record("reason", course.reason.map(Reason::as_str));
        span.record("seconds", took.as_secs_f64());
        debug!("reconciled");
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when the lease is trusted, kept fresh by renewals.
    pub(super) fn trust(&self) -> Trust {
        self.trust.subscribe()
    }

    /// Renews the lease and reads the row under it; `None` if it is lost.
    pub(super) async fn renew(&self) -> Result<Option<HeldRow>, DatabaseError> {
        let asked = MonotonicDeadline::in_(self.reconciler.lease.trusted_for());
        let renewed = self
            .reconciler
            .store
            .renew(self.key, self.term, self.reconciler.lease.ttl)
            .await?;
        if renewed.is_some() {
            self.trust.send_replace(asked);
        }
        Ok(renewed)
    }

    /// After a write lost: the row as it is now, or the end if the lease went.
    pub(super) async fn reload(&self) -> Result<Next, DatabaseError> {
        Ok(match self.renew().await? {
            Some(row) => Next::Plan(Box::new(row)),
            None => Next::End(self.lost().finished()),
        })
    }

    /// Observes under the lease.
    pub(super) async fn look(&self, cluster: &Cluster, turn: &Turn) -> (Observation, Option<Cut>) {
        self.look_with(turn, self.reconciler.driver.observe(cluster))
            .await
    }

    /// Observes in a way of one's own. A look that is cut short saw nothing.
    pub(super) async fn look_with(
        &self,
        turn: &Turn,
        looking: impl Future<Output = Observation>,
    ) -> (Observation, Option<Cut>) {
        let cancel = CancellationToken::new();
        let look = async {
            tokio::select! {
                observed = looking => observed,
                () = cancel.cancelled() => Observation::unknown("the look was cut short"),
            }
        };
        self.keep_during(None, turn, &cancel, look).await
    }

    /// Looks at other clusters too, all at once and without a claim on them: a
    /// look changes nothing.
    pub(super) async fn look_at_others(
        &self,
        others: &[Cluster],
        turn: &Turn,
    ) -> Result<Vec<Observation>, Cut> {
        let cancel = CancellationToken::new();
        let looks = others.iter().map(|other| async {
            tokio::select! {
                observed = self.reconciler.driver.observe(other) => observed,
                () = cancel.cancelled() => Observation::unknown("the look was cut short"),
            }
        });
        match self.keep_during(None, turn, &cancel, join_all(looks)).await {
            (seen, None) => Ok(seen),
            (_, Some(cut)) => Err(cut),
        }
    }

    /// Runs `work` while the lease is kept. When something cuts it short,
    /// `cancel` is cancelled and `work` is still waited for: it ends its
    /// processes first. While it does so after a change of desire, the lease
    /// is kept on.
    pub(super) async fn keep_during<T>(
        &self,
        action: Option<Action>,
        turn: &Turn,
        cancel: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> (T, Option<Cut>) {
        let mut work = pin!(work);
        let mut cut = None;
        loop {
            tokio::select! {
                done = &mut work => {
                    // After a standstill both arms are ready: the guard ended the
                    // command because the trust ran out, whichever is heard first.
                    if cut.is_none() && self.trust.borrow().remaining().is_zero() {
                        self.lost();
                        cut = Some(Cut::LeaseLost);
                    }
                    return (done, cut);
                }
                found = self.keep(cut, action, turn) => {
                    if found == Cut::LeaseLost {
                        self.lost();
                    }
                    cut = Some(found);
                    cancel.cancel();
                }
            }
        }
    }

    /// Renews until there is a reason to cut the work short (further).
    async fn keep(&self, cut: Option<Cut>, action: Option<Action>, turn: &Turn) -> Cut {
        let watching = cut.is_none();
        let never = std::future::pending::<()>;
        if cut == Some(Cut::LeaseLost) {
            never().await;
        }
        let mut pause = self.reconciler.lease.renew_every();
        loop {
            let left = self.trust.borrow().remaining();
            if left.is_zero() {
                return Cut::LeaseLost;
            }
            tokio::select! {
                () = sleep(pause.min(left)) => {}
                () = turn.nudged(), if watching => {}
                () = turn.stopped(), if watching => return Cut::Stopping,
            }
            let left = self.trust.borrow().remaining();
            match timeout(left, self.renew()).await {
                Ok(Ok(Some(row))) => {
                    pause = self.reconciler.lease.renew_every();
                    let desire = action.filter(|_| watching);
                    if let Some(why) = desire.and_then(|a| interrupt(a, row.cluster.desired)) {
                        info!(why, "cutting the action short");
                        return Cut::Desire(why);
                    }
                }
                Ok(Ok(None)) | Err(_) => return Cut::LeaseLost,
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(
                        error,
                        "lease could not be renewed; trying again while it is trusted"
                    );
                    pause = Duration::from_secs(1).min(self.reconciler.lease.renew_every());
                }
            }
        }
    }

    /// Tells that the lease is lost.
    pub(super) fn lost(&self) -> Cut {
        warn!("lease is lost; nothing more is done under it");
        self.reconciler
            .metrics
            .controller(super::CONTROLLER)
            .leases
            .lost();
        Cut::LeaseLost
    }
}
