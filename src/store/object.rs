//! The table `clusters` as an object of the core, and the status that a reconcile writes.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use crate::cause::chain;
use crate::clusters::event::Reason;
use crate::clusters::plan::{Applied, Moment, Status, write_refused};
use crate::clusters::{Actual, Cluster};
use crate::core::backoff::Backoff;
use crate::core::database::Undecodable;
use crate::core::object::Object;
use crate::core::rows::Leased;
use crate::core::table::Table;

use super::queries::CLUSTER_COLUMNS;
use super::rows;

impl Object for Cluster {
    type Status = ClusterStatus;

    const TABLE: Table = Table {
        name: "clusters",
        alias: "c",
        key: "name",
        leases: ("cluster_leases", "cluster_name"),
        terms: "cluster_lease_terms",
        steps: "cluster_steps",
        columns: CLUSTER_COLUMNS,
        standard: false,
        state: ("actual_state", "status_message"),
        status_columns: "actual_state text, status_reason text, status_message text, \
            reconcile_error text, failed_attempts integer, next_attempt_at timestamptz, next_attempt_seconds float8, \
            health_failures integer, healthy boolean, flaps integer, flapped_at timestamptz, next_check_at timestamptz, \
            cleared boolean, proven text, reached boolean, absent boolean, driver text, engine text, recreated timestamptz, server_ip text",
        set_status: "actual_state = s.actual_state, status_reason = s.status_reason, \
            status_message = s.status_message, reconcile_error = s.reconcile_error, \
            failed_attempts = s.failed_attempts, \
            next_attempt_at = coalesce(s.next_attempt_at, clock_timestamp() + make_interval(secs => s.next_attempt_seconds)), \
            health_failures = s.health_failures, \
            flaps = coalesce(s.flaps, c.flaps), flapped_at = CASE WHEN s.flaps IS NULL THEN c.flapped_at ELSE s.flapped_at END, \
            last_healthy_at = CASE WHEN s.healthy THEN clock_timestamp() ELSE c.last_healthy_at END, \
            next_check_at = coalesce(s.next_check_at, clock_timestamp() + make_interval(secs => s.next_attempt_seconds)), \
            observed_spec_hash = CASE WHEN s.cleared THEN NULL ELSE coalesce(s.proven, c.observed_spec_hash) END, \
            observed_generation = CASE WHEN s.reached THEN c.generation ELSE c.observed_generation END, \
            last_reconciled_at = clock_timestamp(), \
            server_ip = nullif(coalesce(s.server_ip, c.server_ip), ''), \
            placed_by = CASE WHEN {place} IS NULL THEN c.placed_by WHEN NOT s.absent THEN {place} END, \
            driver = coalesce(c.driver, s.driver), \
            engine = CASE WHEN NOT s.absent THEN coalesce(c.engine, s.engine) END, \
            recreate_requested_at = nullif(c.recreate_requested_at, s.recreated)",
        selects: "kindler_takes({selector}, c.placed_by, c.labels)",
        placed: "coalesce(c.placed_by, {place}) = {place}",
        actionable: "NOT c.paused AND NOT c.protected",
        removable: "c.desired_state = 'absent'",
        // Deletions, stops, checks, and what may take minutes.
        class: (
            "CASE WHEN c.desired_state = 'absent' THEN 0 WHEN c.desired_state = 'stopped' THEN 1 \
             WHEN c.paused OR c.protected \
             OR (c.actual_state = 'running' AND c.observed_generation = c.generation) THEN 2 \
             ELSE 3 END",
            "3",
        ),
    };

    fn read(row: &Row) -> Result<Self, Undecodable> {
        rows::cluster(row)
    }

