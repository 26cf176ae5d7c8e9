//! Counts requests by route template; counts open streams and limits them. It
//! must not change responses in any other way.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::core::metrics::CountedInGauge;
use crate::metrics::Metrics;

use super::error::ApiError;

/// The route label of all paths that no route matches: they serve the page.
const PAGE: &str = "page";

/// Counts open streams and limits them. Handlers whose stream outlives the
/// response body use it directly.
#[derive(Clone)]
pub(super) struct StreamLimiter {
    metrics: Arc<Metrics>,
    slots: Arc<Semaphore>,
    max: usize,
}

/// Counts as an open stream until it is dropped.
pub(super) struct StreamPermit {
    _counted: CountedInGauge,
    _slot: OwnedSemaphorePermit,
}

impl StreamLimiter {
    /// Allows `max` open streams.
    pub(super) fn new(metrics: Arc<Metrics>, max: usize) -> Self {
        Self {
            metrics,
            slots: Arc::new(Semaphore::new(max)),
            max,
        }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// 503 at the limit.
    pub(super) fn open(&self) -> Result<StreamPermit, ApiError> {
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_| {
            let max = self.max;
            ApiError::Unavailable(format!("the limit of {max} open streams is reached"))
        })?;
        Ok(StreamPermit {
            _counted: self.metrics.http.stream(),
            _slot: slot,
        })
    }
}

pub(super) async fn record(
    State(streams): State<StreamLimiter>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    request.extensions_mut().insert(streams.clone());
    let response = next.run(request).await;
    let response = match is_event_stream(&response).then(|| streams.open()) {
        None => response,
        Some(Ok(open)) => counted(response, open),
        Some(Err(full)) => full.into_response(),
    };
    let route = route.as_ref().map_or(PAGE, MatchedPath::as_str);
    let code = response.status();
    // The duration of a stream is not a latency.
    let is_stream = is_event_stream(&response) || code == StatusCode::SWITCHING_PROTOCOLS;
    let took = (!is_stream).then(|| began.elapsed());
    let http = &streams.metrics.http;
    http.answered(method, route, code.as_u16(), took);
    response
}

/// The label for a method, from a closed set: a client may send any method.
fn method_label(method: &Method) -> &'static str {
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

/// Keeps the permit until the body of the response is dropped.
fn counted(response: Response, permit: StreamPermit) -> Response {
    response.map(|body| {
        Body::from_stream(body.into_data_stream().inspect(move |_| {
            let _permit = &permit;
        }))
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use axum::response::sse::{Event, Sse};
    use axum::routing::get;
    use futures_util::stream::pending;
    use tower_service::Service;

    use super::*;

    #[tokio::test]
    async fn streams_are_limited_and_short_requests_are_not() {
        let streams = StreamLimiter::new(Arc::new(Metrics::new()), 1);
        let endless = async || Sse::new(pending::<Result<Event, Infallible>>());
        let mut app = Router::new()
            .route("/endless", get(endless))
            .route("/short", get(async || "short"))
            .layer(from_fn_with_state(streams.clone(), record));
        let mut get = async |path| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            app.call(request).await.unwrap()
        };
        let first = get("/endless").await;
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(
            get("/endless").await.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert!(streams.open().is_err());
        assert_eq!(get("/short").await.status(), StatusCode::OK);
        drop(first);
        assert_eq!(get("/endless").await.status(), StatusCode::OK);
        drop(streams.open().unwrap());
    }
}
