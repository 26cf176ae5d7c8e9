//! A small client of a cluster's API server: HTTP/1.1 over TLS that trusts this cluster only, with
//! the administrator's certificate. It reads and applies objects and knows none of them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::kubeconfig::ClusterAccess;

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The longest answer that is read: some thousand nodes.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// The owner of the fields that Kindler applies.
const FIELD_MANAGER: &str = "kindler";

/// Why an API server did not answer a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KubeApiError {
    /// There is no answer.
    #[error("{0}")]
    Failed(String),
    /// Another cluster answers on the port.
    #[error("another cluster answers on port {0}: its certificate is not signed by this one's CA")]
    OtherCluster(u16),
    /// It rejected the request.
    #[error("its API server rejects {path} with {status}: {message}")]
    Rejected {
        path: String,
        status: u16,
        message: String,
    },
}

/// A connection to an API server.
pub(super) struct ApiConnection {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: JoinHandle<Result<(), hyper::Error>>,
}

impl Drop for ApiConnection {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl ApiConnection {
    pub async fn open(access: &ClusterAccess) -> Result<Self, KubeApiError> {
        let port = access.port;
        let failed = |what: &str, error: &dyn std::error::Error| {
            let cause = crate::cause::chain(error);
            KubeApiError::Failed(format!("its API server on port {port} {what}: {cause}"))
        };
        let connected = TcpStream::connect((LOOPBACK, port)).await;
        let stream = connected.map_err(|error| failed("refuses connections", &error))?;
        let config = tls(access).map_err(|why| KubeApiError::Failed(why.to_owned()))?;
        let host = ServerName::IpAddress(IpAddr::V4(LOOPBACK).into());
        let connector = TlsConnector::from(Arc::new(config));
        let stream =
            connector.connect(host, stream).await.map_err(|error| {
                match is_unknown_issuer(&error) {
                    true => KubeApiError::OtherCluster(port),
                    false => failed("does not speak TLS", &error),
                }
            })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed("does not speak HTTP", &error))?;
        let connection: http1::Connection<TokioIo<TlsStream<TcpStream>>, _> = connection;
        Ok(Self {
            sender,
            connection: tokio::spawn(connection),
        })
    }

    /// The status and the body of what is at a path.
    pub async fn get(&mut self, path: &str) -> Result<(u16, Bytes), KubeApiError> {
        let request = Request::get(path);
        self.send(path, request, Bytes::new()).await
    }

    /// The object at a path; none if there is none.
    pub async fn object(&mut self, path: &str) -> Result<Option<Value>, KubeApiError> {
        let (status, body) = self.get(path).await?;
        match status {
            404 => Ok(None),
            200 => serde_json::from_slice(&body).map(Some).map_err(|_| {
                KubeApiError::Failed(format!("{path}: its API server sends something else"))
            }),
            status => Err(rejected(path, status, &body)),
        }
    }

    /// Applies an object on the server: its fields become those of this one, and others stay.
    pub async fn apply(&mut self, path: &str, object: &Value) -> Result<(), KubeApiError> {
        let with_manager = format!("{path}?fieldManager={FIELD_MANAGER}&force=true");
        // JSON is YAML.
        let request = Request::builder()
            .method(Method::PATCH)
            .uri(with_manager)
            .header("content-type", "application/apply-patch+yaml");
        let sent = self.send(path, request, Bytes::from(object.to_string()));
        match sent.await? {
            (200 | 201, _) => Ok(()),
            (status, body) => Err(rejected(path, status, &body)),
        }
    }

    async fn send(
        &mut self,
        path: &str,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<(u16, Bytes), KubeApiError> {
        let failed = |error: &dyn std::error::Error| {
            KubeApiError::Failed(format!("{path}: {}", crate::cause::chain(error)))
        };
        let request = request
            .header("host", "kubernetes")
            .body(Full::new(body))
            .map_err(|error| failed(&error))?;
        let response = self.sender.send_request(request).await;
        let response = response.map_err(|error| failed(&error))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES);
        let body = body.collect().await.map_err(|error| failed(&*error))?;
        Ok((status, body.to_bytes()))
    }
}

/// The error with the server's own words, which it sends as an object of the kind Status.
fn rejected(path: &str, status: u16, body: &[u8]) -> KubeApiError {
    #[derive(Deserialize)]
    struct Answer {
        message: String,
    }
    let answer: Result<Answer, _> = serde_json::from_slice(body);
    let message = answer.map(|answer| answer.message).unwrap_or_default();
    KubeApiError::Rejected {
        path: path.to_owned(),
        status,
        message: message.chars().take(300).collect(),
    }
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
