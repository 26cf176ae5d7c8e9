//! One pass under a lease: the lease is kept while work takes its time.
//!
//! A held lease is renewed four times in its life. Each renewal reads the row, so a
//! change of desire is seen even when its notification was lost; a wake-up for the
//! key brings the next renewal forward. When the lease is lost, or no renewal got
//! through until its trust ended, the work is cut short.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::controller::{Finished, Signals};
use super::database::DatabaseError;
use super::lease::LeasePolicy;
use super::metrics::{ControllerMetrics, StepMetrics};
use super::object::Object;
use super::resource::{Resource, ResourceReconciler};
use super::rows::{Lease, Leased, Rows, Written};
use super::steps::{Advanced, StepChange, StepLog, StepRecord};
use super::trust::{MonotonicDeadline, Trust};

/// Why work under a lease was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Something else is declared now.
    Changed(&'static str),
    /// Another owner has the lease, or it cannot be trusted any more.
    LeaseLost,
    /// This process ends.
    Stopping,
}

impl Cut {
    /// How a pass ends that was cut short: the key is looked at again soon, by
    /// this replica, the next owner, or at the next start.
    pub fn finished(self) -> Finished {
        match self {
            Self::Changed(_) => Finished::Waiting(Duration::ZERO),
            Self::LeaseLost | Self::Stopping => Finished::Waiting(Duration::from_secs(5)),
        }
    }
}

/// One claim, for as long as its pass lasts.
pub struct Work<R: Resource> {
    rows: Rows<R::Object>,
    lease: Lease,
    policy: LeasePolicy,
    metrics: ControllerMetrics,
    signals: Signals,
    trust: watch::Sender<MonotonicDeadline>,
    steps: Mutex<Vec<StepRecord>>,
    /// The generation that steps are worked on for.
    generation: Mutex<i64>,
}

impl<R: Resource> Work<R> {
    pub(super) fn new(
        reconciler: &ResourceReconciler<R>,
        lease: Lease,
        trust: MonotonicDeadline,
        steps: Vec<StepRecord>,
        signals: Signals,
    ) -> Self {
        Self {
            rows: reconciler.rows.clone(),
            lease,
            policy: reconciler.lease,
            metrics: reconciler.metrics.clone(),
            signals,
            trust: watch::Sender::new(trust),
            steps: Mutex::new(steps),
            generation: Mutex::default(),
        }
    }

    /// The fence.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The rows of the table.
    pub fn rows(&self) -> &Rows<R::Object> {
        &self.rows
    }

    /// The counters of the controller.
    pub fn metrics(&self) -> &ControllerMetrics {
        &self.metrics
    }

    /// The counters of steps.
    pub fn step_metrics(&self) -> &StepMetrics {
        &self.metrics.steps
    }

    /// Until when the lease is trusted, kept fresh by renewals.
    pub fn trust(&self) -> Trust {
        self.trust.subscribe()
    }

    /// The steps of the row, as recorded.
    pub fn steps(&self) -> Vec<StepRecord> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<StepRecord>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies step changes that were written to what this pass knows of the steps;
    /// for a caller that writes them in a transaction of its own.
    pub fn recorded(&self, changes: &[StepChange]) {
        let mut steps = self.lock();
        for change in changes {
            change.apply_to(&mut steps, Timestamp::now());
        }
    }

    /// Renews the lease and reads the row and its steps under it; `None` if it is
    /// lost. The claim may have read them before the owner before this one wrote
    /// its last: what is planned after a renewal is planned on what is there.
    ///
    /// # Errors
    /// [`DatabaseError`]; the lease may have been renewed.
    pub async fn renew(&self) -> Result<Option<Leased<R::Object>>, DatabaseError> {
        let renewed = self.renew_beside().await?;
        Ok(renewed.map(|(row, steps)| {
            *self.lock() = steps;
            row
        }))
    }

    /// As [`Work::renew`], beside work that writes steps itself: what it knows of
    /// them stays.
    async fn renew_beside(
        &self,
    ) -> Result<Option<(Leased<R::Object>, Vec<StepRecord>)>, DatabaseError> {
        let asked = MonotonicDeadline::in_(self.policy.trusted_for());
        let renewed = self.rows.renew(&self.lease, self.policy.ttl).await?;
        if renewed.is_some() {
            self.trust.send_replace(asked);
        }
        Ok(renewed)
    }

