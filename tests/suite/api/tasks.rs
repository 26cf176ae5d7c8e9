//! Tasks: their state is derived from the row.

use serde_json::{Value, json};

use super::{SOON, Site, quiet_site, site, site_with_own_postgres};
use crate::kit::{Sql, eventually};

/// The task, once it has a status.
async fn task_with(site: &Site, task: &str, status: &str) -> Value {
    let path = format!("/api/tasks/{task}");
    eventually(SOON, &format!("{task} to be {status}"), || async {
        let task = site.http.get(&path).await.is(200).json();
        (task["status"] == status).then_some(task)
    })
    .await
}

#[tokio::test]
async fn a_task_follows_its_cluster_from_pending_to_completed() {
    let site = site().await;
    site.host.control(
        "dev.create",
        r#"echo "nodes are made"; while [ ! -e "$here/go" ]; do sleep 0.05; done"#,
    );
    site.declare("dev").await;
    let task = async || {
        site.http
            .get("/api/tasks/reconcile-dev")
            .await
            .is(200)
            .json()
    };
    let running = eventually(SOON, "what the command prints", || async {
        let task = task().await;
        let logs = task["logs"].to_string();
        logs.contains("nodes are made").then_some(task)
    })
    .await;
    assert_eq!(running["status"], "running");
    assert_eq!(running["progress"], 50);
    for field in [
        "message",
        "error",
        "created_at",
        "updated_at",
        "completed_at",
    ] {
        assert!(running.get(field).is_some(), "{field} in {running}");
    }
    assert!(running["created_at"].is_string(), "{running}");
    assert_eq!(running["completed_at"], Value::Null);
    std::fs::write(site.host.path().join("go"), "").unwrap();
    let done = task_with(&site, "reconcile-dev", "completed").await;
    assert_eq!(
        (&done["progress"], &done["error"]),
        (&100.into(), &Value::Null)
    );
    assert!(done["completed_at"].is_string(), "{done}");

    // A finished task stays finished, whatever happens to the cluster.
    site.sql
        .run("UPDATE clusters SET actual_state = 'failed', failed_attempts = 1, reconcile_error = 'later',
              last_reconciled_at = now(), next_attempt_at = now() + interval '1 h'")
        .await;
    let later = task().await;
    for field in ["status", "completed_at", "error", "progress"] {
        assert_eq!(later[field], done[field], "{field} in {later}");
    }

    site.http.delete("/api/clusters/dev").await.is(202);
    let gone = task_with(&site, "reconcile-delete-dev", "completed").await;
    assert_eq!(gone["progress"], 100);
    // Clients of the old system need this time.
    assert!(gone["created_at"].is_string(), "{gone}");
    assert!(gone["message"].as_str().unwrap().contains("dev"), "{gone}");
}

#[tokio::test]
async fn a_failed_task_has_its_error() {
    let site = site().await;
    site.host
        .control("dev.create", "echo 'no space left on device'; exit 7");
    site.host.control("probe", "exit 1");
    site.declare("dev").await;
    let failed = task_with(&site, "reconcile-dev", "failed").await;
    assert!(
        failed["error"].as_str().unwrap().contains("no space left"),
        "{failed}"
    );
    assert!(
        failed["logs"].to_string().contains("no space left"),
        "{failed}"
    );
}

#[tokio::test]
async fn a_failed_stop_is_a_failed_task() {
    let site = site().await;
    site.declare("dev").await;
    site.until("dev", "actual_state", "running").await;
    site.host.control("dev.stop", "exit 3");
    let task = site
        .http
        .post_empty("/api/clusters/dev/stop")
        .await
        .is(202)
        .json();
    task_with(&site, task["task_id"].as_str().unwrap(), "failed").await;
}

#[tokio::test]
async fn a_cluster_named_delete_me_is_not_a_deletion() {
    let site = site().await;
    site.declare("delete-me").await;
    let done = task_with(&site, "reconcile-delete-me", "completed").await;
    assert!(
        done["message"].as_str().unwrap().contains("delete-me"),
        "{done}"
    );
    assert_eq!(
        site.until("delete-me", "actual_state", "running").await["desired_state"],
        "present"
    );
}

#[tokio::test]
async fn a_withdrawn_deletion_is_a_failed_task() {
    let site = site().await;
    site.declare("dev").await;
    site.until("dev", "actual_state", "running").await;
    // The deletion fails, and then the cluster is declared present again.
    site.host.control("dev.delete", "exit 3");
    site.http.delete("/api/clusters/dev").await.is(202);
    site.until("dev", "actual_state", "failed").await;
    site.http
        .patch("/api/clusters/dev", json!({ "desired_state": "present" }))
        .await
        .is(200);
    let task = site
        .http
        .get("/api/tasks/reconcile-delete-dev")
        .await
        .is(200)
        .json();
    assert_eq!(task["status"], "failed", "{task}");
    assert!(
        task["error"].as_str().unwrap().contains("declared again"),
        "{task}"
    );
    assert_eq!(task["progress"], 100);
}

#[tokio::test]
async fn a_deletion_without_a_request_has_no_task() {
    let site = quiet_site().await;
    site.declare("dev").await;
    site.http
        .get("/api/tasks/reconcile-delete-dev")
        .await
        .is(404);
    site.http.delete("/api/clusters/dev").await.is(202);
    site.http
        .get("/api/tasks/reconcile-delete-dev")
        .await
        .is(200);
}

/// An unreachable database is not a missing task.
#[tokio::test]
async fn without_the_database_a_task_is_unavailable() {
    let (server, site) = site_with_own_postgres().await;
    let never = "/api/tasks/44f6ba53-4a2e-f295-983d-8af09dbc5de0";
    site.http.get(never).await.is(404);
    server.kill().await;
    // A session may answer once more before it notices that its server was killed.
    eventually(SOON, "the sessions to end", || async {
        site.http.get(never).await.status == 503
    })
    .await;
    site.http.get("/api/tasks/reconcile-dev").await.is(503);
}