    fn unreadable(why: &Undecodable, retry: Duration) -> ClusterStatus {
        ClusterStatus {
            actual_state: Actual::Failed.as_str(),
            status_reason: Reason::RowInvalid.as_str(),
            status_message: format!("its row cannot be read: {}", chain(why)),
            reconcile_error: Some(chain(why)),
            failed_attempts: 1,
            next_attempt_at: None,
            next_attempt_seconds: Some(retry.as_secs_f64()),
            health_failures: 0,
            healthy: false,
            flaps: None,
            flapped_at: None,
            next_check_at: None,
            cleared: false,
            proven: None,
            reached: false,
            absent: false,
            driver: None,
            engine: None,
            recreated: None,
            server_ip: None,
        }
    }

    /// What the refused status says of the cluster is kept: a spec that was applied is not
    /// applied again.
    fn refused(
        row: &Leased<Self>,
        attempted: Option<&ClusterStatus>,
        why: &str,
        backoff: &Backoff,
    ) -> Option<(ClusterStatus, Duration)> {
        let moment = Moment {
            now: row.now(),
            jitter: fastrand::f64(),
        };
        let (status, delay) = write_refused(&row.object, why, backoff, moment);
        let mut status = ClusterStatus::new(&status, &row.object.spec_hash);
        if let Some(attempted) = attempted {
            status.proven.clone_from(&attempted.proven);
            status.absent = attempted.absent;
            status.server_ip.clone_from(&attempted.server_ip);
        }
        Some((status, delay))
    }
}

/// A [`Status`] in the form of the columns: the fields are the table's `status_columns`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClusterStatus {
    actual_state: &'static str,
    status_reason: &'static str,
    status_message: String,
    reconcile_error: Option<String>,
    failed_attempts: u32,
    next_attempt_at: Option<Timestamp>,
    /// The same, relative, for an unreadable row.
    next_attempt_seconds: Option<f64>,
    health_failures: u32,
    healthy: bool,
    /// None: unchanged.
    flaps: Option<u32>,
    flapped_at: Option<Timestamp>,
    next_check_at: Option<Timestamp>,
    /// Whether the spec no longer counts as applied.
    cleared: bool,
    /// The hash of the spec, if it was applied.
    proven: Option<String>,
    reached: bool,
    absent: bool,
    /// Recorded unless the row has one.
    driver: Option<String>,
    engine: Option<String>,
    /// The request to create the cluster again that is fulfilled.
    recreated: Option<Timestamp>,
    /// None: unchanged; empty: it has none.
    server_ip: Option<String>,
}

impl ClusterStatus {
    /// The status of a row whose spec has this hash.
    pub fn new(status: &Status, spec_hash: &str) -> Self {
        let proven = status.applied == Applied::Proven;
        // The column is a signed integer.
        let count = |count: u32| count.min(i32::MAX as u32);
        Self {
            actual_state: status.actual.as_str(),
            status_reason: status.reason.as_str(),
            status_message: status.message.clone(),
            reconcile_error: status.error.clone(),
            failed_attempts: count(status.failed_attempts),
            next_attempt_at: status.next_attempt_at,
            next_attempt_seconds: None,
            health_failures: count(status.health_failures),
            healthy: status.healthy,
            flaps: Some(count(status.flaps.count)),
            flapped_at: status.flaps.last,
            next_check_at: status.next_check_at,
            cleared: status.applied == Applied::Cleared,
            proven: proven.then(|| spec_hash.to_owned()),
            reached: status.reached,
            absent: status.absent,
            driver: None,
            engine: None,
            recreated: status.recreated,
            server_ip: None,
        }
    }

    /// With the driver and the container engine of this daemon, for a row whose cluster is made
    /// or found by it.
    #[must_use]
    pub fn made_by(self, driver: &str, engine: Option<String>) -> Self {
        Self {
            driver: Some(driver.to_owned()),
            engine,
            ..self
        }
    }

    /// With the address of the cluster's server, as far as the driver knows it.
    #[must_use]
    pub fn with_server_ip(self, server_ip: Option<String>) -> Self {
        Self { server_ip, ..self }
    }
}
