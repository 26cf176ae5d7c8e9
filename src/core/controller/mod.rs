//! Running any reconciler over any table: queue, workers, wake-ups, resync.
//!
//! It knows no table. The [`Reconciler`] finds what is due, on every wake-up for
//! "everything" and every resync interval, so a lost wake-up costs time only
//! (level-triggered); a key with a wake-up starts at once (event-driven). A key
//! never runs twice at the same time, a panic in one pass is contained in it, and
//! everything that waits is bounded. One process runs several controllers, each
//! with a wake-up queue of its own.

mod workers;

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::core::metrics::{ControllerMetrics, ReconcileResult};
use crate::core::queue::{Key, Lane, Offered};
use crate::core::wakeups::{WakeupQueue, Wakeups};

use workers::Workers;

/// How a pass ended, and when the key is to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// As wanted. The next look, if one is known; one beyond the next full
    /// pass is not kept in mind, [`Reconciler::due`] must find it.
    Settled(Option<Duration>),
    /// Something else must happen first; look again after this.
    Waiting(Duration),
    /// It failed; try again after this.
    Failed(Duration),
}

impl Finished {
    /// The row has changed: look again at once.
    pub const AGAIN: Self = Self::Waiting(Duration::ZERO);

    fn result(self) -> ReconcileResult {
        match self {
            Self::Settled(_) => ReconcileResult::Success,
            Self::Waiting(Duration::ZERO) => ReconcileResult::Requeue,
            Self::Waiting(_) => ReconcileResult::RequeueAfter,
            Self::Failed(_) => ReconcileResult::Error,
        }
    }

    fn look_again(self) -> Option<Duration> {
        match self {
            Self::Settled(next) => next,
            Self::Waiting(next) | Self::Failed(next) => Some(next),
        }
    }
}

/// What a pass is signalled while it runs.
#[derive(Clone, Debug)]
pub struct Signals {
    woken: Arc<Notify>,
    stop: CancellationToken,
}

impl Signals {
    /// Waits for another wake-up of the key: the row may have changed.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Waits until the process wants to end and the pass should cut its work
    /// short.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

/// What became of the claim of one key.
#[derive(Debug)]
pub enum ClaimOutcome<C> {
    /// It is to be reconciled with this.
    Won(C),
    /// It is not ours to reconcile now.
    Finished(Finished),
}

/// What a controller runs: the claims and passes over the keys of some table.
/// Implement [`super::resource::Resource`] rather than this: its
/// [`super::resource::ResourceReconciler`] brings lease, fence and status.
#[async_trait]
pub trait Reconciler: Send + Sync + 'static {
    /// What a won claim hands to its pass.
    type Claimed: Send + 'static;
    /// Why a pass could not be made; its consequence is always the same: the
    /// key is tried again soon.
    type Error: Error + Send + Sync + 'static;

    /// The controller's name, in metrics and logs.
    fn name(&self) -> &'static str;

    /// The keys that are due now or within `horizon`, oldest first, at most
    /// `limit`, each with the time until it is due. Its cost should grow with
    /// its answer, not with the table.
    ///
    /// # Errors
    /// Reported; the next pass comes all the same.
    async fn due(
        &self,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(String, Duration)>, Self::Error>;

    /// Whether an error says that nothing can be done for any key now, so that
    /// starting others would only repeat it.
    fn is_outage(&self, error: &Self::Error) -> bool {
        let _ = error;
        false
    }

    /// Claims keys that start at the same time, in one go. A key that is not in
    /// the answer has no row.
    ///
    /// # Errors
    /// If it is no outage, each of several keys is claimed alone: one of them may
    /// have spoilt the claim of all.
    async fn claim(
        &self,
        keys: &[Key],
    ) -> Result<Vec<(Key, ClaimOutcome<Self::Claimed>)>, Self::Error>;

    /// Brings one claimed key closer to what is declared. Idempotent.
    ///
    /// # Errors
    /// Only when the pass itself could not be made; what fails about the key
    /// is [`Finished::Failed`].
    async fn reconcile(
        &self,
        claimed: Self::Claimed,
        signals: &Signals,
    ) -> Result<Finished, Self::Error>;
}

/// The bounds of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerSettings {
    /// How many keys may run at once.
    pub concurrency: usize,
    /// Between two full passes; spread by a tenth.
    pub resync: Duration,
    /// How many keys may wait; the rest is found again by a pass.
    pub capacity: usize,
    /// Before a key whose pass could not be made is tried again.
    pub retry: Duration,
    /// How long running passes may go on after a shutdown began.
    pub finish_within: Duration,
    /// How long passes may take to cut their work short after that.
    pub stop_within: Duration,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self {
            concurrency: 3,
            resync: Duration::from_secs(30),
            capacity: 2048,
            retry: Duration::from_secs(5),
            finish_within: Duration::from_secs(10),
            stop_within: Duration::from_secs(15),
        }
    }
}

