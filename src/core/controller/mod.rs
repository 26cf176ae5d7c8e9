//! Runs a reconciler over the keys of a table: wake-ups, work queue, workers, full
//! passes.
//!
//! A key with a wake-up is reconciled at once. A full pass asks the [`Reconciler`] for
//! all due keys, every resync interval and on every wake-up for "everything", so a
//! lost wake-up only costs time. A key is never reconciled twice at the same time, a
//! panic ends only its own reconcile, and everything that waits is bounded. One process
//! runs several controllers, each with its own wake-up queue. This module knows no table.

mod lending;
mod reconciler;
mod workers;

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::core::backoff::Backoff;
use crate::core::metrics::ControllerMetrics;
use crate::core::queue::{Lane, Offered};
use crate::core::refusals::Refusals;
use crate::core::wakeups::{WakeupQueue, Wakeups};
use crate::core::workload::Workload;

use workers::Workers;

pub use reconciler::{ClaimOutcome, Finished, Reconciler, Signals};

/// The bounds of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerSettings {
    /// How many keys may be reconciled at once.
    pub concurrency: usize,
    /// The time between two full passes, with a jitter of a tenth.
    pub resync: Duration,
    /// How many keys may wait in the queue; a full pass finds the others.
    pub capacity: usize,
    /// The delay before a key is retried whose reconcile could not run.
    pub retry: Duration,
    /// The same for a key whose writes the database refuses.
    pub refused: Backoff,
    /// How long running reconciles may continue after a shutdown begins.
    pub finish_within: Duration,
    /// How long they may then take to stop.
    pub stop_within: Duration,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self {
            concurrency: 3,
            resync: Duration::from_secs(30),
            capacity: 2048,
            retry: Duration::from_secs(5),
            refused: Backoff::default(),
            finish_within: Duration::from_secs(10),
            stop_within: Duration::from_secs(15),
        }
    }
}

/// How far ahead a full pass searches, in resync intervals: more than one, so that a
/// key that becomes due before the next full pass starts on time.
const HORIZON: f64 = 1.2;

impl ControllerSettings {
    /// The queue keeps no key that is due later than this; a later full pass finds it.
    /// A queue full of distant times would have no room for work.
    fn horizon(&self) -> Duration {
        self.resync.mul_f64(HORIZON)
    }
}

/// The shortest time between two full passes, however many wake-ups arrive.
const MIN_PASS_INTERVAL: Duration = Duration::from_millis(100);

/// The longest sleep of a controller.
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// The same while every worker is busy, so that the metric of waiting keys stays current.
const MAX_SLEEP_BUSY: Duration = Duration::from_secs(1);

type FullPass<E> = JoinHandle<Result<Vec<(String, Duration)>, E>>;

/// The control loop; see the module's comment.
pub struct Controller<R: Reconciler> {
    // inputs
    reconciler: Arc<R>,
    settings: ControllerSettings,
    wakeups: WakeupQueue,
    // outputs
    metrics: ControllerMetrics,
    // internal state
    workers: Workers<R>,
    pass: Option<FullPass<R::Error>>,
    next_pass: Instant,
    /// The last full pass failed, and that was logged.
    pass_failed: bool,
    /// More keys are due than the queue had room for.
    more: bool,
}

impl<R: Reconciler> Controller<R> {
    /// Does nothing until [`Controller::run`] or [`Controller::run_once`].
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

    /// The keys whose writes the database refuses.
    pub fn refusals(&self) -> Refusals {
        self.workers.refusals()
    }

    /// What the workers do, and what waits for them.
    pub fn workload(&self) -> watch::Receiver<Workload> {
        self.workers.workload()
    }

    /// Reconciles until `shutdown`. Then it starts nothing new, lets running reconciles
    /// finish within [`ControllerSettings::finish_within`], asks the others to stop, and
    /// returns when they have stopped or [`ControllerSettings::stop_within`] has passed.
    pub async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            self.workers.start_due();
            self.workers.report();
            self.start_pass();
            let wake = self.wake_at();
            // Every arm is cancel-safe.
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

    /// Reconciles every key that is due now, once, and waits for the end. It does not
    /// wait for later retries.
    ///
    /// # Errors
    /// If the due keys cannot be read.
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
                    warn!(
                        "more keys are due than one full pass can hold, and none of them makes progress"
                    );
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
                // Keys that wait although nothing runs wait for the end of an outage.
                let next = self
                    .workers
                    .next_start()
                    .unwrap_or_else(|| Instant::now() + MAX_SLEEP);
                tokio::select! {
                    () = self.workers.one_ended() => {}
                    // A lasting outage ends the run, but only when no reconcile runs.
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
                Offered::Rejected | Offered::Displaced(_) => self.more = true,
                Offered::Added | Offered::Merged | Offered::Running => {}
            }
        }
    }

    /// Starts a full pass when it is due, or when the queue has room again for keys that
    /// the last one could not queue.
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

    fn pass_ended(&mut self, found: Result<Vec<(String, Duration)>, FullPassError<R::Error>>) {
        let now = Instant::now();
        self.next_pass = self.next_pass.max(now + MIN_PASS_INTERVAL);
        match found {
            Ok(found) => {
                self.pass_failed = false;
                self.metrics.resynced();
                self.more |= found.len() >= self.settings.capacity;
                for (key, delay) in found {
                    match self.workers.offer(&key, now + delay, Lane::Routine) {
                        Offered::Rejected => {
                            self.more = true;
                            break;
                        }
                        Offered::Displaced(_) => self.more = true,
                        Offered::Added | Offered::Merged | Offered::Running => {}
                    }
                }
            }
            Err(FullPassError::Failed(error)) => {
                // One line for an outage, not one for each full pass.
                if !std::mem::replace(&mut self.pass_failed, true) {
                    let error = &error as &dyn Error;
                    warn!(error, "full pass failed; retrying");
                }
                self.next_pass = now + self.settings.retry.min(self.settings.resync);
            }
            Err(FullPassError::Panicked) => {
                self.metrics.reconcile_panics_total.inc();
                error!("full pass panicked; retrying at the next resync");
            }
        }
    }

    fn wake_at(&self) -> Instant {
        let pass = if self.pass.is_some() {
            None
        } else {
            Some(self.next_pass)
        };
        let busy = self.workers.running() >= self.settings.concurrency;
        let max_sleep = if busy { MAX_SLEEP_BUSY } else { MAX_SLEEP };
        let latest = Instant::now() + max_sleep;
        self.workers
            .next_start()
            .into_iter()
            .chain(pass)
            .chain(self.workers.next_report())
            .min()
            .unwrap_or(latest)
            .min(latest)
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
                "abandoning running reconciles"
            );
        }
    }
}

enum FullPassError<E> {
    Failed(E),
    Panicked,
}

/// Waits for the running full pass, if there is one. Cancel-safe: the handle stays.
async fn joined<E>(
    pass: &mut Option<FullPass<E>>,
) -> Result<Vec<(String, Duration)>, FullPassError<E>> {
    let Some(handle) = pass else {
        return std::future::pending().await;
    };
    let ended = handle.await;
    *pass = None;
    ended
        .map_err(|_| FullPassError::Panicked)?
        .map_err(FullPassError::Failed)
}
