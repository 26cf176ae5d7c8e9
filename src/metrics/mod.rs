//! What Kindler tells Prometheus: every name in one place ([`catalogue`]),
//! registered once.
//!
//! Labels are closed sets, all of them start at zero, times are seconds.
//! Families about clusters are not kept here at all: they are read from the
//! database at each scrape ([`Fleet`]), so that the series of a row that went
//! are gone too. This module must not decide and must not read the database.

mod action;
pub mod catalogue;
mod fleet;
mod http;
mod process;
mod text;

use prometheus::{Encoder, IntCounter, IntGauge, IntGaugeVec, Registry, TextEncoder};

use crate::core::metrics::{ControllerMetrics, CoreMetrics, collectors as made};

use self::catalogue as names;

pub use action::{ActionMetrics, ActionResult, Drift};
pub use fleet::{Fleet, render_clusters};
pub use http::HttpMetrics;

/// Everything that is counted in this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Whether notifications arrive.
    pub listen_connected: IntGauge,
    /// How often they arrived again after a loss.
    pub listen_reconnects_total: IntCounter,
    /// Whether the database answers; the scrape is its one owner.
    pub db_up: IntGauge,
    /// Whether all that this scrape has to tell was read in time.
    pub scrape_complete: IntGauge,
    db_pool_connections: IntGaugeVec,
    /// Work on clusters.
    pub actions: ActionMetrics,
    /// Requests and streams.
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
    /// If two families share a name, which the first test would tell.
    pub fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let build = made::gauges(r, &names::BUILD_INFO);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            listen_connected: made::gauge(r, &names::LISTEN_CONNECTED),
            listen_reconnects_total: made::counter(r, &names::LISTEN_RECONNECTS_TOTAL),
            db_up: made::gauge(r, &names::DB_UP),
            scrape_complete: made::gauge(r, &names::SCRAPE_COMPLETE),
            db_pool_connections: made::gauges(r, &names::DB_POOL_CONNECTIONS),
            actions: ActionMetrics::new(r),
            http: HttpMetrics::new(r),
            process: process::ProcessMetrics::new(r),
            core: CoreMetrics::new(r),
            registry,
        };
        metrics.pool(0, 0, 0);
        metrics
    }

    /// The counters of one controller, all at zero the first time.
    pub fn controller(&self, name: &str) -> ControllerMetrics {
        self.core.controller(name)
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

    /// The text of what this process knows; the fleet's comes behind it.
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
