//! The event stream: all clusters, then every change, until the client
//! disconnects or falls too far behind.

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

use super::super::access::StreamLifetime;
use super::super::error::ApiError;
use super::Api;

/// Clusters per part of a snapshot: a client shows the first part before it
/// receives the last.
const PART: usize = 500;
/// Interval of comments, which keep proxies from closing an idle stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// All clusters and then every change, as server-sent events: snapshot (in parts), synced, upsert,
/// remove, status. Last-Event-ID resumes the stream.
#[utoipa::path(get, path = "/api/stream", tag = "live", security(("token" = ["read"])),
    responses((status = 200, description = "text/event-stream"), (status = 503)))]
pub(super) async fn stream(
    State(api): State<Api>,
    lifetime: StreamLifetime,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let subscription = api.feed.subscribe(last).await;
    let subscription = subscription.map_err(|error| ApiError::Unavailable(error.to_string()))?;
    let events = opening(&subscription).chain(following(subscription));
    // A stream ends with its credential, and must not block a shutdown.
    let events = events.take_until(async move { lifetime.ended().await });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

/// The first events: all clusters, or the missed changes.
fn opening(subscription: &Subscription) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    let mut events = Vec::new();
    match &subscription.backlog {
        Backlog::Missed(frames) => events.extend(frames.iter().map(|frame| event_of(frame))),
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
    // Without an id: it is not a change, and a resumed stream repeats it.
    if let Some(warning) = &subscription.warning {
        let kind = FrameKind::Status.as_str();
        events.push(Event::default().event(kind).data(warning));
    }
    stream::iter(events.into_iter().map(Ok))
}

/// The changes from then on. The stream ends if the client falls too far behind;
/// a new stream sends all clusters again.
fn following(subscription: Subscription) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(subscription, |mut subscription| async move {
        let frame = subscription.frames.recv().await.ok()?;
        Some((Ok(event_of(&frame)), subscription))
    })
}

fn event_of(frame: &Frame) -> Event {
    Event::default()
        .id(&frame.id)
        .event(frame.kind.as_str())
        .data(&*frame.data)
}
