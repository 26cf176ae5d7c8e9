//! `/ws/tasks`, with a real WebSocket client.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{SOON, Site, quiet_site, site, site_with_own_postgres};
use crate::kit::Sql;

pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    pub async fn open(site: &Site) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", site.daemon.port()))
            .await
            .unwrap();
        let url = format!("ws://127.0.0.1:{}/ws/tasks", site.daemon.port());
        Self(client_async(url, stream).await.unwrap().0)
    }

    pub async fn send_json(&mut self, message: Value) {
        self.0
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    pub async fn receive(&mut self) -> Value {
        loop {
            let message = timeout(SOON, self.0.next())
                .await
                .expect("no message in time");
            if let Message::Text(text) = message.expect("an open socket").unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn only_subscribers_receive_updates_of_a_task() {
    let site = site().await;
    let (mut mine, mut other) = (Socket::open(&site).await, Socket::open(&site).await);
    mine.send_json(json!({"type": "subscribe", "task_id": "reconcile-dev"}))
        .await;
    assert_eq!(
        mine.receive().await,
        json!({"type": "subscribed", "task_id": "reconcile-dev"})
    );
    other
        .send_json(json!({"type": "subscribe", "task_id": "reconcile-else"}))
        .await;
    assert_eq!(other.receive().await["type"], "subscribed");
    site.declare("dev").await;
    loop {
        let update = mine.receive().await;
        assert_eq!(update["type"], "task_update");
        let task = &update["task"];
        assert_eq!(task["task_id"], "reconcile-dev");
        for field in [
            "status",
            "progress",
            "message",
            "logs",
            "error",
            "created_at",
            "updated_at",
            "completed_at",
        ] {
            assert!(task.get(field).is_some(), "{field} in {task}");
        }
        if task["status"] == "completed" {
            let read = site.http.get("/api/tasks/reconcile-dev").await.json();
            assert_eq!(read["status"], "completed");
            break;
        }
    }
    // The other client received no update before this answer.
    other.send_json(json!({"type": "ping"})).await;
    assert_eq!(other.receive().await, json!({"type": "pong"}));
    mine.send_json(json!({"type": "unsubscribe", "task_id": "reconcile-dev"}))
        .await;
    while mine.receive().await["type"] != "unsubscribed" {}
    site.http.delete("/api/clusters/dev").await.is(202);
    site.until_gone("dev").await;
    mine.send_json(json!({"type": "ping"})).await;
    assert_eq!(mine.receive().await["type"], "pong");
}

#[tokio::test]
async fn a_deletion_sends_updates_until_it_is_completed() {
    let site = site().await;
    site.declare("dev").await;
    site.until("dev", "actual_state", "running").await;
    let mut socket = Socket::open(&site).await;
    socket
        .send_json(json!({"type": "subscribe", "task_id": "reconcile-delete-dev"}))
        .await;
    socket.receive().await;
    let stop = site
        .http
        .post_empty("/api/clusters/dev/stop")
        .await
        .is(202)
        .json();
    socket
        .send_json(json!({"type": "subscribe", "task_id": stop["task_id"]}))
        .await;
    site.until("dev", "actual_state", "stopped").await;
    site.http.delete("/api/clusters/dev").await.is(202);
    loop {
        let update = socket.receive().await;
        if update["task"]["task_id"] == "reconcile-delete-dev"
            && update["task"]["status"] == "completed"
        {
            break;
        }
    }
}

#[tokio::test]
async fn invalid_messages_are_ignored() {
    let site = site().await;
    let mut socket = Socket::open(&site).await;
    for message in [
        "",
        "{",
        "[]",
        "null",
        "{\"type\": 7}",
        "{\"type\": \"shout\"}",
        "{\"type\": \"subscribe\"}",
    ] {
        socket.0.send(Message::text(message)).await.unwrap();
    }
    socket
        .0
        .send(Message::binary(vec![0, 159, 146, 150]))
        .await
        .unwrap();
    socket.send_json(json!({"type": "ping"})).await;
    assert_eq!(socket.receive().await, json!({"type": "pong"}));
    // An oversized message ends the connection only.
    let _ = socket.0.send(Message::text("x".repeat(1 << 20))).await;
    while let Some(Ok(message)) = timeout(SOON, socket.0.next()).await.expect("an end") {
        assert!(message.is_close(), "{message}");
    }
    site.http.get("/api/health").await.is(200);
}

#[tokio::test]
async fn only_its_own_cluster_updates_a_revision_task() {
    let site = quiet_site().await;
    site.declare("dev").await;
    site.declare("else").await;
    let stop = site.http.post_empty("/api/clusters/dev/stop").await.json();
    let mut socket = Socket::open(&site).await;
    for id in [&stop["task_id"], &json!("reconcile-else")] {
        socket
            .send_json(json!({"type": "subscribe", "task_id": id}))
            .await;
        assert_eq!(socket.receive().await["type"], "subscribed");
    }
    for n in 1..=3 {
        let labels = json!({ "labels": { "n": n.to_string() } });
        site.http.patch("/api/clusters/else", labels).await.is(200);
        let update = socket.receive().await;
        assert_eq!(update["task"]["task_id"], "reconcile-else", "{update}");
    }
    let labels = json!({ "labels": { "a": "b" } });
    site.http.patch("/api/clusters/dev", labels).await.is(200);
    assert_eq!(socket.receive().await["task"]["task_id"], stop["task_id"]);
}

#[tokio::test]
async fn a_socket_recovers_after_a_database_outage() {
    let (server, site) = site_with_own_postgres().await;
    server.kill().await;
    let mut socket = Socket::open(&site).await;
    socket
        .send_json(json!({"type": "subscribe", "task_id": "reconcile-dev"}))
        .await;
    assert_eq!(socket.receive().await["type"], "subscribed");
    server.start().await;
    site.database.declare("dev").await;
    let update = socket.receive().await;
    assert_eq!(update["task"]["task_id"], "reconcile-dev", "{update}");
}
