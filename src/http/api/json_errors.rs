//! Turns the errors of the web framework into `{"detail": …}`.

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::super::error::ApiError;

/// Maximum size of a framework error, in bytes; each is one line.
const MAX_MESSAGE: usize = 4096;

/// A parsed query; an error names the invalid field.
pub(super) struct ValidQuery<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for ValidQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        reject_nul(parts.uri.query().unwrap_or_default())?;
        let read = Query::<T>::from_request_parts(parts, state).await;
        read.map(|Query(query)| Self(query))
            .map_err(|error| query_error(&error))
    }
}

/// Postgres does not store NUL in text, so nothing could match.
fn reject_nul(query: &str) -> Result<(), ApiError> {
    let Some(part) = query.split('&').find(|part| part.contains("%00")) else {
        return Ok(());
    };
    let (field, value) = part.split_once('=').unwrap_or((part, ""));
    let msg = format!("{field}: the character NUL is not allowed here");
    Err(ApiError::field("query", field, msg, Value::from(value)))
}

/// Finds the field in a framework error: `…: FIELD: why`, ``…: missing field `FIELD` `` or
/// ``…: unknown field `FIELD`, expected …``.
fn query_error(error: &QueryRejection) -> ApiError {
    let message = error.body_text();
    let message = message
        .split_once(": ")
        .map_or(message.as_str(), |(_, rest)| rest);
    let field = match message.split_once(": ") {
        Some((field, _)) => field,
        None => message.split('`').nth(1).unwrap_or(""),
    };
    ApiError::field("query", field, message, Value::Null)
}

/// Time until a response must begin; a stream may last longer.
const RESPONSE_WITHIN: Duration = Duration::from_secs(30);

/// Fails a request without a response in time, such as one whose body never
/// arrives.
pub(super) async fn time_out(request: Request, next: Next) -> Response {
    match timeout(RESPONSE_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Unavailable(format!(
            "no answer within {RESPONSE_WITHIN:?}; the request may have been carried out"
        ))
        .into_response(),
    }
}

/// Replaces the body of a framework error by `{"detail": …}`.
pub(super) async fn json_errors(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let message = to_bytes(body, MAX_MESSAGE).await.unwrap_or_default();
    let message = String::from_utf8_lossy(&message).into_owned();
    let detail = match (status, message.is_empty()) {
        (StatusCode::METHOD_NOT_ALLOWED, _) => "this path does not support this method".to_owned(),
        (_, true) => status.canonical_reason().unwrap_or("rejected").to_owned(),
        (_, false) => message,
    };
    let mut rejected = ApiError::Rejected { status, detail }.into_response();
    // Other headers of the framework, such as Allow.
    head.headers.remove(header::CONTENT_TYPE);
    head.headers.remove(header::CONTENT_LENGTH);
    rejected.headers_mut().extend(head.headers);
    rejected
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, Bytes};
    use axum::middleware::from_fn;
    use axum::routing::post;
    use tower_service::Service;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_endless_body_times_out_and_a_stream_does_not() {
        let whole = async |_: Bytes| "read";
        let streamed = async || Body::from_stream(futures_util::stream::pending::<Never>());
        let mut app = Router::new()
            .route("/whole", post(whole))
            .route("/streamed", post(streamed))
            .layer(from_fn(time_out));
        let ask = |path| {
            let body = Body::from_stream(futures_util::stream::pending::<Never>());
            Request::post(path).body(body).unwrap()
        };
        let answer = app.call(ask("/whole")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = to_bytes(answer.into_body(), MAX_MESSAGE).await.unwrap();
        assert!(body.starts_with(b"{\"detail\":\"no answer within 30s"));
        let answer = app.call(ask("/streamed")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let read = to_bytes(answer.into_body(), MAX_MESSAGE);
        assert!(timeout(RESPONSE_WITHIN * 10, read).await.is_err());
    }

    type Never = Result<Bytes, std::convert::Infallible>;
}
