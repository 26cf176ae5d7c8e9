//! Asks a cluster's API server whether it is ready and its nodes are. It changes nothing.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;

use crate::duration::compact;

use super::api_client::{ApiConnection, KubeApiError};
use super::kubeconfig::ClusterAccess;

/// Why the answer is not "ready".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotReady {
    /// The API server did not answer.
    #[error(transparent)]
    Api(#[from] KubeApiError),
    /// What it says.
    #[error("{0}")]
    Says(String),
}

/// Whether the API server and all nodes are ready.
pub(super) async fn check(access: &ClusterAccess, within: Duration) -> Result<(), NotReady> {
    let asked = timeout(within, ask(access)).await;
    asked.unwrap_or_else(|_| {
        let (port, within) = (access.port, compact(within));
        Err(NotReady::Says(format!(
            "its API server on port {port} did not answer within KINDLER_PROBE_DEADLINE={within}"
        )))
    })
}

async fn ask(access: &ClusterAccess) -> Result<(), NotReady> {
    let mut api = ApiConnection::open(access).await?;
    let (status, body) = api.get("/readyz").await?;
    if status != 200 {
        let body = String::from_utf8_lossy(&body);
        let line = body.lines().last().unwrap_or_default();
        let line: String = line.chars().take(200).collect();
        return Err(NotReady::Says(format!("/readyz answers {status}: {line}")));
    }
    let (status, body) = api.get("/api/v1/nodes").await?;
    match status {
        200 => nodes_ready(&body),
        _ => Err(NotReady::Says(format!(
            "the list of nodes answers {status}"
        ))),
    }
}

#[derive(Deserialize)]
struct NodeList {
    items: Vec<KubernetesNode>,
}

#[derive(Deserialize)]
struct KubernetesNode {
    metadata: NodeMetadata,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Deserialize)]
struct NodeMetadata {
    name: String,
}

#[derive(Default, Deserialize)]
struct NodeStatus {
    #[serde(default)]
    conditions: Vec<NodeCondition>,
}

#[derive(Deserialize)]
struct NodeCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

/// Whether there are nodes, and each says that it is ready.
fn nodes_ready(body: &[u8]) -> Result<(), NotReady> {
    let list: NodeList = serde_json::from_slice(body)
        .map_err(|_| NotReady::Says("the list of nodes cannot be read".to_owned()))?;
    if list.items.is_empty() {
        return Err(NotReady::Says("it has no nodes".to_owned()));
    }
    for node in list.items {
        let name = node.metadata.name;
        let ready = node
            .status
            .conditions
            .into_iter()
            .find(|one| one.kind == "Ready");
        let why = match ready {
            Some(ready) if ready.status == "True" => continue,
            Some(ready) => format!("{}: {}", ready.reason, ready.message),
            None => "it has no condition Ready".to_owned(),
        };
        return Err(NotReady::Says(format!("node {name} is not ready: {why}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_must_say_that_it_is_ready() {
        let node = |ready: &str| {
            format!(
                r#"{{"metadata":{{"name":"n1"}},"status":{{"conditions":[
                {{"type":"Ready","status":"{ready}","reason":"KubeletNotReady","message":"no CNI"}}]}}}}"#
            )
        };
        let of = |nodes: &[String]| {
            let list = format!(r#"{{"items":[{}]}}"#, nodes.join(","));
            nodes_ready(list.as_bytes()).map_err(|error| error.to_string())
        };
        assert_eq!(of(&[node("True")]), Ok(()));
        let not_ready = "node n1 is not ready: KubeletNotReady: no CNI".to_owned();
        for status in ["False", "Unknown"] {
            assert_eq!(of(&[node("True"), node(status)]), Err(not_ready.clone()));
        }
        assert_eq!(of(&[]), Err("it has no nodes".to_owned()));
        assert!(nodes_ready(b"<html>").is_err());
    }
}
