//! The live stream (SSE): every cluster, then every change, until the reader
//! goes or cannot keep up.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::json;

use crate::live::{Backlog, Frame, FrameKind, Subscription};

use super::super::access::Tenure;
use super::super::error::ApiError;
use super::Api;

/// So many clusters come in one part of a snapshot, so that the first are seen
/// before the last were sent.
const PART: usize = 500;
/// A comment keeps proxies from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// All clusters and then every change, as server-sent events: snapshot (in parts), synced, upsert,
/// remove, status. Last-Event-ID resumes the stream.
#[utoipa::path(get, path = "/api/stream", tag = "live", security(("token" = ["read"])),
    responses((status = 200, description = "text/event-stream"), (status = 503)))]
pub(super) async fn stream(
    State(api): State<Api>,
    tenure: Tenure,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let subscription = api.feed.subscribe(last).await;
    let subscription = subscription.map_err(|error| ApiError::Unavailable(error.to_string()))?;
    let events = opening(&subscription).chain(following(subscription));
    // An open stream does not keep the server from ending, nor does it outlive its token.
    let events = events.take_until(async move { tenure.over().await });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

/// Where the stream starts: everything, or what was missed.
fn opening(subscription: &Subscription) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    let mut events = Vec::new();
    match &subscription.backlog {
        Backlog::Missed(frames) => events.extend(frames.iter().map(|frame| told(frame))),
        Backlog::Snapshot(rows) => {
            let parts = rows.chunks(PART);
            let count = parts.len().max(1);
            let none: [&[Arc<str>]; 1] = [&[]];
            let parts: Vec<&[Arc<str>]> = if rows.is_empty() {
                none.to_vec()
            } else {
                parts.collect()
            };
            for (n, part) in parts.into_iter().enumerate() {
                let rows: Vec<&str> = part.iter().map(|row| &**row).collect();
                let data = format!(
                    "{{\"part\":{n},\"parts\":{count},\"clusters\":[{}]}}",
                    rows.join(",")
                );
                events.push(Event::default().event("snapshot").data(data));
            }
        }
    }
    let synced = json!({ "at": jiff::Timestamp::now(), "total": subscription.total });
    let synced = Event::default()
        .id(&subscription.id)
        .event("synced")
        .data(synced.to_string());
    events.push(synced);
    // Without an id: it is no change, and whoever resumes is told again.
    if let Some(warning) = &subscription.warning {
        let kind = FrameKind::Status.as_str();
        events.push(Event::default().event(kind).data(warning));
    }
    stream::iter(events.into_iter().map(Ok))
}

/// What happens from then on. A reader that lags too far behind is let go: it
/// comes back and gets everything anew.
fn following(subscription: Subscription) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(subscription, |mut subscription| async move {
        let frame = subscription.frames.recv().await.ok()?;
        Some((Ok(told(&frame)), subscription))
    })
}

fn told(frame: &Frame) -> Event {
    Event::default()
        .id(&frame.id)
        .event(frame.kind.as_str())
        .data(&*frame.data)
}
