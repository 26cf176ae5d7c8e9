//! What Kindler tells Prometheus: every name in one place, registered once.
//!
//! Labels are closed sets, all of them start at zero, times are seconds.
//! Families about clusters are not kept here at all: they are read from the
//! database at each scrape ([`Fleet`]), so that the series of a row that went
//! are gone too. This module must not decide and must not read the database.

mod fleet;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::plan::Action;

pub use fleet::{FailingCluster, Fleet};

/// Cluster creation takes minutes: controller-runtime's buckets end at 60 s.
const ACTION_SECONDS: [f64; 14] = [
    1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 900.0, 1800.0,
];
/// From a wake-up to its work: milliseconds when idle, the resync at worst.
const WAKEUP_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0, 30.0,
];
/// A reconcile: from a look at a row to a whole create.
const RECONCILE_SECONDS: [f64; 14] = [
    0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0,
];

/// How a turn ended, as controller-runtime counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnResult {
    /// As wanted; nothing further is due soon.
    Success,
    /// The reconciled thing failed, or the reconcile did.
    Error,
    /// It waits for something and is looked at again.
    RequeueAfter,
}

impl TurnResult {
    const ALL: [Self; 3] = [Self::Success, Self::Error, Self::RequeueAfter];

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::RequeueAfter => "requeue_after",
        }
    }
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionResult {
    /// The cluster is as wanted.
    Success,
    /// It is not; a retry follows.
    Failure,
    /// It was cut short.
    Interrupted,
}

impl ActionResult {
    const ALL: [Self; 3] = [Self::Success, Self::Failure, Self::Interrupted];

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Everything that is counted in this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Whether notifications arrive.
    pub listen_connected: IntGauge,
    /// Whether the database answered last time.
    pub db_up: IntGauge,
    db_pool_connections: IntGaugeVec,
    action_total: IntCounterVec,
    action_duration_seconds: HistogramVec,
    /// Leases that were lost while work was under way.
    pub lease_lost_total: IntCounter,
    controller: ControllerFamilies,
}

#[derive(Debug)]
struct ControllerFamilies {
    reconcile_total: IntCounterVec,
    reconcile_errors_total: IntCounterVec,
    reconcile_panics_total: IntCounterVec,
    reconcile_time_seconds: HistogramVec,
    active_workers: IntGaugeVec,
    max_concurrent_reconciles: IntGaugeVec,
    wakeup_to_start_seconds: HistogramVec,
    notifications_total: IntCounterVec,
    resync_total: IntCounterVec,
    depth: IntGaugeVec,
    adds_total: IntCounterVec,
    retries_total: IntCounterVec,
    queue_duration_seconds: HistogramVec,
}

/// The counters of one controller, its name filled in.
#[derive(Clone, Debug)]
pub struct ControllerMetrics {
    reconcile_total: [IntCounter; 3],
    reconcile_errors_total: IntCounter,
    /// Reconciles that panicked.
    pub reconcile_panics_total: IntCounter,
    reconcile_time_seconds: Histogram,
    /// Reconciles under way.
    pub active_workers: IntGauge,
    /// How many may be under way at once.
    pub max_concurrent_reconciles: IntGauge,
    /// From the arrival of a notification to the start of its work.
    pub wakeup_to_start_seconds: Histogram,
    /// Keys that were rung for.
    pub notifications_total: IntCounter,
    /// Full passes.
    pub resync_total: IntCounter,
    /// Keys that wait and are due.
    pub depth: IntGauge,
    /// Keys that came into the queue.
    pub adds_total: IntCounter,
    /// Keys that were requeued after an error.
    pub retries_total: IntCounter,
    /// From due to started.
    pub queue_duration_seconds: Histogram,
}

