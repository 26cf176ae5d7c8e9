//! Running reconciles: claims keys that start at the same time together, signals
//! wake-ups to running reconciles, and requeues each key by how it ended. A panic ends
//! only its own reconcile.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::lending::LentWorkers;
use super::reconciler::LongWork;
use super::{ClaimOutcome, ControllerSettings, Finished, Reconciler, Signals};
use crate::cause::chain;
use crate::core::metrics::{ActiveReconcile, ControllerMetrics, ReconcileResult};
use crate::core::queue::{Key, Lane, Offered, Queue, Start};
use crate::core::refusals::Refusals;
use crate::core::workload::{self, Workload};

/// How long no key is started after a reconcile reported an outage.
const OUTAGE_PAUSE: Duration = Duration::from_secs(1);

/// The shortest time between two reports of the workload.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// How long a change of the workload waits for its report: who writes it must not delay the claim
/// that a wake-up causes, and most reconciles of an idle daemon end before it.
const REPORT_AFTER: Duration = Duration::from_millis(100);

type Claims<R> =
    Result<Vec<(Key, ClaimOutcome<<R as Reconciler>::ClaimedKey>)>, <R as Reconciler>::Error>;
type ReconcileEnd<R> = Result<Finished, <R as Reconciler>::Error>;

/// How a task ended.
enum TaskEnd<R: Reconciler> {
    /// It claimed keys.
    Claimed(Claims<R>),
    /// It reconciled one key.
    Reconciled(ReconcileEnd<R>),
}

struct RunningKey {
    woken: Arc<Notify>,
    due: Instant,
    lane: Lane,
    /// Its place for long work, until its reconcile starts.
    place: Option<OwnedSemaphorePermit>,
    reconcile: ActiveReconcile,
}

pub(super) struct Workers<R: Reconciler> {
    reconciler: Arc<R>,
    settings: ControllerSettings,
    metrics: ControllerMetrics,
    queue: Queue,
    /// Places for long work: fewer than workers.
    places: Arc<Semaphore>,
    /// Keys between their start and the end of their reconcile.
    running: HashMap<Key, RunningKey>,
    tasks: JoinSet<TaskEnd<R>>,
    /// The keys of each task.
    keys: HashMap<Id, Vec<Key>>,
    lent: LentWorkers,
    requeue: bool,
    refusals: Refusals,
    workload: watch::Sender<Workload>,
    reported_at: Instant,
    /// The workload may have changed since its last report, and is reported at this time.
    report_at: Option<Instant>,
    /// During an outage no key is started before this.
    outage_until: Option<Instant>,
    stop: CancellationToken,
}