/// How far ahead a pass looks, in resync intervals: a little more than one, so
/// that what becomes due before the next pass is started to the second.
const HORIZON: f64 = 1.2;

impl ControllerSettings {
    /// What is due later than this is a later pass's to find, and the queue does not keep
    /// it in mind: a queue full of distant times would have no room for work.
    fn horizon(&self) -> Duration {
        self.resync.mul_f64(HORIZON)
    }
}

/// Two passes are at least this far apart, however many wake-ups come.
const PASS_APART: Duration = Duration::from_millis(100);

/// How long a controller sleeps at most.
const FAR: Duration = Duration::from_secs(60);
/// The same while every worker is busy: what waits is to be counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);

type Pass<E> = JoinHandle<Result<Vec<(String, Duration)>, E>>;

/// The loop; see the module's comment.
pub struct Controller<R: Reconciler> {
    // inputs
    reconciler: Arc<R>,
    settings: ControllerSettings,
    wakeups: WakeupQueue,
    // outputs
    metrics: ControllerMetrics,
    // internal state
    workers: Workers<R>,
    pass: Option<Pass<R::Error>>,
    next_pass: Instant,
    /// The last full pass failed, and that was logged.
    pass_failed: bool,
    /// The last pass was full, so there is more than it found.
    more: bool,
}

impl<R: Reconciler> Controller<R> {
    /// A controller that has not looked at anything yet.
    pub fn new(
        reconciler: Arc<R>,
        settings: ControllerSettings,
        wakeups: WakeupQueue,
        metrics: ControllerMetrics,
    ) -> Self {
        metrics
            .max_concurrent_reconciles
            .set(i64::try_from(settings.concurrency).unwrap_or(i64::MAX));
        Self {
            workers: Workers::new(reconciler.clone(), settings, metrics.clone()),
            reconciler,
            settings,
            wakeups,
            metrics,
            pass: None,
            next_pass: Instant::now(),
            pass_failed: false,
            more: false,
        }
    }

