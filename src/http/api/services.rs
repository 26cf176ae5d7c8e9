//! The state of the services of the management cluster.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::clusters::MANAGEMENT_CLUSTER;

use super::Api;

/// Deadline of a check.
const CHECK_WITHIN: Duration = Duration::from_secs(5);

/// The services, each with the status of a healthy and of a failed one.
const SERVICES: [(&str, [&str; 2]); 4] = [
    ("portainer", ["online", "offline"]),
    ("argocd", ["healthy", "degraded"]),
    ("haproxy", ["online", "offline"]),
    ("git", ["online", "offline"]),
];

/// URL and state of Portainer, Argo CD, HAProxy and Git, checked over HTTP.
#[utoipa::path(get, path = "/api/services", tag = "system", security(("token" = ["read"])),
    responses((status = 200, body = Object)))]
pub(super) async fn services(State(api): State<Api>) -> Json<Value> {
    let checks = SERVICES.map(|(name, statuses)| check(name, statuses, &api.base_domain));
    let checks = futures_util::future::join_all(checks).await;
    Json(Value::Object(Map::from_iter(checks)))
}

/// The status of one service, for a cluster that is registered with it.
pub(super) async fn service_status(name: &str, base_domain: &str) -> Value {
    match SERVICES.iter().find(|(known, _)| *known == name) {
        Some((_, statuses)) => check(name, *statuses, base_domain).await.1["status"].take(),
        None => Value::from("unknown"),
    }
}

async fn check(name: &str, [up, down]: [&str; 2], base_domain: &str) -> (String, Value) {
    let host = format!("{name}.{MANAGEMENT_CLUSTER}.{base_domain}");
    let answer = timeout(CHECK_WITHIN, http_status(&host)).await;
    let (status, message) = match answer {
        Ok(Ok(Some(status))) if status < 500 => (up, format!("HTTP {status}")),
        Ok(Ok(Some(status))) => (down, format!("HTTP {status}")),
        Ok(Ok(None)) => (down, "no HTTP answer".to_owned()),
        Ok(Err(error)) => (down, error.to_string()),
        Err(_) => (down, format!("no answer within {CHECK_WITHIN:?}")),
    };
    let service = json!({
        "name": name, "status": status, "url": format!("http://{host}"), "message": message,
    });
    (name.to_owned(), service)
}

/// The HTTP status of `GET /` on a host.
async fn http_status(host: &str) -> std::io::Result<Option<u16>> {
    let mut stream = TcpStream::connect((host, 80)).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    // `HTTP/1.1 200`
    let mut line = [0; 12];
    stream.read_exact(&mut line).await?;
    let line = String::from_utf8_lossy(&line);
    let code = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..));
    Ok(code.and_then(|code| code.parse().ok()))
}
