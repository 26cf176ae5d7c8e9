//! What the daemon serves over HTTP: is it alive, is it ready, its metrics.
//!
//! Handlers read; they change nothing, and every one answers within a bound.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::event::Reason;
use crate::listener::Listening;
use crate::metrics::{FailingCluster, Fleet, Metrics};
use crate::store::{Store, StoreError};

/// How long a scrape may wait for the database.
const FLEET_WITHIN: Duration = Duration::from_secs(3);
/// So many failing clusters are told one by one; more are in the counts.
const FAILING_SHOWN: i64 = 1000;
/// How long open requests may take after a shutdown began.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Whether the daemon can do its work, and if not, why.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// The reason why the database does not serve, if it does not.
    pub database: watch::Receiver<Option<String>>,
    /// Whether notifications arrive.
    pub listening: watch::Receiver<Listening>,
    /// Why nothing is claimed, if a later release owns the schema.
    pub schema: watch::Receiver<Option<String>>,
}

impl Vitals {
    /// What keeps the daemon from being ready; empty when it is.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if let Some(why) = &*self.database.borrow() {
            troubles.push(format!("database: {why}"));
        }
        if let Listening::No(why) = &*self.listening.borrow() {
            troubles.push(format!("listener: {why}"));
        }
        troubles.extend(self.schema_told());
        troubles
    }

    /// What other people's `kindler status` should tell of this daemon.
    pub fn announced(&self) -> Vec<String> {
        let mut announced = self.notices();
        announced.extend(self.schema_told());
        announced
    }

    fn schema_told(&self) -> Option<String> {
        let told = |why: &String| format!("nothing new is begun: {why}");
        self.schema.borrow().as_ref().map(told)
    }

    /// What a person should mend although the daemon does its work.
    pub fn notices(&self) -> Vec<String> {
        match &*self.listening.borrow() {
            Listening::Deaf(why) => vec![format!("listener: {why}")],
            Listening::Yes | Listening::No(_) => Vec::new(),
        }
    }
}

/// What handlers read.
#[derive(Clone)]
pub struct Source {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The clusters, for their families.
    pub store: Store,
    /// Whether the daemon can do its work.
    pub vitals: Vitals,
}

/// Why HTTP cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: choose another with KINDLER_LISTEN or --listen")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Takes an address, so that a taken one is known before anything starts.
///
/// # Errors
/// [`ListenError`] names the address and the setting.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError { address, source })
}

/// Serves until `shutdown`; open requests then get a moment to end.
///
/// # Errors
/// When accepting connections fails for good.
pub async fn serve(
    listener: TcpListener,
    source: Source,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let app = routes(source);
    let closing = shutdown.clone();
    let serving = axum::serve(listener, app)
        .with_graceful_shutdown(async move { closing.cancelled().await })
        .into_future();
    tokio::select! {
        served = serving => served,
        () = async { shutdown.cancelled().await; tokio::time::sleep(CLOSE_WITHIN).await } => Ok(()),
    }
}

fn routes(source: Source) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(source)
}

/// Tells what is here.
async fn index() -> &'static str {
    concat!(
        "Kindler ",
        env!("CARGO_PKG_VERSION"),
        "\n\n/healthz  whether the process is alive\n\
         /readyz   whether database and listener serve and work is begun, and if not, why\n\
         /metrics  for Prometheus\n"
    )
}

async fn ready(State(source): State<Source>) -> Response {
    let troubles = source.vitals.troubles();
    let notices = source.vitals.notices();
    if troubles.is_empty() && notices.is_empty() {
        return "ready\n".into_response();
    }
    if troubles.is_empty() {
        // All that is declared gets done, only later: no reason to be restarted.
        return format!("ready, but degraded\n{}\n", notices.join("\n")).into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready\n{}\n", troubles.join("\n")),
    )
        .into_response()
}

async fn metrics(State(source): State<Source>) -> Response {
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
