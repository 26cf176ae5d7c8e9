//! The requests of a browser: one connection that stays open for requests, and readers
//! of the event stream. It must not evaluate what it reads.

use std::time::SystemTime;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;

use crate::bare::micros;

/// A connection to the API.
pub struct Browser {
    port: u16,
    sender: SendRequest<Full<Bytes>>,
}

impl Browser {
    pub async fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("connect");
        stream.set_nodelay(true).expect("set no delay");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("shake hands");
        tokio::spawn(connection);
        Self { port, sender }
    }

    async fn request(&mut self, method: &str, path: &str, body: String) -> Response<Incoming> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("127.0.0.1:{}", self.port))
            .header("content-type", "application/json")
            .body(Full::from(body))
            .expect("a request");
        self.sender.send_request(request).await.expect("an answer")
    }

    /// Declares something; returns when the whole answer has arrived.
    pub async fn post(&mut self, path: &str, body: String) {
        let answer = self.request("POST", path, body).await;
        let status = answer.status();
        let text = answer.into_body().collect().await.expect("a whole answer");
        assert_eq!(status, 202, "{text:?}");
    }

    /// Reads the event stream to its end: each chunk with its time of arrival.
    pub async fn follow(mut self, chunks: UnboundedSender<(i64, Bytes)>) {
        let answer = self.request("GET", "/api/stream", String::new()).await;
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            let at = micros(SystemTime::now());
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            if chunks.send((at, bytes)).is_err() {
                return;
            }
        }
    }
}
