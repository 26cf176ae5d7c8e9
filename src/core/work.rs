//! One reconcile under a lease, which is renewed while the work runs.
//!
//! A held lease is renewed after each quarter of its lifetime, at least every 5 s. Each
//! renewal reads the row, so a changed declaration is seen even if its notification was
//! lost; a wake-up for the key causes a renewal at once. The work is cancelled when the
//! lease is lost, or when its trust ends without a successful renewal.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

/// The pause before the result of an effect is written again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How long the result of an effect is written again.
const RETRY_FOR: Duration = Duration::from_secs(60);

/// The longest pause between two attempts to renew a lease.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);

/// Why work under a lease was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// The declaration has changed, as the text says.
    Changed(&'static str),
    /// The lease is lost, or not trusted any more.
    LeaseLost,
    /// This process ends.
    Stopping,
}

impl CancelReason {
    /// How a cancelled reconcile ends: the key is reconciled again soon, by this replica,
    /// by the next owner, or after the next start.
    pub fn finished(self) -> Finished {
        match self {
            Self::Changed(_) => Finished::Waiting(Duration::ZERO),
            Self::LeaseLost | Self::Stopping => Finished::Waiting(Duration::from_secs(5)),
        }
    }
}

/// One claim during its reconcile.
pub struct Work<R: Resource> {
    rows: Rows<R::Object>,
    lease: Lease,
    policy: LeasePolicy,
    metrics: ControllerMetrics,
    signals: Signals,
    trust: watch::Sender<MonotonicDeadline>,
    steps: Mutex<Vec<StepRecord>>,
    /// The generation that the running steps are for.
    generation: Mutex<i64>,
    /// The last status, if it could not be written.
    attempted: Mutex<Option<<R::Object as Object>::Status>>,
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
            attempted: Mutex::default(),
        }
    }

    /// The lease of this work.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The rows of the table.
    pub fn rows(&self) -> &Rows<R::Object> {
        &self.rows
    }

    /// The metrics of the controller.
    pub fn metrics(&self) -> &ControllerMetrics {
        &self.metrics
    }

    /// The metrics of its steps.
    pub fn step_metrics(&self) -> &StepMetrics {
        &self.metrics.steps
    }

    /// Takes a place for long work, such as a command that runs for minutes. If there is none,
    /// the reconcile must end with [`Finished::NoPlace`], before any effect.
    pub fn begin_long_work(&self) -> bool {
        self.signals.begin_long_work()
    }

    /// Until when the lease is trusted; each renewal updates it.
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

    /// Applies written step changes to the records in memory, for a caller that writes
    /// them in its own transaction.
    pub fn recorded(&self, changes: &[StepChange]) {
        let mut steps = self.lock();
        for change in changes {
            change.apply_to(&mut steps, Timestamp::now());
        }
    }

    /// Renews the lease and reads the row and its steps under it; `None` if the lease is
    /// lost. The claim may have read them before the last write of the previous owner; a
    /// renewal reads the current values.
    ///
    /// # Errors
    /// [`DatabaseError`]; the lease may be renewed then.
    pub async fn renew(&self) -> Result<Option<Leased<R::Object>>, DatabaseError> {
        let renewed = self.renew_during_work().await?;
        Ok(renewed.map(|(row, steps)| {
            *self.lock() = steps;
            row
        }))
    }

    /// As [`Work::renew`], but keeps the step records in memory, because running work
    /// writes steps at the same time.
    async fn renew_during_work(
        &self,
    ) -> Result<Option<(Leased<R::Object>, Vec<StepRecord>)>, DatabaseError> {
        let trust = MonotonicDeadline::in_(self.policy.trusted_for());
        let renewed = self.rows.renew(&self.lease, self.policy.ttl).await?;
        if renewed.is_some() {
            self.trust.send_replace(trust);
        }
        Ok(renewed)
    }

    /// Writes a status, and the step changes that belong to it.
    ///
    /// # Errors
    /// [`DatabaseError`]; it may be written then.
    pub async fn write<T: Sync>(
        &self,
        decided_on: &Leased<T>,
        status: &<R::Object as Object>::Status,
        steps: &[StepChange],
    ) -> Result<Written<R::Object>, DatabaseError> {
        let written = self
            .rows
            .write(&self.lease, decided_on, status, steps)
            .await;
        *self.last_attempt() = written.is_err().then(|| status.clone());
        let written = written?;
        if matches!(written, Written::Yes(_)) {
            self.recorded(steps);
        }
        Ok(written)
    }

    /// The last status, if it could not be written.
    pub(super) fn attempted(&self) -> Option<<R::Object as Object>::Status> {
        self.last_attempt().clone()
    }

    fn last_attempt(&self) -> MutexGuard<'_, Option<<R::Object as Object>::Status>> {
        self.attempted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Work::write`], for the result of an effect, which must not be lost: while an
    /// error may pass, writes it again for up to a minute, and renews the lease meanwhile.
    ///
    /// # Errors
    /// [`DatabaseError`], the last one.
    pub async fn write_result<T: Sync>(
        &self,
        decided_on: &Leased<T>,
        status: &<R::Object as Object>::Status,
        steps: &[StepChange],
    ) -> Result<Written<R::Object>, DatabaseError> {
        let cancel = CancellationToken::new();
        let writing = self.retrying(
            || !cancel.is_cancelled(),
            || self.write(decided_on, status, steps),
        );
        self.during(&cancel, |_| None, writing).await.0
    }

    /// Writes the result of an effect, and writes it again while an error may pass and
    /// `goes_on` says so. Meanwhile the worker is lent to others, and the row is not waited
    /// for: what holds its lock may hold those of many rows.
    async fn retrying<T, F>(
        &self,
        goes_on: impl Fn() -> bool,
        write: impl Fn() -> F,
    ) -> Result<T, DatabaseError>
    where
        F: Future<Output = Result<T, DatabaseError>>,
    {
        let give_up = Instant::now() + RETRY_FOR;
        let goes_on = || goes_on() && Instant::now() < give_up;
        match write().await {
            Err(error) if error.may_pass() && goes_on() => {
                let error = &error as &dyn std::error::Error;
                warn!(error, "result could not be written; writing it again");
            }
            answer => return answer,
        }
        let retries = async {
            loop {
                sleep(RETRY_PAUSE).await;
                let _turn = self.rows.turn_to_retry().await;
                let blocked = match self.rows.is_locked(&self.lease).await {
                    Ok(locked) => locked,
                    Err(error) => error.may_pass(),
                };
                if blocked && goes_on() {
                    continue;
                }
                match write().await {
                    Err(error) if error.may_pass() && goes_on() => {}
                    answer => return answer,
                }
            }
        };
        self.signals.without_worker(retries).await
    }

    /// Sets the generation that the steps of a run are for.
    pub fn work_on(&self, generation: i64) {
        *self
            .generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = generation;
    }

    /// Removes the row of an object that is verified absent and declared deleted; `false`
    /// if the fence or the declaration does not hold any more.
    ///
    /// # Errors
    /// [`DatabaseError`]; check then whether the row exists.
    pub async fn remove(&self, row: &Leased<R::Object>) -> Result<bool, DatabaseError> {
        self.rows.remove(&self.lease, row.generation).await
    }

    /// Runs `work` and renews the lease meanwhile. To stop the work it cancels `cancel`
    /// and then waits for `work`, which ends its processes first. If the declaration has
    /// changed, the lease is still renewed during that time. `interrupt` decides from the
    /// current row whether the work must stop, and says why.
    pub async fn during<T>(
        &self,
        cancel: &CancellationToken,
        interrupt: impl Fn(&Leased<R::Object>) -> Option<&'static str>,
        work: impl Future<Output = T>,
    ) -> (T, Option<CancelReason>) {
        let mut work = pin!(work);
        let mut cancelled = None;
        loop {
            tokio::select! {
                done = &mut work => {
                    // If the process was suspended, both arms are ready: the guard has
                    // ended the command because the trust ended.
                    if cancelled.is_none() && self.trust.borrow().remaining().is_zero() {
                        self.lost();
                        cancelled = Some(CancelReason::LeaseLost);
                    }
                    return (done, cancelled);
                }
                found = self.keep_lease(cancelled, &interrupt) => {
                    if found == CancelReason::LeaseLost {
                        self.lost();
                    }
                    cancelled = Some(found);
                    cancel.cancel();
                }
            }
        }
    }

    /// As [`Work::during`]; stops the work when the generation of the row changes.
    pub async fn during_generation<T>(
        &self,
        generation: i64,
        cancel: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> (T, Option<CancelReason>) {
        let changed = |now: &Leased<R::Object>| {
            (now.generation != generation).then_some("the declaration has changed")
        };
        self.during(cancel, changed, work).await
    }

    /// Renews the lease until there is a reason, or a further one, to stop the work.
    async fn keep_lease(
        &self,
        cancelled: Option<CancelReason>,
        interrupt: &impl Fn(&Leased<R::Object>) -> Option<&'static str>,
    ) -> CancelReason {
        let watching = cancelled.is_none();
        if cancelled == Some(CancelReason::LeaseLost) {
            std::future::pending::<()>().await;
        }
        let mut pause = self.policy.renew_every();
        loop {
            let left = self.trust.borrow().remaining();
            if left.is_zero() {
                return CancelReason::LeaseLost;
            }
            tokio::select! {
                () = sleep(pause.min(left)) => {}
                () = self.signals.woken(), if watching => {}
                () = self.signals.stopped(), if watching => return CancelReason::Stopping,
            }
            let left = self.trust.borrow().remaining();
            match timeout(left, self.renew_during_work()).await {
                Ok(Ok(Some((row, _)))) => {
                    pause = self.policy.renew_every();
                    if watching && let Some(why) = interrupt(&row) {
                        info!(why, "stopping the work");
                        return CancelReason::Changed(why);
                    }
                }
                Ok(Ok(None)) | Err(_) => return CancelReason::LeaseLost,
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(
                        error,
                        "lease could not be renewed; retrying while it is trusted"
                    );
                    pause = RENEWAL_PAUSE.min(self.policy.renew_every() / 2);
                }
            }
        }
    }

    /// Whether the lease is trusted, and this process does not end.
    fn may_continue(&self) -> bool {
        !self.trust.borrow().passed() && !self.signals.is_stopped()
    }

    /// Counts and logs the lost lease, and ends the trust in it: its commands are killed at
    /// once, because the next owner waits for nothing.
    pub fn lost(&self) -> CancelReason {
        warn!("lease is lost; stopping all work under it");
        self.trust
            .send_replace(MonotonicDeadline::in_(Duration::ZERO));
        self.metrics.leases.lost();
        CancelReason::LeaseLost
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
        let write = || self.rows.advance(&self.lease, generation, changes, message);
        let advanced = self.retrying(|| self.may_continue(), write).await?;
        if advanced != Advanced::LeaseLost {
            self.recorded(changes);
        }
        Ok(advanced)
    }
}