    /// Reconciles until `shutdown`; then starts nothing new, lets running
    /// passes finish within [`ControllerSettings::finish_within`], asks them to
    /// stop, and returns when they did, at the latest after
    /// [`ControllerSettings::stop_within`] more.
    pub async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            self.workers.start_due();
            self.start_pass();
            let wake = self.wake_at();
            // Every arm is cancel-safe; the work is done after the select.
            tokio::select! {
                woken = self.wakeups.wait() => self.wake(woken),
                () = self.workers.one_ended() => {}
                found = joined(&mut self.pass) => self.pass_ended(found),
                () = sleep_until(wake.into()) => {}
                () = shutdown.cancelled() => {}
            }
        }
        if let Some(pass) = self.pass.take() {
            pass.abort();
        }
        self.drain().await;
    }

    /// Makes one complete pass: everything that is due now gets one pass, and
    /// what these passes started is waited for. Later retries are not.
    ///
    /// # Errors
    /// When what is due cannot be found.
    pub async fn run_once(mut self, shutdown: CancellationToken) -> Result<(), R::Error> {
        self.workers.once_each();
        let mut seen: HashSet<String> = HashSet::new();
        loop {
            let room = self.settings.capacity;
            let found = self.reconciler.due(Duration::ZERO, room).await?;
            let full = found.len() >= room;
            let fresh: Vec<String> = found
                .into_iter()
                .map(|(key, _)| key)
                .filter(|key| !seen.contains(key))
                .collect();
            if fresh.is_empty() {
                if full {
                    warn!("more is due than one pass can hold, and none of it moves");
                }
                return Ok(());
            }
            for key in fresh {
                self.workers.offer(&key, Instant::now(), Lane::Routine);
                seen.insert(key);
            }
            self.metrics.resync_total.inc();
            self.metrics.resynced();
            self.workers.start_due();
            while self.workers.running() + self.workers.waiting() > 0 {
                // What waits although nothing runs waits out an outage.
                let next = self
                    .workers
                    .next_start()
                    .unwrap_or_else(|| Instant::now() + FAR);
                tokio::select! {
                    () = self.workers.one_ended() => {}
                    // An outage that lasts ends this; what runs comes to its end first.
                    () = sleep_until(next.into()) => if self.workers.running() == 0 {
                        self.reconciler.due(Duration::ZERO, 1).await?;
                    },
                    () = shutdown.cancelled() => {
                        self.drain().await;
                        return Ok(());
                    }
                }
                self.workers.start_due();
            }
        }
    }

    fn wake(&mut self, woken: Wakeups) {
        let now = Instant::now();
        if woken.everything {
            self.next_pass = now;
        }
        self.metrics
            .notifications_total
            .inc_by(woken.keys.len() as u64);
        for (key, since) in woken.keys {
            self.workers.wake(&key);
            match self.workers.offer(&key, since, Lane::Urgent) {
                Offered::Refused | Offered::Displaced(_) => self.more = true,
                Offered::Added | Offered::Merged | Offered::Running => {}
            }
        }
    }

    /// Starts a full pass when it is time, or when the backlog that the last
    /// one left behind fits in by now.
    fn start_pass(&mut self) {
        let now = Instant::now();
        let backlog = self.more && self.workers.waiting() < self.settings.capacity / 2;
        if self.pass.is_some() || (now < self.next_pass && !backlog) {
            return;
        }
        self.more = false;
        self.metrics.resync_total.inc();
        let spread = 0.9 + 0.2 * fastrand::f64();
        self.next_pass = now + self.settings.resync.mul_f64(spread);
        let (reconciler, limit) = (self.reconciler.clone(), self.settings.capacity);
        let horizon = self.settings.horizon();
        self.pass = Some(tokio::spawn(
            async move { reconciler.due(horizon, limit).await },
        ));
    }

    fn pass_ended(&mut self, found: Result<Vec<(String, Duration)>, PassError<R::Error>>) {
        let now = Instant::now();
        self.next_pass = self.next_pass.max(now + PASS_APART);
        match found {
            Ok(found) => {
                self.pass_failed = false;
                self.metrics.resynced();
                self.more |= found.len() >= self.settings.capacity;
                for (key, delay) in found {
                    match self.workers.offer(&key, now + delay, Lane::Routine) {
                        Offered::Refused => {
                            self.more = true;
                            break;
                        }
                        Offered::Displaced(_) => self.more = true,
                        Offered::Added | Offered::Merged | Offered::Running => {}
                    }
                }
            }
            Err(PassError::Failed(error)) => {
                // One line for an outage, not one for each pass.
                if !std::mem::replace(&mut self.pass_failed, true) {
                    let error = &error as &dyn Error;
                    warn!(error, "full pass failed; the next one comes");
                }
                self.next_pass = now + self.settings.retry.min(self.settings.resync);
            }
            Err(PassError::Panicked) => {
                self.metrics.reconcile_panics_total.inc();
                error!("full pass panicked; the next one comes");
            }
        }
    }

    fn wake_at(&self) -> Instant {
        let pass = if self.pass.is_some() {
            None
        } else {
            Some(self.next_pass)
        };
        // While keys wait for a worker, how many are due changes by itself.
        let crowded = self.workers.running() >= self.settings.concurrency;
        let far = if crowded { COUNT_EVERY } else { FAR };
        let far = Instant::now() + far;
        self.workers
            .next_start()
            .into_iter()
            .chain(pass)
            .min()
            .unwrap_or(far)
            .min(far)
    }

    async fn drain(&mut self) {
        let running = self.workers.running();
        if running == 0 {
            return;
        }
        info!(running, "waiting for running reconciles to finish");
        let finish = Instant::now() + self.settings.finish_within;
        if timeout_at(finish.into(), self.workers.all_ended())
            .await
            .is_ok()
        {
            return;
        }
        info!(
            running = self.workers.running(),
            "asking running reconciles to stop"
        );
        self.workers.stop();
        let stop = Instant::now() + self.settings.stop_within;
        if timeout_at(stop.into(), self.workers.all_ended())
            .await
            .is_err()
        {
            // Dropping them closes the control sockets of their commands.
            warn!(
                running = self.workers.running(),
                "giving up running reconciles"
            );
        }
    }
}

enum PassError<E> {
    Failed(E),
    Panicked,
}

/// Waits for a pass, if there is one. Cancel-safe: the handle stays.
async fn joined<E>(pass: &mut Option<Pass<E>>) -> Result<Vec<(String, Duration)>, PassError<E>> {
    let Some(handle) = pass else {
        return std::future::pending().await;
    };
    let ended = handle.await;
    *pass = None;
    ended
        .map_err(|_| PassError::Panicked)?
        .map_err(PassError::Failed)
}
