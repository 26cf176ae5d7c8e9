//! What is served over HTTP: health, metrics, the API and its streams.
//!
//! Handlers read and declare; they never act on a cluster, and every one
//! answers within a bound.

mod access;
mod actor;
pub mod api;
mod connections;
mod error;
mod fleet;
mod guard;
mod health;
mod observe;
mod page;
mod scrape;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

use connections::Limits;

pub use access::Access;
pub use api::{Api, Kubeconfigs};
pub use fleet::FleetReader;
pub use guard::Doors;
pub use health::Vitals;

/// A connection that is kept open for the next request is, too, for no longer
/// than a proxy keeps its own.
const LIMITS: Limits = Limits {
    head_within: Duration::from_secs(75),
    read_within: Duration::from_secs(15),
    close_within: Duration::from_secs(2),
};

/// What handlers read.
#[derive(Clone)]
pub struct Source {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The clusters, for their families.
    pub fleet: FleetReader,
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
pub async fn serve(
    listener: TcpListener,
    source: Source,
    api: Api,
    doors: Doors,
    shutdown: CancellationToken,
) {
    let watching = tokio::spawn(api.access.clone().watch());
    let app = routes(source, api, doors);
    connections::serve(listener, app, LIMITS, shutdown).await;
    watching.abort();
}

fn routes(source: Source, api: Api, doors: Doors) -> Router {
    let metrics = source.metrics.clone();
    let open = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(scrape::metrics))
        .with_state(source);
    let guarded = api::router(api).fallback(page::serve);
    open.merge(guard::behind(doors, guarded))
        .layer(from_fn_with_state(metrics, observe::observe))
}
