//! Metrics for Prometheus. [`catalogue`] declares every name except those of
//! the core; each is registered once.
//!
//! Labels are closed sets whose series start at zero, and times are in seconds.
//! Families about clusters are not stored here: they are read from the database at
//! each scrape ([`Fleet`]), so that the series of a removed row end with it. This
//! module must not decide and must not read the database.

mod action;
pub mod catalogue;
mod fleet;
mod http;
mod process;
mod state_folder;
mod text;

use jiff::SignedDuration;
use prometheus::{Encoder, Gauge, IntCounter, IntGauge, IntGaugeVec, Registry, TextEncoder};

use crate::core::metrics::{ControllerMetrics, CoreMetrics, collectors};
use crate::findings::{Finding, FindingCode};

use self::catalogue as names;

pub use action::{ActionMetrics, ActionResult, Drift};
pub use fleet::{Fleet, render_clusters};
pub use http::HttpMetrics;
pub use state_folder::StateFolder;

/// The counters and gauges of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Whether the listener receives notifications.
    pub listen_connected: IntGauge,
    /// Reconnects of the listener.
    pub listen_reconnects_total: IntCounter,
    /// Whether the database responds. Only the scrape sets it.
    pub db_up: IntGauge,
    /// Whether this scrape read everything in time.
    pub scrape_complete: IntGauge,
    db_pool_connections: IntGaugeVec,
    finding: IntGaugeVec,
    clock_offset: Gauge,
    db_answers: IntGaugeVec,
    state_folder_free_bytes: IntGauge,
    state_folder_size_bytes: IntGauge,
    /// Actions on clusters.
    pub actions: ActionMetrics,
    /// HTTP requests and streams.
    pub http: HttpMetrics,
    process: process::ProcessMetrics,
    core: CoreMetrics,
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
    /// If two families share a name; tests would show it.
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let build = collectors::gauges(r, &names::BUILD_INFO);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            listen_connected: collectors::gauge(r, &names::LISTEN_CONNECTED),
            listen_reconnects_total: collectors::counter(r, &names::LISTEN_RECONNECTS_TOTAL),
            db_up: collectors::gauge(r, &names::DB_UP),
            scrape_complete: collectors::gauge(r, &names::SCRAPE_COMPLETE),
            db_pool_connections: collectors::gauges(r, &names::DB_POOL_CONNECTIONS),
            finding: collectors::gauges(r, &names::FINDING),
            clock_offset: collectors::float_gauge(r, &names::CLOCK_OFFSET_SECONDS),
            db_answers: collectors::gauges(r, &names::DB_ANSWERS),
            state_folder_free_bytes: collectors::gauge(r, &names::STATE_FOLDER_FREE_BYTES),
            state_folder_size_bytes: collectors::gauge(r, &names::STATE_FOLDER_SIZE_BYTES),
            actions: ActionMetrics::new(r),
            http: HttpMetrics::new(r),
            process: process::ProcessMetrics::new(r),
            core: CoreMetrics::new(r),
            registry,
        };
        metrics.pool(0, 0, 0);
        metrics.findings(&[]);
        metrics.database_answered("none");
        metrics
    }

    /// The counters of one controller; the first call registers them at zero.
    pub fn controller(&self, name: &str) -> ControllerMetrics {
        self.core.controller(name)
    }

    /// Sets the use of the connection pool.
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

    /// Sets how far the database's clock is ahead, if that was read.
    pub fn clock_offset(&self, ahead: Option<SignedDuration>) {
        if let Some(ahead) = ahead {
            self.clock_offset.set(ahead.as_secs_f64());
        }
    }

    /// Sets how the database answered a scrape: `ok`, `error` or `none`.
    pub fn database_answered(&self, result: &str) {
        for one in ["ok", "error", "none"] {
            let is = i64::from(one == result);
            self.db_answers.with_label_values(&[one]).set(is);
        }
    }

    /// Sets the space of the state folder's file system.
    pub(crate) fn state_folder(&self, free: u64, size: u64) {
        let count = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.state_folder_free_bytes.set(count(free));
        self.state_folder_size_bytes.set(count(size));
    }

    /// Sets which findings there are.
    pub fn findings(&self, found: &[Finding]) {
        for code in FindingCode::ALL {
            let labels = [code.to_string(), code.severity().to_string()];
            let is_found = found.iter().any(|finding| finding.code == *code);
            self.finding
                .with_label_values(&labels)
                .set(i64::from(is_found));
        }
    }

    /// The text of this process's families; the fleet's are appended to it.
    pub fn scrape(&self) -> String {
        self.process.refresh();
        self.core.refresh();
        let mut text = Vec::new();
        // Writing into memory cannot fail.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests;
