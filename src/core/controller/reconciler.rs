//! The trait of a reconciler, and the types that its controller exchanges with it.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::lending::LendableWorker;
use crate::core::metrics::ReconcileResult;
use crate::core::queue::Key;

/// How a reconcile ended, and when the key is reconciled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The object is as declared. The delay until the next reconcile, if one is
    /// planned. The queue keeps no key beyond the next full pass;
    /// [`Reconciler::due`] must find it.
    Settled(Option<Duration>),
    /// Something else must happen first; reconcile again after this.
    Waiting(Duration),
    /// It failed; retry after this.
    Failed(Duration),
    /// It needs a place for long work, and none was free: reconcile again when one is.
    NoPlace,
}

impl Finished {
    /// The row has changed: reconcile again at once.
    pub const AGAIN: Self = Self::Waiting(Duration::ZERO);

    pub(super) fn result(self) -> ReconcileResult {
        match self {
            Self::Settled(_) => ReconcileResult::Success,
            Self::Waiting(Duration::ZERO) | Self::NoPlace => ReconcileResult::Requeue,
            Self::Waiting(_) => ReconcileResult::RequeueAfter,
            Self::Failed(_) => ReconcileResult::Error,
        }
    }

    pub(super) fn requeue_after(self) -> Option<Duration> {
        match self {
            Self::Settled(next) => next,
            Self::Waiting(next) | Self::Failed(next) => Some(next),
            Self::NoPlace => Some(Duration::ZERO),
        }
    }
}

/// Signals to a running reconcile.
#[derive(Clone, Debug)]
pub struct Signals {
    pub(super) woken: Arc<Notify>,
    pub(super) stop: CancellationToken,
    pub(super) worker: LendableWorker,
    pub(super) long_work: Arc<LongWork>,
}

/// The place for long work of one reconcile.
#[derive(Debug)]
pub(super) struct LongWork {
    places: Arc<Semaphore>,
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl LongWork {
    pub(super) fn new(places: &Arc<Semaphore>, held: Option<OwnedSemaphorePermit>) -> Arc<Self> {
        Arc::new(Self {
            places: places.clone(),
            held: Mutex::new(held),
        })
    }

    fn begin(&self) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = self.places.clone().try_acquire_owned().ok();
        }
        held.is_some()
    }

    /// Gives the place to others: what is left is short.
    fn end(&self) {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

impl Signals {
    /// Takes a place for long work, which the reconcile keeps until it ends. If there is none,
    /// the reconcile must end with [`Finished::NoPlace`] and before any effect.
    pub fn begin_long_work(&self) -> bool {
        self.long_work.begin()
    }

    /// Waits for another wake-up of the key: the row may have changed.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Runs what only waits, and lends the worker of this reconcile to other keys meanwhile.
    /// Returns when a worker is free again, or the process is about to end. Its place for long
    /// work is given to others for good.
    pub async fn without_worker<T>(&self, waiting: impl Future<Output = T>) -> T {
        self.long_work.end();
        self.worker.lend(waiting, self.stopped()).await
    }

    /// Whether the process is about to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until the process is about to end and the reconcile must stop its work.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

/// The result of the claim of one key.
#[derive(Debug)]
pub enum ClaimOutcome<C> {
    /// The key is claimed: reconcile it with this.
    Won(C),
    /// The key is not claimed, and is not reconciled now.
    Finished(Finished),
}

/// What a controller runs: claims and reconciles of the keys of one table. Most users
/// implement [`Resource`](crate::core::resource::Resource) instead; its
/// [`ResourceReconciler`](crate::core::resource::ResourceReconciler) adds lease, fence and status.
#[async_trait]
pub trait Reconciler: Send + Sync + 'static {
    /// What a won claim passes to its reconcile.
    type ClaimedKey: Send + 'static;
    /// Why a reconcile could not run. The key is retried soon, after a refusal with a growing
    /// delay.
    type Error: Error + Send + Sync + 'static;

    /// The controller's name, in metrics and logs.
    fn name(&self) -> &'static str;

    /// The keys that are due now or within `horizon`, oldest first, at most `limit`,
    /// each with the time until it is due. A backlog of slow work should not hide the rest.
    /// The cost should depend on the number of due keys and not on the size of the table.
    ///
    /// # Errors
    /// The controller logs them and makes the next full pass.
    async fn due(
        &self,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(String, Duration)>, Self::Error>;

    /// Whether this error would hit every other key too, so that none is started for
    /// a moment.
    fn is_outage(&self, error: &Self::Error) -> bool {
        let _ = error;
        false
    }

    /// Whether the database refuses this key's writes until a person changes something, so
    /// that the delay between its attempts grows.
    fn is_refusal(&self, error: &Self::Error) -> bool {
        let _ = error;
        false
    }

    /// Claims keys that start at the same time, in one batch. A key that is missing
    /// from the answer has no row.
    ///
    /// # Errors
    /// If a batch fails and it is not an outage, each key is claimed alone: one of them
    /// may have caused the failure.
    async fn claim(
        &self,
        keys: &[Key],
    ) -> Result<Vec<(Key, ClaimOutcome<Self::ClaimedKey>)>, Self::Error>;

    /// Brings the object of one claimed key closer to what is declared. Idempotent.
    ///
    /// # Errors
    /// Only if the reconcile itself could not run; a failure of the object is
    /// [`Finished::Failed`].
    async fn reconcile(
        &self,
        claimed: Self::ClaimedKey,
        signals: &Signals,
    ) -> Result<Finished, Self::Error>;
}
