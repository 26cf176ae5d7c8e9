//! A cluster is declared, deleted and declared again: the API shows the second
//! row of the name, never data of the first.

use serde_json::{Value, json};

use super::socket::Socket;
use super::{SOON, Site, site};
use crate::kit::eventually;

/// The first row.
struct First {
    uid: Value,
    /// The path of the task that stopped it.
    stop: String,
}

async fn uid(site: &Site) -> Value {
    let cluster = site.http.get("/api/clusters/dev").await.is(200).json();
    cluster["uid"].clone()
}

/// Makes `dev`, stops it and deletes it.
async fn first(site: &Site) -> First {
    site.host.control("dev.create", "echo 'of the first'");
    site.declare("dev").await;
    site.until("dev", "actual_state", "running").await;
    let uid = uid(site).await;
    let stop = site.http.post_empty("/api/clusters/dev/stop").await.is(202);
    let stop = stop.json()["task_id"].as_str().unwrap().to_owned();
    site.until("dev", "actual_state", "stopped").await;
    site.http.delete("/api/clusters/dev").await.is(202);
    site.until_gone("dev").await;
    First { uid, stop }
}

/// Declares `dev` again, paused.
async fn second(site: &Site) -> Value {
    site.host.control("dev.create", "echo 'of the second'");
    let body = json!({ "name": "dev", "provider": "k3d", "http_port": 18300, "paused": true });
    site.http.post("/api/clusters", body).await.is(202);
    uid(site).await
}

async fn both() -> (Site, First, Value) {
    let site = site().await;
    let first = first(&site).await;
    let second = second(&site).await;
    assert_ne!(first.uid, second);
    (site, first, second)
}

async fn list(site: &Site, path: &str) -> Vec<Value> {
    let path = format!("/api/clusters/dev/{path}");
    let list = site.http.get(&path).await.is(200).json();
    list.as_array().unwrap().clone()
}

async fn task(site: &Site, id: &str) -> Value {
    let task = site.http.get(&format!("/api/tasks/{id}")).await;
    task.is(200).json()
}

#[tokio::test]
async fn events_and_revisions_are_those_of_the_present_row() {
    let (site, first, second) = both().await;
    for path in ["events", "revisions"] {
        let shown = list(&site, path).await;
        assert!(shown.iter().all(|one| one["uid"] == second), "{shown:?}");
        let all = list(&site, &format!("{path}?all=true")).await;
        let of_first = all.iter().filter(|one| one["uid"] == first.uid).count();
        assert_eq!(all.len(), shown.len() + of_first, "{all:?}");
        assert!(of_first >= 3, "{all:?}");
    }
    let events = list(&site, "events").await;
    assert_eq!(events.last().unwrap()["kind"], "declared", "{events:?}");
    // The audit log has the events of both rows.
    let trail = site.http.get("/api/events?cluster=dev&limit=1000").await;
    let trail = trail.is(200).json();
    let kinds = trail.as_array().unwrap().iter();
    let declared = kinds.filter(|event| event["kind"] == "declared").count();
    assert_eq!(declared, 2, "{trail}");
    site.http.get("/api/events?all=true").await.is(422);
}

#[tokio::test]
async fn a_rollback_to_an_earlier_row_is_rejected() {
    let (site, _, _) = both().await;
    let own = list(&site, "revisions").await[0]["generation"].clone();
    let path = "/api/clusters/dev/rollback";
    let lost = site.http.post(path, json!({ "generation": 1 })).await;
    assert!(lost.is(404).detail().contains("Revision 1"));
    site.http
        .post(path, json!({ "generation": own }))
        .await
        .is(200);
    let path = "/api/clusters/dev/revisions/diff";
    let (from, to) = (
        format!("{path}?from=1&to={own}"),
        format!("{path}?from={own}&to={own}"),
    );
    site.http.get(&from).await.is(404);
    site.http.get(&to).await.is(200);
}

