//! `/ws/tasks`, as clients of the old system know it: they subscribe to tasks
//! and are told of every change. Unknown messages are ignored.

use std::collections::HashSet;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::live::Frame;

use super::super::access::Tenure;
use super::super::observe::Streams;
use super::Api;
use super::tasks::{task, tasks_of};

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
    responses((status = 101, description = "a WebSocket")))]
pub(super) async fn tasks(
    State(api): State<Api>,
    tenure: Tenure,
    Extension(streams): Extension<Streams>,
    upgrade: WebSocketUpgrade,
) -> Response {
    upgrade
        .max_message_size(LONGEST_MESSAGE)
        .on_upgrade(move |socket| async move {
            let _counted = streams.open();
            // It ends when the other side goes; there is nobody to tell.
            let _ = follow(api, tenure, socket).await;
        })
}

async fn follow(api: Api, tenure: Tenure, mut socket: WebSocket) -> Option<()> {
    let mut wanted: HashSet<String> = HashSet::new();
    // Without the database there is nothing to follow yet; pings still work.
    let mut changes = api.feed.subscribe(None).await.ok();
    loop {
        tokio::select! {
            message = socket.recv() => {
                let Message::Text(text) = message?.ok()? else { continue };
                if let Some(answer) = answer(&text, &mut wanted) {
                    socket.send(Message::text(answer.to_string())).await.ok()?;
                }
            }
            frame = next(&mut changes) => {
                let frame = frame?;
                for update in updates(&api, &frame, &wanted).await {
                    socket.send(Message::text(update.to_string())).await.ok()?;
                }
            }
            () = tenure.over() => return None,
        }
    }
}

async fn next(changes: &mut Option<crate::live::Subscription>) -> Option<std::sync::Arc<Frame>> {
    match changes {
        Some(changes) => changes.frames.recv().await.ok(),
        None => std::future::pending().await,
    }
}

/// What to say to a message of the client, if anything.
fn answer(text: &str, wanted: &mut HashSet<String>) -> Option<Value> {
    let request: Request = serde_json::from_str(text).ok()?;
    match (request.kind.as_str(), request.task_id) {
        ("ping", _) => Some(json!({ "type": "pong" })),
        ("subscribe", Some(task)) if wanted.len() < MOST_TASKS => {
            wanted.insert(task.clone());
            Some(json!({ "type": "subscribed", "task_id": task }))
        }
        ("unsubscribe", Some(task)) => {
            wanted.remove(&task);
            Some(json!({ "type": "unsubscribed", "task_id": task }))
        }
        _ => None,
    }
}

/// The tasks that a change is news for, as they are now.
async fn updates(api: &Api, frame: &Frame, wanted: &HashSet<String>) -> Vec<Value> {
    let mut updates = Vec::new();
    let named = tasks_of(&frame.name);
    // The other ids are of revisions; only reading tells whose.
    let others = wanted.iter().filter(|id| !id.starts_with("reconcile-"));
    for id in named.iter().filter(|id| wanted.contains(*id)).chain(others) {
        if let Ok(task) = task(api, id).await {
            updates.push(json!({ "type": "task_update", "task": task }));
        }
    }
    updates
}