    /// Writes a status, and the step changes that belong to it.
    ///
    /// # Errors
    /// [`DatabaseError`]; it may have been written then.
    pub async fn write<T: Sync>(
        &self,
        decided_on: &Leased<T>,
        status: &<R::Object as Object>::Status,
        steps: &[StepChange],
    ) -> Result<Written<R::Object>, DatabaseError> {
        let written = self
            .rows
            .write(&self.lease, decided_on, status, steps)
            .await?;
        if matches!(written, Written::Yes(_)) {
            self.recorded(steps);
        }
        Ok(written)
    }

    /// Says for which generation the steps of a run are worked on.
    pub fn work_on(&self, generation: i64) {
        *self
            .generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = generation;
    }

    /// Removes the row: verified gone, and declared so.
    ///
    /// # Errors
    /// [`DatabaseError`]; look whether it is there then.
    pub async fn remove(&self, row: &Leased<R::Object>) -> Result<bool, DatabaseError> {
        self.rows.remove(&self.lease, row.generation).await
    }

    /// Runs `work` while the lease is kept. When something cuts it short, `cancel`
    /// is cancelled and `work` is still waited for: it ends its processes first.
    /// While it does so after a change of desire, the lease is kept on.
    /// `interrupt` says of the row as it is now whether the work must end, and why.
    pub async fn during<T>(
        &self,
        cancel: &CancellationToken,
        interrupt: impl Fn(&Leased<R::Object>) -> Option<&'static str>,
        work: impl Future<Output = T>,
    ) -> (T, Option<Cut>) {
        let mut work = pin!(work);
        let mut cut = None;
        loop {
            tokio::select! {
                done = &mut work => {
                    // After a standstill both arms are ready: the guard ended the
                    // command because the trust ran out, whichever is seen first.
                    if cut.is_none() && self.trust.borrow().remaining().is_zero() {
                        self.lost();
                        cut = Some(Cut::LeaseLost);
                    }
                    return (done, cut);
                }
                found = self.keep(cut, &interrupt) => {
                    if found == Cut::LeaseLost {
                        self.lost();
                    }
                    cut = Some(found);
                    cancel.cancel();
                }
            }
        }
    }

    /// As [`Work::during`]: the work ends when the row is of another generation.
    pub async fn during_generation<T>(
        &self,
        generation: i64,
        cancel: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> (T, Option<Cut>) {
        let changed = |now: &Leased<R::Object>| {
            (now.generation != generation).then_some("something else is declared now")
        };
        self.during(cancel, changed, work).await
    }

    /// Renews until there is a reason to cut the work short (further).
    async fn keep(
        &self,
        cut: Option<Cut>,
        interrupt: &impl Fn(&Leased<R::Object>) -> Option<&'static str>,
    ) -> Cut {
        let watching = cut.is_none();
        if cut == Some(Cut::LeaseLost) {
            std::future::pending::<()>().await;
        }
        let mut pause = self.policy.renew_every();
        loop {
            let left = self.trust.borrow().remaining();
            if left.is_zero() {
                return Cut::LeaseLost;
            }
            tokio::select! {
                () = sleep(pause.min(left)) => {}
                () = self.signals.woken(), if watching => {}
                () = self.signals.stopped(), if watching => return Cut::Stopping,
            }
            let left = self.trust.borrow().remaining();
            match timeout(left, self.renew_beside()).await {
                Ok(Ok(Some((row, _)))) => {
                    pause = self.policy.renew_every();
                    if watching && let Some(why) = interrupt(&row) {
                        info!(why, "cutting the work short");
                        return Cut::Changed(why);
                    }
                }
                Ok(Ok(None)) | Err(_) => return Cut::LeaseLost,
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(
                        error,
                        "lease could not be renewed; trying again while it is trusted"
                    );
                    pause = Duration::from_secs(1).min(self.policy.renew_every());
                }
            }
        }
    }

    /// Counts the lease as lost, and logs it.
    pub fn lost(&self) -> Cut {
        warn!("lease is lost; nothing more is done under it");
        self.metrics.leases.lost();
        Cut::LeaseLost
    }
}

#[async_trait]
impl<R: Resource> StepLog for Work<R> {
    async fn advance(
        &self,
        changes: &[StepChange],
        message: &str,
    ) -> Result<Advanced, DatabaseError> {
        let generation = *self
            .generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let advanced = self
            .rows
            .advance(&self.lease, generation, changes, message)
            .await?;
        if advanced != Advanced::LeaseLost {
            self.recorded(changes);
        }
        Ok(advanced)
    }
}