#[tokio::test]
async fn a_task_shows_the_row_of_its_request() {
    let (site, first, _) = both().await;
    for second_runs in [false, true] {
        if second_runs {
            site.http
                .post_empty("/api/clusters/dev/resume")
                .await
                .is(200);
            site.until("dev", "actual_state", "running").await;
        }
        let stop = task(&site, &first.stop).await;
        // It was stopped before it was deleted.
        assert_eq!(stop["status"], "completed", "{stop}");
        let deletion = task(&site, "reconcile-delete-dev").await;
        assert_eq!(deletion["status"], "completed", "{deletion}");
        for task in [&stop, &deletion] {
            let message = task["message"].as_str().unwrap();
            assert!(message.contains("another cluster"), "{task}");
            let logs = task["logs"].to_string();
            assert!(logs.contains("of the first"), "{task}");
            assert!(!logs.contains("of the second"), "{task}");
        }
        let own = task(&site, "reconcile-dev").await;
        assert_eq!(
            own["status"],
            if second_runs { "completed" } else { "pending" }
        );
        let logs = own["logs"].to_string();
        assert!(!logs.contains("of the first"), "{own}");
        assert_eq!(logs.contains("of the second"), second_runs, "{own}");
    }
    // After the deletion of the second row, the task shows that one.
    site.host.control(
        "dev.delete",
        "while [ ! -e \"$here/go\" ]; do sleep 0.05; done",
    );
    site.http.delete("/api/clusters/dev").await.is(202);
    eventually(SOON, "the deletion to run", || async {
        task(&site, "reconcile-delete-dev").await["status"] == "running"
    })
    .await;
    assert_eq!(task(&site, &first.stop).await["status"], "completed");
    std::fs::write(site.host.path().join("go"), "").unwrap();
    site.until_gone("dev").await;
    let deletion = task(&site, "reconcile-delete-dev").await;
    assert_eq!(deletion["message"], "Cluster dev is deleted");
}

#[tokio::test]
async fn a_withdrawn_deletion_shows_its_own_row() {
    let (site, _, _) = both().await;
    site.http.delete("/api/clusters/dev").await.is(202);
    let path = "/api/clusters/dev";
    let present = json!({ "desired_state": "present" });
    site.http.patch(path, present).await.is(200);
    let deletion = task(&site, "reconcile-delete-dev").await;
    assert_eq!(deletion["status"], "failed", "{deletion}");
    assert!(deletion["error"].to_string().contains("declared again"));
}

#[tokio::test]
async fn a_followed_task_shows_the_row_of_its_request() {
    let (site, first, _) = both().await;
    let mut socket = Socket::open(&site).await;
    let subscribe = json!({"type": "subscribe", "task_id": first.stop});
    socket.send_json(subscribe).await;
    assert_eq!(socket.receive().await["type"], "subscribed");
    site.http
        .post_empty("/api/clusters/dev/resume")
        .await
        .is(200);
    let update = socket.receive().await;
    assert_eq!(update["task"]["status"], "completed", "{update}");
    assert!(
        update["task"]["message"]
            .to_string()
            .contains("another cluster")
    );
}

#[tokio::test]
async fn the_log_begins_with_the_present_row() {
    let site = site().await;
    first(&site).await;
    let path = "/api/clusters/dev/log";
    // Without a row, the last log is shown.
    assert!(
        site.http
            .get(path)
            .await
            .is(200)
            .text
            .contains("of the first")
    );
    second(&site).await;
    assert!(
        site.http
            .get(path)
            .await
            .is(404)
            .detail()
            .contains("no log")
    );
    site.http
        .get(&format!("{path}?download=true"))
        .await
        .is(404);
    let follow = format!("{path}?follow=true&lines=500");
    let mut events = site.http.events(&follow, None).await;
    site.http
        .post_empty("/api/clusters/dev/resume")
        .await
        .is(200);
    let heading = events.until("line").await.data;
    assert!(heading.starts_with("--- "), "{heading}");
    assert_eq!(events.until("line").await.data, "of the second");
    site.until("dev", "actual_state", "running").await;
    for query in ["", "?lines=10000", "?download=true"] {
        let text = site.http.get(&format!("{path}{query}")).await.is(200).text;
        assert!(text.contains("of the second"), "{text}");
        assert!(!text.contains("of the first"), "{text}");
    }
    // A stream ends where the log of a third row begins.
    site.http.delete("/api/clusters/dev").await.is(202);
    site.until_gone("dev").await;
    site.host.control("dev.create", "echo 'of the third'");
    site.declare("dev").await;
    let mut rest = Vec::new();
    while let Some(event) = events.next().await {
        rest.push(event.data);
    }
    assert!(rest.iter().any(|line| line.contains("delete")), "{rest:?}");
    assert!(!rest.contains(&"of the third".to_owned()), "{rest:?}");
}
