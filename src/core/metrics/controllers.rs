//! The metrics of one controller: its reconciles and its queue.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry,
};

use super::{LeaseMetrics, StepMetrics, catalogue as names, collectors as create};

/// How a reconcile ended, as controller-runtime counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ReconcileResult {
    /// The object is as declared.
    Success,
    /// The object or the reconcile failed.
    Error,
    /// The key is reconciled again at once.
    Requeue,
    /// The key waits for something and is reconciled again later.
    RequeueAfter,
}

impl ReconcileResult {
    const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The value of the label `result`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The running reconciles, for metrics that depend on the current time.
#[derive(Clone, Debug, Default)]
struct ActiveReconciles {
    starts: Arc<Mutex<StartTimes>>,
}

#[derive(Debug, Default)]
struct StartTimes {
    next: u64,
    by_number: BTreeMap<u64, Instant>,
}

impl ActiveReconciles {
    fn lock(&self) -> MutexGuard<'_, StartTimes> {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running reconcile, until this is dropped.
#[derive(Debug)]
pub struct ActiveReconcile {
    active: ActiveReconciles,
    number: u64,
    started: Instant,
}

impl ActiveReconcile {
    fn start(active: ActiveReconciles) -> Self {
        let started = Instant::now();
        let number = {
            let mut starts = active.lock();
            starts.next += 1;
            let number = starts.next;
            starts.by_number.insert(number, started);
            number
        };
        Self {
            active,
            number,
            started,
        }
    }
}

impl Drop for ActiveReconcile {
    fn drop(&mut self) {
        self.active.lock().by_number.remove(&self.number);
    }
}

/// The metrics of one controller, with its name as a label.
#[derive(Clone, Debug)]
pub struct ControllerMetrics {
    reconcile_total: [IntCounter; ReconcileResult::ALL.len()],
    reconcile_errors_total: IntCounter,
    /// Failures that no retry fixes.
    pub terminal_errors_total: IntCounter,
    /// Reconciles that panicked.
    pub reconcile_panics_total: IntCounter,
    /// Commands that were stopped at their deadline.
    pub reconcile_timeouts_total: IntCounter,
    /// Reconciles whose write the database refused.
    pub refused_writes_total: IntCounter,
    /// Keys whose row cannot show that.
    pub refused_keys: IntGauge,
    reconcile_time_seconds: Histogram,
    /// Running reconciles.
    pub active_workers: IntGauge,
    /// How many reconciles may run at once.
    pub max_concurrent_reconciles: IntGauge,
    /// From the arrival of a notification to the start of its reconcile.
    pub wakeup_to_start_seconds: Histogram,
    /// Keys that had a wake-up.
    pub notifications_total: IntCounter,
    /// Full passes that were started.
    pub resync_total: IntCounter,
    last_resync_timestamp_seconds: Gauge,
    last_resync_age_seconds: Gauge,
    /// Of the last successful full pass, or of the start.
    last_resync: Arc<Mutex<Instant>>,
    /// Keys that wait and are due.
    pub depth: IntGauge,
    /// Keys that were added to the queue.
    pub adds_total: IntCounter,
    retries_total: IntCounter,
    /// From the due time to the start.
    pub queue_duration_seconds: Histogram,
    work_duration_seconds: Histogram,
    unfinished_work_seconds: Gauge,
    longest_running_processor_seconds: Gauge,
    active: ActiveReconciles,
    /// Leases of this process.
    pub leases: LeaseMetrics,
    /// Steps of this controller.
    pub steps: StepMetrics,
}

impl ControllerMetrics {
    /// Counts a reconcile as running.
    pub fn reconcile_began(&self) -> ActiveReconcile {
        ActiveReconcile::start(self.active.clone())
    }

    /// Counts an ended reconcile.
    pub fn reconcile_ended(&self, reconcile: ActiveReconcile, result: ReconcileResult) {
        let took = reconcile.started.elapsed().as_secs_f64();
        let index = ReconcileResult::ALL.iter().position(|r| *r == result);
        self.reconcile_total[index.unwrap_or_default()].inc();
        if result == ReconcileResult::Error {
            self.reconcile_errors_total.inc();
            self.retries_total.inc();
        }
        self.reconcile_time_seconds.observe(took);
        self.work_duration_seconds.observe(took);
        // Last, so that a reconcile that is no longer active is already counted.
        drop(reconcile);
    }

    /// Sets the time of the last successful full pass to now.
    pub fn resynced(&self) {
        let now = jiff::Timestamp::now().as_millisecond() as f64 / 1e3;
        self.last_resync_timestamp_seconds.set(now);
        *self.lock_last_resync() = Instant::now();
    }