impl<R: Reconciler> Workers<R> {
    pub(super) fn new(
        reconciler: Arc<R>,
        settings: ControllerSettings,
        metrics: ControllerMetrics,
    ) -> Self {
        Self {
            reconciler,
            metrics,
            queue: Queue::new(settings.capacity, settings.workers()),
            places: Arc::new(Semaphore::new(settings.concurrency)),
            settings,
            running: HashMap::new(),
            tasks: JoinSet::new(),
            keys: HashMap::new(),
            lent: LentWorkers::default(),
            requeue: true,
            refusals: Refusals::default(),
            workload: watch::Sender::default(),
            reported_at: Instant::now(),
            report_at: Some(Instant::now()),
            outage_until: None,
            stop: CancellationToken::new(),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    pub(super) fn refusals(&self) -> Refusals {
        self.refusals.clone()
    }

    pub(super) fn workload(&self) -> watch::Receiver<Workload> {
        self.workload.subscribe()
    }

    /// The workload may have changed.
    fn changed(&mut self) {
        let soon = (Instant::now() + REPORT_AFTER).max(self.reported_at + REPORT_EVERY);
        self.report_at.get_or_insert(soon);
    }

    /// Reports the workload, at most every [`REPORT_EVERY`].
    pub(super) fn report(&mut self) {
        let now = Instant::now();
        if self.report_at.is_none_or(|at| now < at) {
            return;
        }
        (self.reported_at, self.report_at) = (now, None);
        let names = |keys: Vec<Key>| keys.iter().map(|key| key.to_string()).collect();
        let mut running: Vec<String> = names(self.running.keys().cloned().collect());
        running.sort_unstable();
        let next = self.queue.next(now, workload::NAMED);
        let workload = Workload {
            workers: self.settings.workers(),
            busy: self.queue.running(),
            places: self.settings.concurrency,
            taken: self
                .settings
                .concurrency
                .saturating_sub(self.places.available_permits()),
            running,
            waiting: self.queue.ready(now),
            long: self.queue.ready_long(now).min(next.len()),
            next: names(next),
        };
        self.workload.send_if_modified(|was| {
            let changed = *was != workload;
            *was = workload;
            changed
        });
    }

    /// When the next report is due, if something may have changed.
    pub(super) fn next_report(&self) -> Option<Instant> {
        self.report_at
    }

    /// Queues a key. A key that a full pass found waits for the delay after a refusal; a
    /// notification starts it at once, because a person may have removed the cause.
    pub(super) fn offer(&mut self, key: &str, due: Instant, lane: Lane) -> Offered {
        let due = match self.refusals.until(key) {
            Some(until) if lane == Lane::Routine => due.max(until),
            _ => due,
        };
        let offered = self.queue.offer(&Key::from(key), due, lane);
        self.changed();
        if matches!(offered, Offered::Added | Offered::Displaced(_)) {
            self.metrics.adds_total.inc();
        }
        offered
    }

    /// Signals a running reconcile that its row may have changed.
    pub(super) fn wake(&self, key: &str) {
        if let Some(running) = self.running.get(key) {
            running.woken.notify_one();
        }
    }

    /// Starts due keys for which a worker is free: claims them in one batch and
    /// reconciles those that were won.
    pub(super) fn start_due(&mut self) {
        let now = Instant::now();
        if self.outage_until.is_some_and(|until| now < until) {
            self.update_gauges(now);
            return;
        }
        let mut keys = Vec::new();
        while let Ok(place) = self.places.clone().try_acquire_owned() {
            let Some(started) = self.queue.take_long(now) else {
                break;
            };
            keys.push(self.started(started, Some(place), now));
        }
        while let Some(started) = self.queue.take(now) {
            keys.push(self.started(started, None, now));
        }
        if !keys.is_empty() {
            self.claim(keys);
        }
        self.update_gauges(now);
    }

    fn started(&mut self, start: Start, place: Option<OwnedSemaphorePermit>, now: Instant) -> Key {
        let waited = now.saturating_duration_since(start.due).as_secs_f64();
        self.metrics.queue_duration_seconds.observe(waited);
        if start.lane == Lane::Urgent {
            self.metrics.wakeup_to_start_seconds.observe(waited);
        }
        let running = RunningKey {
            woken: Arc::default(),
            due: start.due,
            lane: start.lane,
            place,
            reconcile: self.metrics.reconcile_began(),
        };
        self.running.insert(start.key.clone(), running);
        start.key
    }

    /// From now on a key is not requeued when its reconcile ends.
    pub(super) fn once_each(&mut self) {
        self.requeue = false;
    }

    /// When the next waiting key can start; none if no worker is free.
    pub(super) fn next_start(&self) -> Option<Instant> {
        let free = self.queue.has_free_worker();
        let place = self.places.available_permits() > 0;
        let long = self.queue.next_long_due().filter(|_| place);
        let next = self.queue.next_due().into_iter().chain(long).min();
        let due = next.filter(|_| free)?;
        Some(self.outage_until.map_or(due, |until| due.max(until)))
    }

    /// Waits until a claim or a reconcile ends, or a worker is lent, and handles that. Never
    /// returns if nothing runs. Cancel-safe.
    pub(super) async fn one_ended(&mut self) {
        tokio::select! {
            Some(ended) = self.tasks.join_next_with_id() => self.task_ended(ended),
            request = self.lent.request() => {
                self.lent.handle(request, &mut self.queue);
                self.update_gauges(Instant::now());
            }
        }
    }

    fn task_ended(&mut self, ended: Result<(Id, TaskEnd<R>), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let keys = self.keys.remove(&id).unwrap_or_default();
        match ended {
            Ok((_, TaskEnd::Claimed(claims))) => self.claimed(keys, claims),
            Ok((_, TaskEnd::Reconciled(end))) => {
                keys.iter().for_each(|key| self.reconciled(key, &end));
            }
            Err(_) => keys.iter().for_each(|key| self.panicked(key)),
        }
    }

    pub(super) async fn all_ended(&mut self) {
        while !self.running.is_empty() {
            self.one_ended().await;
        }
    }

    /// Asks every running reconcile to stop its work.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Claims keys. One key alone is reconciled by the task that claimed it: a wake-up waits for
    /// no other task.
    fn claim(&mut self, keys: Vec<Key>) {
        let (reconciler, wanted) = (self.reconciler.clone(), keys.clone());
        let alone = match wanted.as_slice() {
            [key] => self.signals(key),
            _ => None,
        };
        let task = self.tasks.spawn(async move {
            let mut claims = reconciler.claim(&wanted).await;
            if let (Some(signals), Ok(claims)) = (alone, &mut claims)
                && let won = claims.pop_if(|(_, outcome)| matches!(outcome, ClaimOutcome::Won(_)))
                && let Some((_, ClaimOutcome::Won(claimed))) = won
            {
                return TaskEnd::Reconciled(reconciler.reconcile(claimed, &signals).await);
            }
            TaskEnd::Claimed(claims)
        });
        self.keys.insert(task.id(), keys);
    }

    fn claimed(&mut self, mut keys: Vec<Key>, claims: Claims<R>) {
        match claims {
            Ok(claims) => {
                self.outage_until = None;
                for (key, outcome) in claims {
                    keys.retain(|asked| *asked != key);
                    match outcome {
                        ClaimOutcome::Won(claimed) => self.reconcile(key, claimed),
                        ClaimOutcome::Finished(finished) => self.finished(&key, finished),
                    }
                }
                // The remaining keys have no row.
                for key in keys {
                    self.finished(&key, Finished::Settled(None));
                }
            }
            // One row may have made the whole batch fail: each key is claimed alone.
            Err(error) if keys.len() > 1 && !self.reconciler.is_outage(&error) => {
                for key in keys {
                    self.claim(vec![key]);
                }
            }
            Err(error) => keys.iter().for_each(|key| self.failed(key, &error)),
        }
    }

    fn reconcile(&mut self, key: Key, claimed: R::ClaimedKey) {
        let Some(signals) = self.signals(&key) else {
            return;
        };
        let reconciler = self.reconciler.clone();
        let task = self.tasks.spawn(async move {
            TaskEnd::Reconciled(reconciler.reconcile(claimed, &signals).await)
        });
        self.keys.insert(task.id(), vec![key]);
    }

    /// The signals to the reconcile of a running key.
    fn signals(&mut self, key: &Key) -> Option<Signals> {
        let running = self.running.get_mut(key)?;
        Some(Signals {
            woken: running.woken.clone(),
            stop: self.stop.clone(),
            worker: self.lent.worker(key),
            long_work: LongWork::new(&self.places, running.place.take()),
        })
    }

    fn reconciled(&mut self, key: &Key, end: &ReconcileEnd<R>) {
        match end {
            Ok(finished) => {
                self.outage_until = None;
                self.finished(key, *finished);
            }
            Err(error) => self.failed(key, error),
        }
    }

    fn finished(&mut self, key: &Key, finished: Finished) {
        self.refusals.remove(key);
        if finished == Finished::NoPlace {
            return self.end_without_place(key);
        }
        self.end(key, finished.result(), finished.requeue_after());
    }

    /// Handles a claim or reconcile that could not run.
    fn failed(&mut self, key: &Key, error: &R::Error) {
        let outage = self.reconciler.is_outage(error);
        // One line for an outage, not one for each waiting key.
        if !outage || self.outage_until.is_none() {
            let error = error as &dyn Error;
            warn!(key = &**key, error, "reconcile could not run; retrying");
        }
        let refused = !outage && self.reconciler.is_refusal(error);
        let retry = if refused {
            self.metrics.refused_writes_total.inc();
            self.refusals.add(key, chain(error), &self.settings.refused)
        } else if outage {
            with_jitter(OUTAGE_PAUSE)
        } else {
            with_jitter(self.settings.retry)
        };
        self.outage_until = outage.then(|| Instant::now() + retry);
        self.end(key, ReconcileResult::Error, Some(retry));
    }

    fn panicked(&mut self, key: &Key) {
        error!(key = &**key, "reconcile panicked; retrying");
        self.metrics.reconcile_panics_total.inc();
        self.end(key, ReconcileResult::Error, Some(self.settings.resync));
    }

    fn end(&mut self, key: &Key, result: ReconcileResult, requeue_after: Option<Duration>) {
        let Some(running) = self.running.remove(key) else {
            return;
        };
        self.changed();
        let now = Instant::now();
        self.metrics.reconcile_ended(running.reconcile, result);
        // A refused key stays in the queue: full passes do not start it.
        let keep = self.refusals.until(key).is_some();
        let next = requeue_after
            .filter(|delay| self.requeue && (keep || *delay <= self.settings.horizon()))
            .and_then(|delay| now.checked_add(delay));
        self.queue.finish(key, next);
        self.lent.return_free(&mut self.queue);
        self.update_gauges(now);
    }

    /// Ends a reconcile that did nothing, because no place for long work was free.
    fn end_without_place(&mut self, key: &Key) {
        let Some(running) = self.running.remove(key) else {
            return;
        };
        let result = Finished::NoPlace.result();
        self.metrics.reconcile_ended(running.reconcile, result);
        self.queue.finish_long(key, running.due, running.lane);
        self.update_gauges(Instant::now());
    }

    fn update_gauges(&self, now: Instant) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.depth.set(count(self.queue.ready(now)));
        self.metrics.active_workers.set(count(self.queue.running()));
        self.metrics.refused_keys.set(count(self.refusals.count()));
    }
}

/// Adds jitter, so that keys that failed together are not retried together.
fn with_jitter(delay: Duration) -> Duration {
    delay.mul_f64(0.8 + 0.4 * fastrand::f64())
}