impl ControllerMetrics {
    /// Counts an ended turn.
    pub fn turn_ended(&self, result: TurnResult, took: Duration) {
        let index = TurnResult::ALL
            .iter()
            .position(|r| *r == result)
            .unwrap_or_default();
        self.reconcile_total[index].inc();
        if result == TurnResult::Error {
            self.reconcile_errors_total.inc();
            self.retries_total.inc();
        }
        self.reconcile_time_seconds.observe(took.as_secs_f64());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers every family.
    ///
    /// # Panics
    /// If two families share a name, which the first test would tell.
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let build = gauges(
            r,
            "build_info",
            "The running release; always 1.",
            &["version"],
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let action_total = counters(
            r,
            "action_total",
            "Actions on clusters, by how they ended.",
            &["action", "result"],
        );
        for action in Action::ALL {
            for result in ActionResult::ALL {
                action_total.with_label_values(&[action.as_str(), result.as_str()]);
            }
        }
        let action_duration_seconds = histograms(
            r,
            "action_duration_seconds",
            "How long actions on clusters took, verification included.",
            &["action"],
            &ACTION_SECONDS,
        );
        for action in Action::ALL {
            action_duration_seconds.with_label_values(&[action.as_str()]);
        }
        Self {
            listen_connected: gauge(r, "listen_connected", "1 while notifications arrive."),
            db_up: gauge(r, "db_up", "1 while the database answers."),
            db_pool_connections: gauges(
                r,
                "db_pool_connections",
                "Connections of the pool, and calls that wait for one.",
                &["state"],
            ),
            lease_lost_total: registered(
                r,
                IntCounter::new(
                    "kindler_lease_lost_total",
                    "Leases lost while work was under way; its command was ended.",
                ),
            ),
            action_total,
            action_duration_seconds,
            controller: ControllerFamilies::new(r),
            registry,
        }
    }

    /// The counters of one controller, all at zero.
    pub fn controller(&self, name: &str) -> ControllerMetrics {
        let c = &self.controller;
        ControllerMetrics {
            reconcile_total: TurnResult::ALL.map(|result| {
                c.reconcile_total
                    .with_label_values(&[name, result.as_str()])
            }),
            reconcile_errors_total: c.reconcile_errors_total.with_label_values(&[name]),
            reconcile_panics_total: c.reconcile_panics_total.with_label_values(&[name]),
            reconcile_time_seconds: c.reconcile_time_seconds.with_label_values(&[name]),
            active_workers: c.active_workers.with_label_values(&[name]),
            max_concurrent_reconciles: c.max_concurrent_reconciles.with_label_values(&[name]),
            wakeup_to_start_seconds: c.wakeup_to_start_seconds.with_label_values(&[name]),
            notifications_total: c.notifications_total.with_label_values(&[name]),
            resync_total: c.resync_total.with_label_values(&[name]),
            depth: c.depth.with_label_values(&[name, name]),
            adds_total: c.adds_total.with_label_values(&[name, name]),
            retries_total: c.retries_total.with_label_values(&[name, name]),
            queue_duration_seconds: c.queue_duration_seconds.with_label_values(&[name, name]),
        }
    }

    /// Counts an ended action.
    pub fn action_ended(&self, action: Action, result: ActionResult, took: Duration) {
        self.action_total
            .with_label_values(&[action.as_str(), result.as_str()])
            .inc();
        self.action_duration_seconds
            .with_label_values(&[action.as_str()])
            .observe(took.as_secs_f64());
    }

    /// Shows how full the pool is.
    pub fn pool(&self, open: usize, idle: usize, waiting: usize) {
        for (state, count) in [
            ("in_use", open.saturating_sub(idle)),
            ("idle", idle),
            ("waiting", waiting),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.db_pool_connections
                .with_label_values(&[state])
                .set(count);
        }
    }

    /// The text of one scrape: this process, and the fleet if it is known.
    pub fn scrape(&self, fleet: Option<&Fleet>) -> String {
        let mut families = self.registry.gather();
        if let Some(fleet) = fleet {
            families.extend(fleet.gather());
        }
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        // Writing into memory cannot fail.
        let _ = TextEncoder::new().encode(&families, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl ControllerFamilies {
    fn new(r: &Registry) -> Self {
        let controller = &["controller"][..];
        let queue = &["name", "controller"][..];
        Self {
            reconcile_total: counters(
                r,
                "reconcile_total",
                "Reconciles, by how they ended.",
                &["controller", "result"],
            ),
            reconcile_errors_total: counters(
                r,
                "reconcile_errors_total",
                "Reconciles that ended in a failure.",
                controller,
            ),
            reconcile_panics_total: counters(
                r,
                "reconcile_panics_total",
                "Reconciles that panicked: a defect of Kindler.",
                controller,
            ),
            reconcile_time_seconds: histograms(
                r,
                "reconcile_time_seconds",
                "How long reconciles took.",
                controller,
                &RECONCILE_SECONDS,
            ),
            active_workers: gauges(r, "active_workers", "Reconciles under way.", controller),
            max_concurrent_reconciles: gauges(
                r,
                "max_concurrent_reconciles",
                "How many reconciles may be under way at once.",
                controller,
            ),
            wakeup_to_start_seconds: histograms(
                r,
                "wakeup_to_start_seconds",
                "From the arrival of a notification to the start of its work.",
                controller,
                &WAKEUP_SECONDS,
            ),
            notifications_total: counters(
                r,
                "notifications_total",
                "Keys that the database rang for, equal ones folded.",
                controller,
            ),
            resync_total: counters(
                r,
                "resync_total",
                "Full passes over what is due.",
                controller,
            ),
            depth: gauges(
                r,
                "workqueue_depth",
                "Keys that are due and wait for a worker.",
                queue,
            ),
            adds_total: counters(
                r,
                "workqueue_adds_total",
                "Keys that came into the queue.",
                queue,
            ),
            retries_total: counters(
                r,
                "workqueue_retries_total",
                "Keys that were requeued after a failure.",
                queue,
            ),
            queue_duration_seconds: histograms(
                r,
                "workqueue_queue_duration_seconds",
                "How long keys that were due waited for a worker.",
                queue,
                &WAKEUP_SECONDS,
            ),
        }
    }
}

fn named(name: &str) -> String {
    format!("kindler_{name}")
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> C {
    let collector = made.expect("names, labels and buckets are constants");
    registry
        .register(Box::new(collector.clone()))
        .expect("every name is used once");
    collector
}

fn gauge(r: &Registry, name: &str, help: &str) -> IntGauge {
    registered(r, IntGauge::new(named(name), help))
}

fn gauges(r: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(r, IntGaugeVec::new(Opts::new(named(name), help), labels))
}

fn counters(r: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(r, IntCounterVec::new(Opts::new(named(name), help), labels))
}

fn histograms(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> HistogramVec {
    let opts = HistogramOpts::new(named(name), help).buckets(buckets.to_vec());
    registered(r, HistogramVec::new(opts, labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_label_sets_start_at_zero() {
        let metrics = Metrics::new();
        let controller = metrics.controller("cluster");
        let text = metrics.scrape(None);
        for line in [
            r#"kindler_reconcile_total{controller="cluster",result="error"} 0"#,
            r#"kindler_action_total{action="create",result="failure"} 0"#,
            "kindler_listen_connected 0",
            "kindler_db_up 0",
            r#"kindler_workqueue_depth{controller="cluster",name="cluster"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        controller.turn_ended(TurnResult::Error, Duration::from_secs(1));
        let text = metrics.scrape(None);
        assert!(text.contains(r#"kindler_reconcile_errors_total{controller="cluster"} 1"#));
    }
}
