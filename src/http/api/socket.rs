//! `/ws/tasks`, as clients of the old system know it: they subscribe to tasks
//! and are told of every change. Unknown messages are ignored.

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

use super::super::access::Tenure;
use super::super::error::ApiError;
use super::super::observe::Streams;
use super::Api;
use super::tasks::{cluster_of, task, tasks_of};

/// The longest message that a client may send.
const LONGEST_MESSAGE: usize = 4096;
/// So many tasks may be followed over one connection.
const MOST_TASKS: usize = 1000;

#[derive(Deserialize)]
struct Request {
    #[serde(rename = "type")]
    kind: String,
    task_id: Option<String>,
}

/// Follow tasks over a WebSocket.
#[utoipa::path(get, path = "/ws/tasks", tag = "tasks", security(("token" = ["read"])),
    responses((status = 101, description = "a WebSocket"), (status = 503)))]
pub(super) async fn tasks(
    State(api): State<Api>,
    tenure: Tenure,
    Extension(streams): Extension<Streams>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let open = streams.open()?;
    let followed = upgrade
        .max_message_size(LONGEST_MESSAGE)
        .on_upgrade(move |socket| async move {
            let _counted = open;
            // It ends when the other side goes; there is nobody to tell.
            let _ = follow(api, tenure, socket).await;
        });
    Ok(followed)
}

/// The tasks that are followed. Of a task that a revision ordered, with the
/// cluster that it is about, once that was read; nobody's has an empty name.
type Wanted = HashMap<String, Option<String>>;

/// Between two tries to follow the clusters, while the database is away.
const FOLLOW_AGAIN: Duration = Duration::from_secs(1);

async fn follow(api: Api, tenure: Tenure, mut socket: WebSocket) -> Option<()> {
    let mut wanted = Wanted::new();
    // Before anything is answered, so that nothing which follows an answer is missed.
    // Without the database there is nothing to follow yet; pings still work.
    let mut changes = api.feed.subscribe(None).await.ok();
    let mut late = Box::pin(subscribed_late(&api));
    loop {
        tokio::select! {
            subscription = &mut late, if changes.is_none() => {
                changes = Some(subscription);
                // What was missed meanwhile.
                let missed: Vec<String> = wanted.keys().cloned().collect();
                for update in told(&api, &missed).await {
                    socket.send(Message::text(update.to_string())).await.ok()?;
                }
            }
            message = socket.recv() => {
                let Message::Text(text) = message?.ok()? else { continue };
                if let Some(answer) = answer(&text, &mut wanted) {
                    socket.send(Message::text(answer.to_string())).await.ok()?;
                }
            }
            frame = next(&mut changes) => {
                let frame = frame?;
                let touched = touched(&api, &frame, &mut wanted).await;
                for update in told(&api, &touched).await {
                    socket.send(Message::text(update.to_string())).await.ok()?;
                }
            }
            () = tenure.over() => return None,
        }
    }
}

async fn subscribed_late(api: &Api) -> Subscription {
    loop {
        tokio::time::sleep(FOLLOW_AGAIN).await;
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

/// What to say to a message of the client, if anything.
fn answer(text: &str, wanted: &mut Wanted) -> Option<Value> {
    let request: Request = serde_json::from_str(text).ok()?;
    match (request.kind.as_str(), request.task_id) {
        ("ping", _) => Some(json!({ "type": "pong" })),
        ("subscribe", Some(task)) if wanted.len() < MOST_TASKS => {
            wanted.entry(task.clone()).or_default();
            Some(json!({ "type": "subscribed", "task_id": task }))
        }
        ("unsubscribe", Some(task)) => {
            wanted.remove(&task);
            Some(json!({ "type": "unsubscribed", "task_id": task }))
        }
        _ => None,
    }
}

/// The tasks that a change is news for.
async fn touched(api: &Api, frame: &Frame, wanted: &mut Wanted) -> Vec<String> {
    let mut touched = Vec::new();
    if frame.name.is_empty() {
        return touched;
    }
    let named = tasks_of(&frame.name);
    for (id, cluster) in wanted {
        if id.starts_with("reconcile-") {
            if named.contains(id) {
                touched.push(id.clone());
            }
            continue;
        }
        // Only the books tell whose the other ids are; they are asked once.
        if cluster.is_none() {
            *cluster = match cluster_of(api, id).await {
                Ok(name) => Some(name),
                Err(ApiError::NotFound(_)) => Some(String::new()),
                Err(_) => None,
            };
        }
        if cluster.as_ref() == Some(&frame.name) {
            touched.push(id.clone());
        }
    }
    touched
}

/// Tasks as they are now.
async fn told(api: &Api, ids: &[String]) -> Vec<Value> {
    let mut updates = Vec::new();
    for id in ids {
        if let Ok(task) = task(api, id).await {
            updates.push(json!({ "type": "task_update", "task": task }));
        }
    }
    updates
}
