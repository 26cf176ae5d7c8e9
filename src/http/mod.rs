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
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

use connections::Limits;
use observe::Streams;

pub use access::Access;
pub use api::Api;
pub use fleet::FleetReader;
pub use guard::Doors;
pub use health::Vitals;

/// More than a fleet's people and programs need, and little memory.
const MOST_CONNECTIONS: usize = 1024;

/// One that is kept open for the next request is so for no longer than a proxy
/// keeps its own; who has said nothing at all yet gets less.
fn limits() -> Limits {
    Limits {
        open: most_connections(getrlimit(Resource::Nofile).current),
        first_within: Duration::from_secs(10),
        next_within: Duration::from_secs(75),
        read_within: Duration::from_secs(15),
        close_within: Duration::from_secs(2),
    }
}

/// Half of the descriptors that this process may have are for everything else:
/// the database, the guards of commands, logs.
fn most_connections(descriptors: Option<u64>) -> usize {
    let half = descriptors.and_then(|all| usize::try_from(all / 2).ok());
    half.map_or(MOST_CONNECTIONS, |half| half.clamp(1, MOST_CONNECTIONS))
}

/// A quarter is for requests that end, as the questions how this server does.
fn most_streams(connections: usize) -> usize {
    (connections - connections / 4).max(1)
}

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
    let limits = limits();
    let app = routes(source, api, doors, most_streams(limits.open));
    connections::serve(listener, app, limits, shutdown).await;
    watching.abort();
}

fn routes(source: Source, api: Api, doors: Doors, most_streams: usize) -> Router {
    let streams = Streams::new(source.metrics.clone(), most_streams);
    let open = Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(scrape::metrics))
        .with_state(source);
    let guarded = api::router(api).fallback(page::serve);
    open.merge(guard::behind(doors, guarded))
        .layer(from_fn_with_state(streams, observe::observe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_and_streams_leave_connections() {
        for (descriptors, connections, streams) in [
            (None, 1024, 768),
            (Some(16_384), 1024, 768),
            (Some(1024), 512, 384),
            (Some(256), 128, 96),
            (Some(1), 1, 1),
        ] {
            assert_eq!(
                most_connections(descriptors),
                connections,
                "{descriptors:?}"
            );
            assert_eq!(most_streams(connections), streams, "{descriptors:?}");
        }
    }
}
