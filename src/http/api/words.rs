//! Every refusal in the form that clients know, also those that the web
//! framework makes before a handler runs.

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

/// The framework's own words are a line.
const LONGEST_WORDS: usize = 4096;

/// A query that was read; what is wrong with it names its field.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        without_nul(parts.uri.query().unwrap_or_default())?;
        let read = Query::<T>::from_request_parts(parts, state).await;
        read.map(|Query(query)| Self(query))
            .map_err(|error| refused(&error))
    }
}

/// No text of Postgres holds a NUL, so nothing is found by one.
fn without_nul(query: &str) -> Result<(), ApiError> {
    let Some(part) = query.split('&').find(|part| part.contains("%00")) else {
        return Ok(());
    };
    let (field, value) = part.split_once('=').unwrap_or((part, ""));
    let msg = format!("{field}: the character NUL is not allowed here");
    Err(ApiError::field("query", field, msg, Value::from(value)))
}

/// The framework says `…: FIELD: why`, ``…: missing field `FIELD` `` or
/// ``…: unknown field `FIELD`, expected …``.
fn refused(error: &QueryRejection) -> ApiError {
    let words = error.body_text();
    let words = words
        .split_once(": ")
        .map_or(words.as_str(), |(_, rest)| rest);
    let field = match words.split_once(": ") {
        Some((field, _)) => field,
        None => words.split('`').nth(1).unwrap_or(""),
    };
    ApiError::field("query", field, words, Value::Null)
}

/// How long an answer may take to begin; streams go on for longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Gives up on a request that is not answered in time, as when its body never
/// comes.
pub(super) async fn answer_in_time(request: Request, next: Next) -> Response {
    match timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Unavailable(format!(
            "no answer within {ANSWER_WITHIN:?}; the request may have been carried out"
        ))
        .into_response(),
    }
}

/// Puts whatever the framework refuses by itself into `{"detail": …}`.
pub(super) async fn put_in_words(request: Request, next: Next) -> Response {
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
    let words = to_bytes(body, LONGEST_WORDS).await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words).into_owned();
    let detail = match (status, words.is_empty()) {
        (StatusCode::METHOD_NOT_ALLOWED, _) => "this path does not support this method".to_owned(),
        (_, true) => status.canonical_reason().unwrap_or("refused").to_owned(),
        (_, false) => words,
    };
    let mut refused = ApiError::Refused { status, detail }.into_response();
    // What the framework said besides, as Allow.
    head.headers.remove(header::CONTENT_TYPE);
    head.headers.remove(header::CONTENT_LENGTH);
    refused.headers_mut().extend(head.headers);
    refused
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
    async fn a_body_that_never_ends_is_given_up_and_a_stream_goes_on() {
        let whole = async |_: Bytes| "read";
        let streamed = async || Body::from_stream(futures_util::stream::pending::<Never>());
        let mut app = Router::new()
            .route("/whole", post(whole))
            .route("/streamed", post(streamed))
            .layer(from_fn(answer_in_time));
        let ask = |path| {
            let body = Body::from_stream(futures_util::stream::pending::<Never>());
            Request::post(path).body(body).unwrap()
        };
        let answer = app.call(ask("/whole")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let words = to_bytes(answer.into_body(), LONGEST_WORDS).await.unwrap();
        assert!(words.starts_with(b"{\"detail\":\"no answer within 30s"));
        let answer = app.call(ask("/streamed")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let read = to_bytes(answer.into_body(), LONGEST_WORDS);
        assert!(timeout(ANSWER_WITHIN * 10, read).await.is_err());
    }

    type Never = Result<Bytes, std::convert::Infallible>;
}
