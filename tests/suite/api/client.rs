//! A small HTTP client, and a reader of event streams.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// Deadline of a response.
const RESPONSE_WITHIN: Duration = Duration::from_secs(20);

/// A client of one server.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    port: u16,
    /// The source address on loopback, to act as another client.
    from: Ipv4Addr,
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// Panics with the response unless it has this status.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// The detail of an error.
    pub fn detail(&self) -> String {
        match &self.json()["detail"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Each error of a 422 as `loc: msg`.
    pub fn errors(&self) -> Vec<String> {
        let detail = self.json()["detail"].clone();
        let errors = detail.as_array().expect("a list of errors").iter();
        errors
            .map(|error| {
                assert!(error["type"].is_string(), "{error}");
                assert!(error.get("input").is_some(), "{error}");
                let loc = error["loc"].as_array().expect("a location").iter();
                let loc: Vec<String> = loc
                    .map(|part| part.as_str().map_or(part.to_string(), str::to_owned))
                    .collect();
                format!("{}: {}", loc.join("."), error["msg"].as_str().unwrap())
            })
            .collect()
    }
}

impl Client {
    pub fn to(port: u16) -> Self {
        Self {
            port,
            from: Ipv4Addr::LOCALHOST,
        }
    }

    /// The same with another source address.
    pub fn from(self, from: Ipv4Addr) -> Self {
        Self { from, ..self }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, &[]).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body), &[]).await
    }

    /// A POST without a body.
    pub async fn post_empty(&self, path: &str) -> Answer {
        self.send(Method::POST, path, None, &[]).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body), &[]).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None, &[]).await
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let kind = body.as_ref().map(|_| ("content-type", "application/json"));
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let headers: Vec<_> = kind.into_iter().chain(headers.iter().copied()).collect();
        self.raw(method, path, body, &headers).await
    }

    /// Sends any bytes as the body.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> Answer {
        let answered = async {
            let response = self.open(method, path, body, headers).await;
            let (head, body) = response.into_parts();
            let bytes = body.collect().await.expect("a whole body").to_bytes();
            Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                text: String::from_utf8_lossy(&bytes).into_owned(),
            }
        };
        let answered = timeout(RESPONSE_WITHIN, answered).await;
        answered.unwrap_or_else(|_| panic!("no answer to {path}"))
    }

    /// The status; it does not wait for the body, which may be a stream.
    pub async fn status(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> u16 {
        let kind = body.map(|_| ("content-type", "application/json"));
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let headers: Vec<_> = kind.into_iter().chain(headers.iter().copied()).collect();
        let opened = timeout(RESPONSE_WITHIN, self.open(method, path, body, &headers)).await;
        let response = opened.unwrap_or_else(|_| panic!("no answer to {path}"));
        response.status().as_u16()
    }

    async fn open(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> Response<Incoming> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((self.from, 0).into()).unwrap();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let stream = socket.connect(to).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", format!("127.0.0.1:{}", self.port));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).unwrap();
        sender.send_request(request).await.unwrap()
    }

    /// Opens an event stream.
    pub async fn events(&self, path: &str, last: Option<&str>) -> Events {
        let last = last.map(|last| ("last-event-id", last));
        let headers: Vec<_> = last.into_iter().collect();
        self.events_with(path, &headers).await
    }

    /// Opens an event stream with these headers.
    pub async fn events_with(&self, path: &str, headers: &[(&str, &str)]) -> Events {
        let opened = self.open(Method::GET, path, Bytes::new(), headers);
        let response = timeout(RESPONSE_WITHIN, opened).await.expect("a stream");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events {
            body: response.into_body(),
            text: String::new(),
        }
    }
}

/// An open event stream.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    text: String,
}

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub kind: String,
    pub data: String,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

impl Events {
    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        let next = timeout(RESPONSE_WITHIN, self.read()).await;
        next.expect("no event in time")
    }

    /// The next event of a kind; skips others.
    pub async fn until(&mut self, kind: &str) -> Event {
        loop {
            let event = self.next().await.expect("the stream has ended");
            if event.kind == kind {
                return event;
            }
        }
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let mut event = Event::default();
                for line in block.lines() {
                    match line.split_once(": ").or(line.split_once(':')) {
                        Some(("id", id)) => event.id = Some(id.to_owned()),
                        Some(("event", kind)) => event.kind = kind.to_owned(),
                        Some(("data", data)) => event.data.push_str(data),
                        _ => {}
                    }
                }
                if !event.kind.is_empty() {
                    return Some(event);
                }
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.text.push_str(&String::from_utf8_lossy(data));
            }
        }
    }
}
