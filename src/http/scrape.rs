//! `/metrics`: what this process counts, and what the database tells of the
//! fleet. This is the one place that says whether the database is up.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::core::listener::Listening;

use super::Source;

/// Answers within 2 s, whatever the database does.
pub(super) async fn metrics(State(source): State<Source>) -> Response {
    let seen = source.fleet.read().await;
    let metrics = &source.metrics;
    metrics.db_up.set(i64::from(seen.answers));
    metrics.scrape_complete.set(i64::from(seen.complete));
    // Read where it is known, so that a scrape never lags behind the listener.
    let listening = *source.vitals.listening.borrow() == Listening::Yes;
    metrics.listen_connected.set(i64::from(listening));
    let pool = source.fleet.pool_use();
    metrics.pool(pool.open, pool.idle, pool.waiting);
    let mut text = metrics.scrape();
    for part in [seen.fleet, seen.clusters].into_iter().flatten() {
        text.push_str(&part);
    }
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response()
}
