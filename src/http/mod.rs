//! What is served over HTTP: health, metrics, the API and its streams.
//!
//! Handlers read and declare; they never act on a cluster, and every one
//! answers within a bound.

pub mod api;
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
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::metrics::Metrics;

pub use api::{Api, Kubeconfigs};
pub use fleet::FleetReader;
pub use guard::Doors;
pub use health::Vitals;

/// How long open requests may take after a shutdown began.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// A reader that takes nothing of what was sent for so long is let go.
const READ_WITHIN: Duration = Duration::from_secs(15);

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
///
/// # Errors
/// When accepting connections fails for good.
pub async fn serve(
    listener: TcpListener,
    source: Source,
    api: Api,
    doors: Doors,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let app = routes(source, api, doors);
    let closing = shutdown.clone();
    let listener = listener.tap_io(|connection| {
        // Without it a reader that stopped reading would keep its stream for ever.
        let within = READ_WITHIN.as_millis().try_into().unwrap_or(u32::MAX);
        if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&*connection, within) {
            debug!(%error, "a connection has no limit on silence");
        }
    });
    let serving = axum::serve(listener, app)
        .with_graceful_shutdown(async move { closing.cancelled().await })
        .into_future();
    tokio::select! {
        served = serving => served,
        () = async { shutdown.cancelled().await; tokio::time::sleep(CLOSE_WITHIN).await } => Ok(()),
    }
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
