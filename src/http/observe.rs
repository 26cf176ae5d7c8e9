//! Counts requests by route template, and streams while they are open, of which
//! there is a most. It must not change what is answered otherwise.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::core::metrics::Occupied;
use crate::metrics::Metrics;

use super::error::ApiError;

/// What no route matches is the page, whatever its path.
const PAGE: &str = "page";

/// The streams that are open. Given to handlers whose stream does not end with
/// their answer's body.
#[derive(Clone)]
pub(super) struct Streams {
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
    most: usize,
}

/// An open stream, until it is dropped.
pub(super) struct Open {
    _counted: Occupied,
    _place: OwnedSemaphorePermit,
}

impl Streams {
    /// At most so many at once.
    pub(super) fn new(metrics: Arc<Metrics>, most: usize) -> Self {
        Self {
            metrics,
            places: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// Counts a stream as open, until the answer is dropped.
    ///
    /// # Errors
    /// 503 when there are as many as there may be.
    pub(super) fn open(&self) -> Result<Open, ApiError> {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| {
            let most = self.most;
            ApiError::Unavailable(format!("the limit of {most} open streams is reached"))
        })?;
        Ok(Open {
            _counted: self.metrics.http.stream(),
            _place: place,
        })
    }
}

pub(super) async fn observe(
    State(streams): State<Streams>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let method = method_word(request.method());
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
    // How long somebody looks is no latency.
    let endless = is_event_stream(&response) || code == StatusCode::SWITCHING_PROTOCOLS;
    let took = (!endless).then(|| began.elapsed());
    let http = &streams.metrics.http;
    http.answered(method, route, code.as_u16(), took);
    response
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
fn counted(response: Response, open: Open) -> Response {
    response.map(|body| {
        Body::from_stream(body.into_data_stream().inspect(move |_| {
            let _held = &open;
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
    async fn there_is_a_most_of_streams_and_what_ends_is_answered_besides() {
        let streams = Streams::new(Arc::new(Metrics::new()), 1);
        let endless = async || Sse::new(pending::<Result<Event, Infallible>>());
        let mut app = Router::new()
            .route("/endless", get(endless))
            .route("/short", get(async || "short"))
            .layer(from_fn_with_state(streams.clone(), observe));
        let mut ask = async |path| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            app.call(request).await.unwrap()
        };
        let first = ask("/endless").await;
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(
            ask("/endless").await.status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert!(streams.open().is_err());
        assert_eq!(ask("/short").await.status(), StatusCode::OK);
        drop(first);
        assert_eq!(ask("/endless").await.status(), StatusCode::OK);
        drop(streams.open().unwrap());
    }
}
