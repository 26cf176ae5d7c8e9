//! Asks a cluster's API server whether it is ready and its nodes are. It changes nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::kubeconfig::ClusterAccess;

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The longest answer that is read: some thousand nodes.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Why the answer is not "ready".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotReady {
    /// The API server did not answer, or its answer was not "ready".
    #[error("{0}")]
    Api(String),
    /// Another cluster answers on the port.
    #[error("another cluster answers on port {0}: its certificate is not signed by this one's CA")]
    OtherCluster(u16),
    /// Kubernetes says that a node is not ready.
    #[error("{0}")]
    Nodes(String),
}

/// Whether the API server and all nodes are ready.
pub(super) async fn check(access: &ClusterAccess, within: Duration) -> Result<(), NotReady> {
    let asked = timeout(within, ask(access)).await;
    asked.unwrap_or_else(|_| {
        let seconds = within.as_secs_f64();
        let port = access.port;
        Err(NotReady::Api(format!(
            "its API server on port {port} did not answer within {seconds} s"
        )))
    })
}

async fn ask(access: &ClusterAccess) -> Result<(), NotReady> {
    let port = access.port;
    let api = |what: &str, error: &dyn std::error::Error| {
        let cause = crate::cause::chain(error);
        NotReady::Api(format!("its API server on port {port} {what}: {cause}"))
    };
    let connected = TcpStream::connect((LOOPBACK, port)).await;
    let stream = connected.map_err(|error| api("refuses connections", &error))?;
    let config = tls(access).map_err(|why| NotReady::Api(why.to_owned()))?;
    let host = ServerName::IpAddress(IpAddr::V4(LOOPBACK).into());
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector
        .connect(host, stream)
        .await
        .map_err(|error| match is_unknown_issuer(&error) {
            true => NotReady::OtherCluster(port),
            false => api("does not speak TLS", &error),
        })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| api("does not speak HTTP", &error))?;
    let connection: http1::Connection<TokioIo<TlsStream<TcpStream>>, _> = connection;
    let connection = tokio::spawn(connection);
    let asked = async {
        let (status, body) = get(&mut sender, "/readyz").await?;
        if status != 200 {
            let body = String::from_utf8_lossy(&body);
            let line: String = body
                .lines()
                .last()
                .unwrap_or_default()
                .chars()
                .take(200)
                .collect();
            return Err(NotReady::Api(format!("/readyz answers {status}: {line}")));
        }
        let (status, body) = get(&mut sender, "/api/v1/nodes").await?;
        match status {
            200 => nodes_ready(&body),
            _ => Err(NotReady::Api(format!("the list of nodes answers {status}"))),
        }
    };
    let answer = asked.await;
    connection.abort();
    answer
}

async fn get(
    sender: &mut http1::SendRequest<Empty<Bytes>>,
    path: &str,
) -> Result<(u16, Bytes), NotReady> {
    let failed = |error: &dyn std::error::Error| {
        NotReady::Api(format!("{path}: {}", crate::cause::chain(error)))
    };
    let request = Request::get(path)
        .header("host", "kubernetes")
        .body(Empty::new())
        .map_err(|error| failed(&error))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| failed(&error))?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_BYTES)
        .collect()
        .await;
    let body = body.map_err(|error| failed(&*error))?;
    Ok((status, body.to_bytes()))
}

/// TLS that trusts this cluster only, with the administrator's certificate.
fn tls(access: &ClusterAccess) -> Result<ClientConfig, &'static str> {
    let unusable = "the certificates in its kubeconfig cannot be used";
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&access.authority) {
        let authority = authority.map_err(|_| unusable)?;
        roots.add(authority).map_err(|_| unusable)?;
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&access.certificate).collect();
    let key = PrivateKeyDer::from_pem_slice(&access.key).map_err(|_| unusable)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| unusable)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.map_err(|_| unusable)?, key)
        .map_err(|_| unusable)
}

fn is_unknown_issuer(error: &std::io::Error) -> bool {
    use rustls::{CertificateError, Error};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(
        inner,
        Some(Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        ))
    )
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
        .map_err(|_| NotReady::Api("the list of nodes cannot be read".to_owned()))?;
    if list.items.is_empty() {
        return Err(NotReady::Nodes("it has no nodes".to_owned()));
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
        return Err(NotReady::Nodes(format!("node {name} is not ready: {why}")));
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