    fn lock_last_resync(&self) -> MutexGuard<'_, Instant> {
        self.last_resync
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the metrics that depend on the current time.
    pub(super) fn refresh(&self) {
        let now = Instant::now();
        let age = now.saturating_duration_since(*self.lock_last_resync());
        self.last_resync_age_seconds.set(age.as_secs_f64());
        let since = |started: &Instant| now.saturating_duration_since(*started);
        let (sum, longest) = {
            let starts = self.active.lock();
            let all = starts.by_number.values().map(since);
            (all.clone().sum::<Duration>(), all.max().unwrap_or_default())
        };
        self.unfinished_work_seconds.set(sum.as_secs_f64());
        self.longest_running_processor_seconds
            .set(longest.as_secs_f64());
    }
}

/// The families of all controllers.
#[derive(Debug)]
pub(super) struct Families {
    reconcile_total: IntCounterVec,
    reconcile_errors_total: IntCounterVec,
    terminal_errors_total: IntCounterVec,
    reconcile_panics_total: IntCounterVec,
    reconcile_timeouts_total: IntCounterVec,
    refused_writes_total: IntCounterVec,
    refused_keys: IntGaugeVec,
    reconcile_time_seconds: HistogramVec,
    active_workers: IntGaugeVec,
    max_concurrent_reconciles: IntGaugeVec,
    wakeup_to_start_seconds: HistogramVec,
    notifications_total: IntCounterVec,
    resync_total: IntCounterVec,
    last_resync_timestamp_seconds: GaugeVec,
    last_resync_age_seconds: GaugeVec,
    depth: IntGaugeVec,
    adds_total: IntCounterVec,
    retries_total: IntCounterVec,
    queue_duration_seconds: HistogramVec,
    work_duration_seconds: HistogramVec,
    unfinished_work_seconds: GaugeVec,
    longest_running_processor_seconds: GaugeVec,
}

impl Families {
    pub(super) fn new(r: &Registry) -> Self {
        Self {
            reconcile_total: create::counters(r, &names::RECONCILE_TOTAL),
            reconcile_errors_total: create::counters(r, &names::RECONCILE_ERRORS_TOTAL),
            terminal_errors_total: create::counters(r, &names::TERMINAL_RECONCILE_ERRORS_TOTAL),
            reconcile_panics_total: create::counters(r, &names::RECONCILE_PANICS_TOTAL),
            reconcile_timeouts_total: create::counters(r, &names::RECONCILE_TIMEOUTS_TOTAL),
            refused_writes_total: create::counters(r, &names::REFUSED_WRITES_TOTAL),
            refused_keys: create::gauges(r, &names::REFUSED_KEYS),
            reconcile_time_seconds: create::histograms(r, &names::RECONCILE_TIME_SECONDS),
            active_workers: create::gauges(r, &names::ACTIVE_WORKERS),
            max_concurrent_reconciles: create::gauges(r, &names::MAX_CONCURRENT_RECONCILES),
            wakeup_to_start_seconds: create::histograms(r, &names::WAKEUP_TO_START_SECONDS),
            notifications_total: create::counters(r, &names::NOTIFICATIONS_TOTAL),
            resync_total: create::counters(r, &names::RESYNC_TOTAL),
            last_resync_timestamp_seconds: create::float_gauges(
                r,
                &names::LAST_RESYNC_TIMESTAMP_SECONDS,
            ),
            last_resync_age_seconds: create::float_gauges(r, &names::LAST_RESYNC_AGE_SECONDS),
            depth: create::gauges(r, &names::WORKQUEUE_DEPTH),
            adds_total: create::counters(r, &names::WORKQUEUE_ADDS_TOTAL),
            retries_total: create::counters(r, &names::WORKQUEUE_RETRIES_TOTAL),
            queue_duration_seconds: create::histograms(r, &names::WORKQUEUE_QUEUE_DURATION_SECONDS),
            work_duration_seconds: create::histograms(r, &names::WORKQUEUE_WORK_DURATION_SECONDS),
            unfinished_work_seconds: create::float_gauges(
                r,
                &names::WORKQUEUE_UNFINISHED_WORK_SECONDS,
            ),
            longest_running_processor_seconds: create::float_gauges(
                r,
                &names::WORKQUEUE_LONGEST_RUNNING_PROCESSOR_SECONDS,
            ),
        }
    }

    /// The metrics of one controller, all at zero.
    pub(super) fn of(
        &self,
        name: &str,
        leases: LeaseMetrics,
        steps: StepMetrics,
    ) -> ControllerMetrics {
        let one = &[name][..];
        let queue = &[name, name][..];
        ControllerMetrics {
            reconcile_total: std::array::from_fn(|index| {
                let result = ReconcileResult::ALL[index].as_str();
                self.reconcile_total.with_label_values(&[name, result])
            }),
            reconcile_errors_total: self.reconcile_errors_total.with_label_values(one),
            terminal_errors_total: self.terminal_errors_total.with_label_values(one),
            reconcile_panics_total: self.reconcile_panics_total.with_label_values(one),
            reconcile_timeouts_total: self.reconcile_timeouts_total.with_label_values(one),
            refused_writes_total: self.refused_writes_total.with_label_values(one),
            refused_keys: self.refused_keys.with_label_values(one),
            reconcile_time_seconds: self.reconcile_time_seconds.with_label_values(one),
            active_workers: self.active_workers.with_label_values(one),
            max_concurrent_reconciles: self.max_concurrent_reconciles.with_label_values(one),
            wakeup_to_start_seconds: self.wakeup_to_start_seconds.with_label_values(one),
            notifications_total: self.notifications_total.with_label_values(one),
            resync_total: self.resync_total.with_label_values(one),
            last_resync_timestamp_seconds: self
                .last_resync_timestamp_seconds
                .with_label_values(one),
            last_resync_age_seconds: self.last_resync_age_seconds.with_label_values(one),
            last_resync: Arc::new(Mutex::new(Instant::now())),
            depth: self.depth.with_label_values(queue),
            adds_total: self.adds_total.with_label_values(queue),
            retries_total: self.retries_total.with_label_values(queue),
            queue_duration_seconds: self.queue_duration_seconds.with_label_values(queue),
            work_duration_seconds: self.work_duration_seconds.with_label_values(queue),
            unfinished_work_seconds: self.unfinished_work_seconds.with_label_values(queue),
            longest_running_processor_seconds: self
                .longest_running_processor_seconds
                .with_label_values(queue),
            active: ActiveReconciles::default(),
            leases,
            steps,
        }
    }
}
