//! Counts requests by route template, and streams while they are open. It must
//! not change what is answered.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt;

use crate::metrics::{Metrics, Occupied};

/// What no route matches is the page, whatever its path.
const PAGE: &str = "page";

/// Given to handlers whose stream does not end with their answer's body.
#[derive(Clone)]
pub(super) struct Streams(Arc<Metrics>);

impl Streams {
    /// Counts a stream as open, until the answer is dropped.
    pub(super) fn open(&self) -> Occupied {
        self.0.http.stream()
    }
}

pub(super) async fn observe(
    State(metrics): State<Arc<Metrics>>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let method = method_word(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let streams = Streams(metrics.clone());
    request.extensions_mut().insert(streams.clone());
    let response = next.run(request).await;
    let route = route.as_ref().map_or(PAGE, MatchedPath::as_str);
    let code = response.status();
    let events = is_event_stream(&response);
    // How long somebody looks is no latency.
    let endless = events || code == StatusCode::SWITCHING_PROTOCOLS;
    let took = (!endless).then(|| began.elapsed());
    metrics.http.answered(method, route, code.as_u16(), took);
    if events {
        counted(response, streams.open())
    } else {
        response
    }
}

/// A closed set: a client may send any word as its method.
fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn is_event_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.map(HeaderValue::as_bytes)
        .is_some_and(|kind| kind.starts_with(b"text/event-stream"))
}

/// The same answer, whose body holds `open` until it goes.
fn counted(response: Response, open: Occupied) -> Response {
    response.map(|body| {
        Body::from_stream(body.into_data_stream().inspect(move |_| {
            let _held = &open;
        }))
    })
}
