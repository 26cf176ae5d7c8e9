//! Whether the services beside the clusters answer, on the management
//! cluster's hosts.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::clusters::MANAGEMENT_CLUSTER;

use super::Api;

/// How long a service may take to say that it is there.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The services, each with its words for answering and for not.
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
    let looks = SERVICES.map(|(name, words)| look(name, words, &api.base_domain));
    let looks = futures_util::future::join_all(looks).await;
    Json(Value::Object(Map::from_iter(looks)))
}

/// The word for one of the services, as a cluster that is registered with it has it.
pub(super) async fn word(name: &str, base_domain: &str) -> Value {
    match SERVICES.iter().find(|(known, _)| *known == name) {
        Some((_, words)) => look(name, *words, base_domain).await.1["status"].take(),
        None => Value::from("unknown"),
    }
}

async fn look(name: &str, [up, down]: [&str; 2], base_domain: &str) -> (String, Value) {
    let host = format!("{name}.{MANAGEMENT_CLUSTER}.{base_domain}");
    let answer = timeout(ANSWER_WITHIN, status(&host)).await;
    let (word, message) = match answer {
        Ok(Ok(Some(status))) if status < 500 => (up, format!("HTTP {status}")),
        Ok(Ok(Some(status))) => (down, format!("HTTP {status}")),
        Ok(Ok(None)) => (down, "no HTTP answer".to_owned()),
        Ok(Err(error)) => (down, error.to_string()),
        Err(_) => (down, format!("no answer within {ANSWER_WITHIN:?}")),
    };
    let told = json!({
        "name": name, "status": word, "url": format!("http://{host}"), "message": message,
    });
    (name.to_owned(), told)
}

/// The status that a host answers `GET /` with.
async fn status(host: &str) -> std::io::Result<Option<u16>> {
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
