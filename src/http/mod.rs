//! The HTTP server: health, metrics, the API with its streams, the page.
//!
//! Handlers read and declare; they must not act on a cluster. Every response
//! has a deadline.

mod access;
mod actor;
pub mod api;
mod connections;
mod error;
mod fleet;
mod health;
mod page;
mod request_checks;
mod request_metrics;
mod scrape;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, StateFolder};

use connections::ConnectionLimits;
use request_metrics::StreamLimiter;

pub use access::Access;
pub use api::Api;
pub use fleet::FleetReader;
pub use health::Readiness;
pub use request_checks::OriginPolicy;

/// Enough for the users and programs of a fleet, and little memory.
const MAX_CONNECTIONS: usize = 1024;

/// The keep-alive timeout is as long as common proxies use; the first request
/// has to come sooner.
fn limits() -> ConnectionLimits {
    ConnectionLimits {
        open: max_connections(getrlimit(Resource::Nofile).current),
        first_within: Duration::from_secs(10),
        next_within: Duration::from_secs(75),
        read_within: Duration::from_secs(15),
        close_within: Duration::from_secs(2),
    }
}

/// Reserves half of the file descriptors of this process for everything else:
/// the database, running commands, logs.
fn max_connections(descriptors: Option<u64>) -> usize {
    let half = descriptors.and_then(|all| usize::try_from(all / 2).ok());
    half.map_or(MAX_CONNECTIONS, |half| half.clamp(1, MAX_CONNECTIONS))
}

/// Reserves a quarter of the connections for short requests such as health
/// checks.
fn max_streams(connections: usize) -> usize {
    (connections - connections / 4).max(1)
}

/// The state behind `/readyz` and `/metrics`.
#[derive(Clone)]
pub struct MonitoringState {
    /// The metrics of this process.
    pub metrics: Arc<Metrics>,
    /// Reads the metrics of the clusters.
    pub fleet: FleetReader,
    /// Whether the daemon can work.
    pub readiness: Readiness,
    /// The space of the state folder.
    pub folder: StateFolder,
}

/// The server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: choose another with KINDLER_LISTEN or --listen")]
pub struct HttpListenError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

impl HttpListenError {
    /// Whether another process uses the address, which may pass.
    pub fn is_address_in_use(&self) -> bool {
        self.source.kind() == std::io::ErrorKind::AddrInUse
    }
}

/// Binds the address before anything starts, so that a used one is reported first.
///
/// # Errors
/// [`HttpListenError`] names the address and the setting.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, HttpListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| HttpListenError { address, source })
}

/// Serves until `shutdown`; open requests then have a short time to end.
pub async fn serve(
    listener: TcpListener,
    monitoring: MonitoringState,
    api: Api,
    policy: OriginPolicy,
    shutdown: CancellationToken,
) {
    let watching = tokio::spawn(api.access.clone().watch());
    let limits = limits();
    let app = routes(monitoring, api, policy, max_streams(limits.open));
    connections::serve(listener, app, limits, shutdown).await;
    watching.abort();
}

fn routes(
    monitoring: MonitoringState,
    api: Api,
    policy: OriginPolicy,
    max_streams: usize,
) -> Router {
    let streams = StreamLimiter::new(monitoring.metrics.clone(), max_streams);
    let open = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(scrape::metrics))
        .with_state(monitoring);
    let checked = api::router(api).fallback(page::serve);
    open.merge(request_checks::with_checks(policy, checked))
        .layer(from_fn_with_state(streams, request_metrics::record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_streams_leave_reserves() {
        for (descriptors, connections, streams) in [
            (None, 1024, 768),
            (Some(16_384), 1024, 768),
            (Some(1024), 512, 384),
            (Some(256), 128, 96),
            (Some(1), 1, 1),
        ] {
            assert_eq!(max_connections(descriptors), connections, "{descriptors:?}");
            assert_eq!(max_streams(connections), streams, "{descriptors:?}");
        }
    }
}
