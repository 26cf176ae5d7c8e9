//! Database roles: with the role of the API declaring works, and a missing
//! privilege names role and setting. An API-only server does not reconcile.

use serde_json::json;

use super::{Client, SOON, migrated, quiet_site};
use crate::kit::{Daemon, Host, Sql, eventually};

const ROLES: &str = include_str!("../../../sql/roles.sql");

#[tokio::test]
async fn every_operation_works_with_the_role_kindler_api() {
    let database = migrated().await;
    let login = format!("page_{}", std::process::id());
    database.run(ROLES).await;
    database
        .run(&format!("DO $$ BEGIN CREATE ROLE {login} LOGIN IN ROLE kindler_api; EXCEPTION WHEN duplicate_object THEN NULL; END $$"))
        .await;
    let host = Host::new();
    let daemon = Daemon::builder(&database.url_as(&login), &host)
        .set("KINDLER_API_ONLY", "true")
        .spawn();
    daemon.ready().await;
    let http = Client::to(daemon.port());
    let mut events = http.events("/api/stream", None).await;
    events.until("synced").await;
    http.post("/api/clusters", json!({ "name": "dev", "provider": "k3d" }))
        .await
        .is(202);
    assert_eq!(events.until("upsert").await.json()["name"], "dev");
    http.patch(
        "/api/clusters/dev",
        json!({ "http_port": 18777, "labels": {"a": "b"}, "paused": true }),
    )
    .await
    .is(200);
    for action in ["resume", "pause", "retry"] {
        http.post_empty(&format!("/api/clusters/dev/{action}"))
            .await
            .is(200);
    }
    http.post_empty("/api/clusters/dev/stop").await.is(202);
    http.post("/api/clusters/dev/rollback", json!({ "generation": 1 }))
        .await
        .is(200);
    http.post(
        "/api/batch",
        json!({ "create": [{ "name": "b", "provider": "kind" }], "delete": ["dev"] }),
    )
    .await
    .is(202);
    for path in [
        "/api/clusters",
        "/api/status",
        "/api/events",
        "/api/suggest",
        "/api/clusters/dev/revisions",
        "/api/tasks/reconcile-b",
    ] {
        http.get(path).await.is(200);
    }
    assert!(host.journal().is_empty(), "nothing is reconciled here");
}

#[tokio::test]
async fn an_api_only_server_is_not_a_daemon() {
    let site = quiet_site().await;
    site.declare("dev").await;
    let status = site.http.get("/api/status").await.is(200).json();
    assert_eq!(status["api_only"], true);
    assert_eq!(status["replicas"], json!([]));
    // No daemon claims what is due.
    assert_eq!(status["queue"]["due"], 1);
    assert!(status["queue"]["oldest_due_at"].is_string(), "{status}");
    assert_eq!(
        site.sql
            .text("SELECT count(*)::text FROM kindler_replicas")
            .await,
        "0"
    );
    let other = super::site().await;
    // The daemon is ready before its first heartbeat.
    let status = eventually(SOON, "the daemon to be listed", || async {
        let status = other.http.get("/api/status").await.is(200).json();
        (status["replicas"].as_array().unwrap().len() == 1).then_some(status)
    })
    .await;
    assert_eq!(status["api_only"], false);
    assert_eq!(status["listener"]["state"], "listening");
    assert_eq!(status["database"]["ok"], true);
}

#[tokio::test]
async fn a_missing_privilege_names_role_and_setting() {
    let database = migrated().await;
    let login = format!("reader_{}", std::process::id());
    database.run(ROLES).await;
    database
        .run(&format!("DO $$ BEGIN CREATE ROLE {login} LOGIN IN ROLE kindler_reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$"))
        .await;
    let host = Host::new();
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_API_DATABASE_URL", database.url_as(&login))
        .spawn();
    daemon.ready().await;
    let http = Client::to(daemon.port());
    http.get("/api/clusters").await.is(200);
    let answer = http
        .post("/api/clusters", json!({ "name": "dev", "provider": "k3d" }))
        .await
        .is(403);
    let detail = answer.detail();
    assert!(
        detail.contains("kindler_api") && detail.contains("KINDLER_API_DATABASE_URL"),
        "{detail}"
    );
}
