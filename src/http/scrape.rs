//! `/metrics`: the metrics of this process, and those of the clusters, read from
//! the database. Only the scrape decides whether the database is up.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::core::listener::Listening;

use super::MonitoringState;

/// Responds within 2 s, with or without the database.
pub(super) async fn metrics(State(state): State<MonitoringState>) -> Response {
    let seen = state.fleet.read().await;
    let metrics = &state.metrics;
    metrics.db_up.set(i64::from(seen.answers));
    metrics.scrape_complete.set(i64::from(seen.complete));
    metrics.database_answered(match (seen.answers, seen.refuses) {
        (true, _) => "ok",
        (false, true) => "error",
        (false, false) => "none",
    });
    state.folder.measure(metrics).await;
    // Read at the scrape, so that the metric never lags behind the listener.
    let listening = *state.readiness.listening.borrow() == Listening::Yes;
    metrics.listen_connected.set(i64::from(listening));
    let pool = state.fleet.pool_use();
    metrics.pool(pool.open, pool.idle, pool.waiting);
    metrics.findings(&state.readiness.findings.list());
    let mut text = metrics.scrape();
    for part in [seen.fleet, seen.clusters].into_iter().flatten() {
        text.push_str(&part);
    }
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response()
}
