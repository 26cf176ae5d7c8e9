//! `/ws/tasks`, as in the old system: clients subscribe to tasks and receive
//! every change. Unknown messages are ignored.

use std::collections::HashMap;
use std::future::pending;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::live::{Frame, Subscription};

use super::super::access::StreamLifetime;
use super::super::error::ApiError;
use super::super::request_metrics::StreamLimiter;
use super::Api;
use super::tasks::{cluster_of, task, tasks_of};

/// Maximum size of a client message, in bytes.
const MAX_MESSAGE: usize = 4096;
/// Maximum number of tasks that one connection may follow.
const MAX_TASKS: usize = 1000;

#[derive(Deserialize)]
struct SocketRequest {
    #[serde(rename = "type")]
    kind: String,
    task_id: Option<String>,
}

/// Follow tasks over a WebSocket.
#[utoipa::path(get, path = "/ws/tasks", tag = "tasks", security(("token" = ["read"])),
    responses((status = 101, description = "a WebSocket"), (status = 503)))]
pub(super) async fn tasks(
    State(api): State<Api>,
    lifetime: StreamLifetime,
    Extension(streams): Extension<StreamLimiter>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let permit = streams.open()?;
    let response = upgrade
        .max_message_size(MAX_MESSAGE)
        .on_upgrade(move |socket| async move {
            let _permit = permit;
            // `None` means that the connection has ended.
            let _ = follow(api, lifetime, socket).await;
        });
    Ok(response)
}

/// The followed tasks. A task of a revision has the name of its cluster once that
/// was read; the name is empty if there is no such revision.
type Followed = HashMap<String, Option<String>>;

/// Time between two attempts to subscribe while the database is unreachable.
const SUBSCRIBE_RETRY: Duration = Duration::from_secs(1);

async fn follow(api: Api, lifetime: StreamLifetime, mut socket: WebSocket) -> Option<()> {
    let mut followed = Followed::new();
    // Subscribes before it answers, so that no change after an answer is missed.
    // Without the database it subscribes later; pings work at once.
    let mut changes = api.feed.subscribe(None).await.ok();
    let mut late = Box::pin(subscribed_late(&api));
    loop {
        tokio::select! {
            subscription = &mut late, if changes.is_none() => {
                changes = Some(subscription);
                // These may have changed meanwhile.
                let missed: Vec<String> = followed.keys().cloned().collect();
                for update in updates(&api, &missed).await {
                    socket.send(Message::text(update.to_string())).await.ok()?;
                }
            }
            message = socket.recv() => {
                let Message::Text(text) = message?.ok()? else { continue };
                if let Some(answer) = answer(&text, &mut followed) {
                    socket.send(Message::text(answer.to_string())).await.ok()?;
                }
            }
            frame = next(&mut changes) => {
                let frame = frame?;
                let changed = changed_tasks(&api, &frame, &mut followed).await;
                for update in updates(&api, &changed).await {
                    socket.send(Message::text(update.to_string())).await.ok()?;
                }
            }
            () = lifetime.ended() => return None,
        }
    }
}

async fn subscribed_late(api: &Api) -> Subscription {
    loop {
        tokio::time::sleep(SUBSCRIBE_RETRY).await;
        if let Ok(subscription) = api.feed.subscribe(None).await {
            return subscription;
        }
    }
}

async fn next(changes: &mut Option<Subscription>) -> Option<std::sync::Arc<Frame>> {
    match changes {
        Some(changes) => changes.frames.recv().await.ok(),
        None => pending().await,
    }
}

/// The answer to a client message, if it has one.
fn answer(text: &str, followed: &mut Followed) -> Option<Value> {
    let request: SocketRequest = serde_json::from_str(text).ok()?;
    match (request.kind.as_str(), request.task_id) {
        ("ping", _) => Some(json!({ "type": "pong" })),
        ("subscribe", Some(task)) if followed.len() < MAX_TASKS => {
            followed.entry(task.clone()).or_default();
            Some(json!({ "type": "subscribed", "task_id": task }))
        }
        ("unsubscribe", Some(task)) => {
            followed.remove(&task);
            Some(json!({ "type": "unsubscribed", "task_id": task }))
        }
        _ => None,
    }
}

/// The followed tasks that a change concerns.
async fn changed_tasks(api: &Api, frame: &Frame, followed: &mut Followed) -> Vec<String> {
    let mut changed = Vec::new();
    if frame.name.is_empty() {
        return changed;
    }
    let named = tasks_of(&frame.name);
    for (id, cluster) in followed {
        if id.starts_with("reconcile-") {
            if named.contains(id) {
                changed.push(id.clone());
            }
            continue;
        }
        // Other ids are those of revisions, and are looked up once.
        if cluster.is_none() {
            *cluster = match cluster_of(api, id).await {
                Ok(name) => Some(name),
                Err(ApiError::NotFound(_)) => Some(String::new()),
                Err(_) => None,
            };
        }
        if cluster.as_ref() == Some(&frame.name) {
            changed.push(id.clone());
        }
    }
    changed
}

/// The current state of tasks.
async fn updates(api: &Api, ids: &[String]) -> Vec<Value> {
    let mut updates = Vec::new();
    for id in ids {
        if let Ok(task) = task(api, id).await {
            updates.push(json!({ "type": "task_update", "task": task }));
        }
    }
    updates
}
