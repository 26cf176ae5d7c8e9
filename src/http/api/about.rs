//! Information about this server: health and settings for old clients,
//! suggestions for a new cluster, and the state of the system.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::clusters::{Spec, SpecField, SpecValue};
use crate::config::HEARTBEAT;
use crate::core::listener::Listening;
use crate::store::SCHEMA_VERSION;

use super::super::error::ApiError;
use super::Api;
use super::body::MIN_PORT;

/// Maximum number of failing clusters in a status.
const MAX_FAILING: i64 = 100;
/// Maximum number of unselected clusters in a status.
const MAX_UNSELECTED: i64 = 100;

/// Whether this server is alive.
#[utoipa::path(get, path = "/api/health", tag = "system", security(()), responses((status = 200, body = Object)))]
pub(super) async fn health() -> Json<Value> {
    Json(json!({
        "status": "healthy",
        "service": "kindler-webui-backend",
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

/// Defaults and ranges for a new cluster.
#[utoipa::path(get, path = "/api/config", tag = "system", security(("token" = ["read"])),
    responses((status = 200, body = Object)))]
pub(super) async fn config(State(api): State<Api>) -> Json<Value> {
    Json(json!({
        "base_domain": &*api.base_domain,
        "providers": ["kind", "k3d"],
        "default_provider": "k3d",
        "default_node_port": default_of("node_port"),
        "default_pf_port_range": [19001, 19999],
        "default_http_port_range": [18090, 18999],
        "default_https_port_range": [18443, 18999],
    }))
}

/// Free ports and a free subnet for a new cluster: no cluster declares them, and no process on
/// this host listens on the ports. Also the limits of names and ports.
#[utoipa::path(get, path = "/api/suggest", tag = "clusters", security(("token" = ["read"])),
    responses((status = 200, body = Object)))]
pub(super) async fn suggest(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let free = api.store.suggest().await?;
    // An API-only server does not run on the host of the clusters.
    let first = |ports: Vec<i32>| {
        let mut ports = ports.into_iter();
        ports.find(|port| api.api_only || is_free(*port))
    };
    let mut suggested = json!({
        "name": free.name,
        "node_port": default_of("node_port"),
        "cluster_subnet": free.subnet,
        "limits": {
            "name_max": { "k3d": crate::clusters::MAX_K3D_NAME, "kind": crate::clusters::MAX_KIND_NAME },
            "port": [MIN_PORT, u16::MAX],
        },
    });
    for (field, ports) in free.ports {
        suggested[field.api_name] = json!(first(ports));
    }
    Ok(Json(suggested))
}

fn default_of(field: &str) -> Option<SpecValue> {
    Spec::field(field).map(SpecField::default)
}

/// Whether no process on this host listens on a port.
fn is_free(port: i32) -> bool {
    u16::try_from(port).is_ok_and(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// Daemons, leases, database, listener, queue, deferred and failing clusters. A daemon on
/// `standby` starts no new work, because the schema is newer than its release; its `notice`
/// says so. Deprecated are `aside` of a daemon (use `standby`), `state` of the listener (use
/// `notifications`) and `waiting` (use `deferred`).
#[utoipa::path(get, path = "/api/status", tag = "system", security(("token" = ["read"])),
    responses((status = 200, body = Object), (status = 503)))]
pub(super) async fn status(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let store = &api.store;
    let schema = store.check().await?;
    let replicas = store.replicas().await?.into_iter().map(|seen| {
        let alive = seen.alive(HEARTBEAT);
        json!({ "alive": alive, "replica": seen })
    });
    let replicas: Vec<Value> = replicas.collect();
    let listener = match &*api.readiness.listening.borrow() {
        Listening::Yes => json!({ "notifications": "received", "state": "listening" }),
        Listening::No(why) => {
            json!({ "notifications": "disconnected", "state": "disconnected", "why": why })
        }
        Listening::Unsupported(why) => {
            json!({ "notifications": "unsupported", "state": "deaf", "why": why })
        }
    };
    let deferred = store.deferred_counts().await?;
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "api_only": api.api_only,
        "database": { "ok": true },
        "listener": listener,
        "schema": { "version": schema, "known": SCHEMA_VERSION },
        "streams": api.feed.open_streams(),
        "replicas": replicas,
        "work": store.leases().await?,
        "queue": store.due_count().await?,
        "deferred": deferred,
        "waiting": deferred,
        "problems": store.fleet(HEARTBEAT).await?.problems(),
        "unselected": store.unselected(HEARTBEAT * 3, None, MAX_UNSELECTED).await?,
        "counts": store.counts().await?,
        "failing": store.failing(MAX_FAILING).await?,
    })))
}
