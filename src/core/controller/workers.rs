//! Turns under way: who runs, who is told to look again, how each ended.
//! A panic ends its own turn only.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{ControllerSettings, Finished, Reconciler, Turn};
use crate::core::metrics::{ControllerMetrics, ReconcileResult, Working};
use crate::core::queue::{Key, Lane, Offered, Queue};

/// How long nothing is started after a turn found that nothing can be done.
const OUTAGE: Duration = Duration::from_secs(1);

type Ended<E> = Result<Finished, E>;

struct Running {
    key: Key,
    nudge: Arc<Notify>,
    working: Working,
}

pub(super) struct Workers<R: Reconciler> {
    reconciler: Arc<R>,
    settings: ControllerSettings,
    metrics: ControllerMetrics,
    queue: Queue,
    tasks: JoinSet<Ended<R::Error>>,
    running: HashMap<Id, Running>,
    requeue: bool,
    /// While nothing can be done for any key, none is started before this.
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
            queue: Queue::new(settings.capacity, settings.concurrency),
            settings,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            requeue: true,
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

    pub(super) fn offer(&mut self, key: &str, due: Instant, lane: Lane) -> Offered {
        let offered = self.queue.offer(&Key::from(key), due, lane);
        if matches!(offered, Offered::Added | Offered::Displaced(_)) {
            self.metrics.adds_total.inc();
        }
        offered
    }

    /// Tells a running turn that its row may have changed.
    pub(super) fn nudge(&self, key: &str) {
        if self.queue.is_running(key)
            && let Some(running) = self.running.values().find(|running| &*running.key == key)
        {
            running.nudge.notify_one();
        }
    }

    /// Starts every key that is due, as far as there are workers.
    pub(super) fn start_due(&mut self) {
        let now = Instant::now();
        if self.outage_until.is_some_and(|until| now < until) {
            self.show(now);
            return;
        }
        while let Some(turn) = self.queue.take(now) {
            let waited = now.saturating_duration_since(turn.due).as_secs_f64();
            self.metrics.queue_duration_seconds.observe(waited);
            if turn.lane == Lane::Urgent {
                self.metrics.wakeup_to_start_seconds.observe(waited);
            }
            self.start(turn.key);
        }
        self.show(now);
    }

    /// From now on a turn that ends is not followed by another of its key.
    pub(super) fn once_each(&mut self) {
        self.requeue = false;
    }

    /// When something waiting can start: when it is due and no outage is waited
    /// out any more, if a worker is free for it.
    pub(super) fn next_start(&self) -> Option<Instant> {
        let free = self.queue.running() < self.settings.concurrency;
        let due = self.queue.next_due().filter(|_| free)?;
        Some(self.outage_until.map_or(due, |until| due.max(until)))
    }

    /// Waits until a turn ended, and books it; for ever if none runs.
    /// Cancel-safe.
    pub(super) async fn one_ended(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, ended))) => self.book(id, Ok(ended)),
            Some(Err(failed)) => self.book(failed.id(), Err(failed)),
            None => std::future::pending().await,
        }
    }

    pub(super) async fn all_ended(&mut self) {
        while !self.tasks.is_empty() {
            self.one_ended().await;
        }
    }

    /// Asks every running turn to cut its work short.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    fn start(&mut self, key: Key) {
        let nudge = Arc::new(Notify::new());
        let turn = Turn {
            nudge: nudge.clone(),
            stop: self.stop.clone(),
        };
        let (reconciler, task_key) = (self.reconciler.clone(), key.clone());
        let task = self
            .tasks
            .spawn(async move { reconciler.reconcile(&task_key, &turn).await });
        self.running.insert(
            task.id(),
            Running {
                key,
                nudge,
                working: self.metrics.turn_began(),
            },
        );
    }

    fn book(&mut self, id: Id, ended: Result<Ended<R::Error>, JoinError>) {
        let Some(running) = self.running.remove(&id) else {
            return;
        };
        let now = Instant::now();
        let (result, look_again) = match ended {
            Ok(Ok(finished)) => {
                self.outage_until = None;
                (finished.result(), finished.look_again())
            }
            Ok(Err(error)) => {
                let outage = self.reconciler.is_outage(&error);
                // One line for an outage, not one for each key that waits.
                if !outage || self.outage_until.is_none() {
                    let error = &error as &dyn Error;
                    warn!(
                        key = &*running.key,
                        error, "reconcile could not be made; it is tried again"
                    );
                }
                let retry = if outage { OUTAGE } else { self.settings.retry };
                let retry = spread(retry);
                self.outage_until = outage.then(|| now + retry);
                (ReconcileResult::Error, Some(retry))
            }
            Err(_) => {
                error!(key = &*running.key, "reconcile panicked; it is tried again");
                self.metrics.reconcile_panics_total.inc();
                (ReconcileResult::Error, Some(self.settings.resync))
            }
        };
        self.metrics.turn_ended(running.working, result);
        let next = look_again
            .filter(|delay| self.requeue && *delay <= self.settings.horizon())
            .and_then(|delay| now.checked_add(delay));
        self.queue.finish(&running.key, next);
        self.show(now);
    }

    fn show(&self, now: Instant) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.depth.set(count(self.queue.ready(now)));
        self.metrics.active_workers.set(count(self.queue.running()));
    }
}

/// Spread, so that keys which failed together do not come back together.
fn spread(delay: Duration) -> Duration {
    delay.mul_f64(0.8 + 0.4 * fastrand::f64())
}
