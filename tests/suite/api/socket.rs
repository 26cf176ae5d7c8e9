//! `/ws/tasks` with a real client.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{SOON, Site, on_a_server_of_its_own, quiet_site, site};

pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    pub async fn open(site: &Site) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", site.daemon.port()))
            .await
            .unwrap();
        let url = format!("ws://127.0.0.1:{}/ws/tasks", site.daemon.port());
        Self(client_async(url, stream).await.unwrap().0)
    }

    pub async fn say(&mut self, message: Value) {
        self.0
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    pub async fn hear(&mut self) -> Value {
        loop {
            let message = timeout(SOON, self.0.next())
                .await
                .expect("the socket is silent");
            if let Message::Text(text) = message.expect("an open socket").unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn subscribers_and_only_they_hear_of_their_tasks() {
    let site = site().await;
    let (mut mine, mut other) = (Socket::open(&site).await, Socket::open(&site).await);
    mine.say(json!({"type": "subscribe", "task_id": "reconcile-dev"}))
        .await;
    assert_eq!(
        mine.hear().await,
        json!({"type": "subscribed", "task_id": "reconcile-dev"})
    );
    other
        .say(json!({"type": "subscribe", "task_id": "reconcile-else"}))
        .await;
    assert_eq!(other.hear().await["type"], "subscribed");
    site.declare("dev").await;
    loop {
        let update = mine.hear().await;
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
    // Nothing stood before this answer.
    other.say(json!({"type": "ping"})).await;
    assert_eq!(other.hear().await, json!({"type": "pong"}));
    mine.say(json!({"type": "unsubscribe", "task_id": "reconcile-dev"}))
        .await;
    while mine.hear().await["type"] != "unsubscribed" {}
    site.http.delete("/api/clusters/dev").await.is(202);
    site.until_gone("dev").await;
    mine.say(json!({"type": "ping"})).await;
    assert_eq!(mine.hear().await["type"], "pong");
}

#[tokio::test]
async fn a_deletion_is_told_to_its_end() {
    let site = site().await;
    site.declare("dev").await;
    site.until("dev", "actual_state", "running").await;
    let mut socket = Socket::open(&site).await;
    socket
        .say(json!({"type": "subscribe", "task_id": "reconcile-delete-dev"}))
        .await;
    socket.hear().await;
    let stop = site
        .http
        .order("/api/clusters/dev/stop")
        .await
        .is(202)
        .json();
    socket
        .say(json!({"type": "subscribe", "task_id": stop["task_id"]}))
        .await;
    site.until("dev", "actual_state", "stopped").await;
    site.http.delete("/api/clusters/dev").await.is(202);
    loop {
        let update = socket.hear().await;
        if update["task"]["task_id"] == "reconcile-delete-dev"
            && update["task"]["status"] == "completed"
        {
            break;
        }
    }
}

#[tokio::test]
async fn nonsense_is_ignored() {
    let site = site().await;
    let mut socket = Socket::open(&site).await;
    for nonsense in [
        "",
        "{",
        "[]",
        "null",
        "{\"type\": 7}",
        "{\"type\": \"shout\"}",
        "{\"type\": \"subscribe\"}",
    ] {
        socket.0.send(Message::text(nonsense)).await.unwrap();
    }
    socket
        .0
        .send(Message::binary(vec![0, 159, 146, 150]))
        .await
        .unwrap();
    socket.say(json!({"type": "ping"})).await;
    assert_eq!(socket.hear().await, json!({"type": "pong"}));
    // One that is too long ends the connection and nothing else.
    let _ = socket.0.send(Message::text("x".repeat(1 << 20))).await;
    while let Some(Ok(message)) = timeout(SOON, socket.0.next()).await.expect("an end") {
        assert!(message.is_close(), "{message}");
    }
    site.http.get("/api/health").await.is(200);
}

#[tokio::test]
async fn a_task_of_a_revision_is_told_of_its_own_cluster_only() {
    let site = quiet_site().await;
    site.declare("dev").await;
    site.declare("else").await;
    let stop = site.http.order("/api/clusters/dev/stop").await.json();
    let mut socket = Socket::open(&site).await;
    for id in [&stop["task_id"], &json!("reconcile-else")] {
        socket
            .say(json!({"type": "subscribe", "task_id": id}))
            .await;
        assert_eq!(socket.hear().await["type"], "subscribed");
    }
    for n in 1..=3 {
        let labels = json!({ "labels": { "n": n.to_string() } });
        site.http.patch("/api/clusters/else", labels).await.is(200);
        let told = socket.hear().await;
        assert_eq!(told["task"]["task_id"], "reconcile-else", "{told}");
    }
    let labels = json!({ "labels": { "a": "b" } });
    site.http.patch("/api/clusters/dev", labels).await.is(200);
    assert_eq!(socket.hear().await["task"]["task_id"], stop["task_id"]);
}

#[tokio::test]
async fn a_socket_that_was_opened_without_the_database_hears_when_it_is_back() {
    let (server, site) = on_a_server_of_its_own().await;
    server.kill().await;
    let mut socket = Socket::open(&site).await;
    socket
        .say(json!({"type": "subscribe", "task_id": "reconcile-dev"}))
        .await;
    assert_eq!(socket.hear().await["type"], "subscribed");
    server.start().await;
    site.database
        .execute("INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d')")
        .await;
    let told = socket.hear().await;
    assert_eq!(told["task"]["task_id"], "reconcile-dev", "{told}");
}
