//! The metrics, with what the database tells of the fleet.

use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use crate::event::Reason;
use crate::listener::Listening;
use crate::metrics::{FailingCluster, Fleet};
use crate::store::{Store, StoreError};

use super::Source;

/// How long a scrape may wait for the database.
const FLEET_WITHIN: Duration = Duration::from_secs(3);
/// So many failing clusters are told one by one; more are in the counts.
const FAILING_SHOWN: i64 = 1000;

pub(super) async fn metrics(State(source): State<Source>) -> Response {
    let fleet = timeout(FLEET_WITHIN, fleet(&source.store)).await;
    let fleet = fleet.ok().and_then(Result::ok);
    source.metrics.db_up.set(i64::from(fleet.is_some()));
    // Read where it is known, so that a scrape never lags behind the listener.
    let listening = *source.vitals.listening.borrow() == Listening::Yes;
    source.metrics.listen_connected.set(i64::from(listening));
    let pool = source.store.pool_use();
    source.metrics.pool(pool.open, pool.idle, pool.waiting);
    let text = source.metrics.scrape(fleet.as_ref());
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response()
}

async fn fleet(store: &Store) -> Result<Fleet, StoreError> {
    let states = store.counts().await?;
    let failing = store.failing(FAILING_SHOWN).await?;
    let waiting = store.waiting().await?;
    let held = |reason: Reason| {
        let of = waiting.iter().find(|held| held.reason == reason.as_str());
        of.map_or(0, |held| held.clusters)
    };
    Ok(Fleet {
        deletions_held: held(Reason::DeletionHeld),
        repairs_held: held(Reason::RepairHeld),
        states: states
            .into_iter()
            .map(|state| (state.desired_state, state.actual_state, state.clusters))
            .collect(),
        failing: failing
            .into_iter()
            .map(|cluster| FailingCluster {
                name: cluster.name,
                reason: cluster.reason,
                failures: i64::from(cluster.failed_attempts),
                next_retry_seconds: cluster
                    .next_attempt_at
                    .map(|at| at.as_millisecond() as f64 / 1e3),
            })
            .collect(),
    })
}
