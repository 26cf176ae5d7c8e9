//! Retry, pause, start, stop, and history: events, revisions, diff, rollback.

use serde_json::{Value, json};

use super::{SOON, quiet_site, site};
use crate::kit::{Sql, eventually};

#[tokio::test]
async fn a_retry_runs_at_once() {
    let site = site().await;
    site.host.control("dev.create", "exit 1");
    site.host.control("probe", "exit 1");
    site.declare("dev").await;
    site.until("dev", "actual_state", "failed").await;
    site.host.release("dev.create");
    site.host.release("probe");
    site.sql
        .run("UPDATE clusters SET next_attempt_at = now() + interval '1 hour', failed_attempts = 7")
        .await;
    let info = site
        .http
        .post_empty("/api/clusters/dev/retry")
        .await
        .is(200)
        .json();
    assert!(info["retry_requested_at"].is_string(), "{info}");
    site.until("dev", "actual_state", "running").await;
}

#[tokio::test]
async fn a_paused_cluster_is_unchanged_until_resumed() {
    let site = site().await;
    site.declare("dev").await;
    site.until("dev", "actual_state", "running").await;
    assert_eq!(
        site.http
            .post_empty("/api/clusters/dev/pause")
            .await
            .is(200)
            .json()["paused"],
        true
    );
    site.http.delete("/api/clusters/dev").await.is(202);
    site.until("dev", "reason", "Paused").await;
    assert_eq!(site.host.cluster("dev").as_deref(), Some("healthy"));
    assert_eq!(
        site.http
            .post_empty("/api/clusters/dev/resume")
            .await
            .is(200)
            .json()["paused"],
        false
    );
    site.until_gone("dev").await;
}

#[tokio::test]
async fn stop_and_start_declare_a_state_and_have_tasks() {
    let site = site().await;
    site.declare("dev").await;
    site.until("dev", "actual_state", "running").await;
    for (action, state) in [("stop", "stopped"), ("start", "running")] {
        let task = site
            .http
            .post_empty(&format!("/api/clusters/dev/{action}"))
            .await
            .is(202)
            .json();
        let id = task["task_id"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 36, "a UUID: {id}");
        assert_eq!(task["status"], "pending");
        assert!(task["message"].as_str().unwrap().contains("dev"));
        let path = format!("/api/tasks/{id}");
        let done = eventually(SOON, "the task to be done", || async {
            let task = site.http.get(&path).await.json();
            (task["status"] == "completed").then_some(task)
        })
        .await;
        assert_eq!(
            (&done["progress"], &done["task_id"]),
            (&json!(100), &json!(id))
        );
        assert_eq!(
            site.until("dev", "actual_state", state).await["actual_state"],
            state
        );
        // The same request again changes nothing and has the same task.
        let again = site
            .http
            .post_empty(&format!("/api/clusters/dev/{action}"))
            .await
            .is(202)
            .json();
        assert_eq!(again["task_id"], id);
    }
    assert_eq!(site.host.started("dev"), ["create", "stop", "start"]);
}

#[tokio::test]
async fn events_name_actors_and_can_be_filtered() {
    let site = quiet_site().await;
    site.declare("a").await;
    site.declare("b").await;
    site.http
        .patch("/api/clusters/a", json!({ "http_port": 18300 }))
        .await
        .is(200);
    site.sql
        .run("UPDATE clusters SET paused = true WHERE name = 'b'")
        .await;
    let kinds = |events: &Value| {
        let events = events.as_array().unwrap().iter();
        events
            .map(|event| {
                format!(
                    "{} {}",
                    event["cluster_name"].as_str().unwrap(),
                    event["kind"].as_str().unwrap()
                )
            })
            .collect::<Vec<_>>()
    };
    let of_a = site.http.get("/api/clusters/a/events").await.is(200).json();
    assert_eq!(kinds(&of_a), ["a changed", "a declared"]);
    assert_eq!(of_a[0]["change"]["http_port"], json!([18080, 18300]));
    assert_eq!(of_a[0]["actor"], "api");
    let all = site.http.get("/api/events").await.is(200).json();
    assert_eq!(
        kinds(&all),
        ["b paused", "a changed", "b declared", "a declared"]
    );
    for (query, expected) in [
        ("cluster=b", vec!["b paused", "b declared"]),
        ("actor=postgres", vec!["b paused"]),
        ("kind=declared", vec!["b declared", "a declared"]),
        ("kind=paused,changed", vec!["b paused", "a changed"]),
        ("limit=1", vec!["b paused"]),
    ] {
        let events = site
            .http
            .get(&format!("/api/events?{query}"))
            .await
            .is(200)
            .json();
        assert_eq!(kinds(&events), expected, "{query}");
    }
    let before = all[1]["id"].as_i64().unwrap();
    let older = site
        .http
        .get(&format!("/api/events?before={before}"))
        .await
        .json();
    assert_eq!(kinds(&older), ["b declared", "a declared"]);
    let newer = site
        .http
        .get(&format!("/api/clusters/b/events?after={before}"))
        .await
        .is(200)
        .json();
    assert_eq!(kinds(&newer), ["b paused"]);
    for bad in ["limit=0", "limit=x", "before=x", "kind=nonsense"] {
        site.http.get(&format!("/api/events?{bad}")).await.is(422);
    }
}

#[tokio::test]
async fn revisions_can_be_compared_and_rolled_back() {
    let site = quiet_site().await;
    site.declare("dev").await;
    site.http
        .patch(
            "/api/clusters/dev",
            json!({ "http_port": 18300, "haproxy_route": false }),
        )
        .await
        .is(200);
    site.http
        .patch("/api/clusters/dev", json!({ "desired_state": "stopped" }))
        .await
        .is(200);
    let revisions = site
        .http
        .get("/api/clusters/dev/revisions")
        .await
        .is(200)
        .json();
    let generations: Vec<i64> = revisions
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["generation"].as_i64().unwrap())
        .collect();
    assert_eq!(generations, [3, 2, 1]);
    assert_eq!(
        (&revisions[0]["desired_state"], &revisions[0]["actor"]),
        (&json!("stopped"), &json!("api"))
    );
    let diff = site
        .http
        .get("/api/clusters/dev/revisions/diff?from=1&to=3")
        .await
        .is(200)
        .json();
    assert_eq!(
        diff["changes"],
        json!({
            "http_port": [18080, 18300], "haproxy_route": [true, false], "desired_state": ["present", "stopped"],
        })
    );
    site.http
        .get("/api/clusters/dev/revisions/diff?from=1&to=9")
        .await
        .is(404);
    site.http
        .get("/api/clusters/dev/revisions/diff?from=x&to=1")
        .await
        .is(422);
    site.http
        .get("/api/clusters/dev/revisions/diff?from=1")
        .await
        .is(422);

    let path = "/api/clusters/dev/rollback";
    let lost = site
        .http
        .post(path, json!({ "generation": 1, "if_generation": 2 }))
        .await
        .is(409);
    assert_eq!(lost.json()["current"]["generation"], 3);
    site.http
        .post(path, json!({ "generation": 9 }))
        .await
        .is(404);
    site.http.post(path, json!({})).await.is(422);
    site.http
        .post(path, json!({ "generation": null }))
        .await
        .is(422);
    let info = site
        .http
        .post(path, json!({ "generation": 1, "if_generation": 3 }))
        .await
        .is(200)
        .json();
    assert_eq!(
        (
            &info["generation"],
            &info["http_port"],
            &info["haproxy_route"]
        ),
        (&json!(4), &json!(18080), &json!(true))
    );
    // A rollback changes no earlier revision.
    let kept = "SELECT string_agg(generation || ':' || (spec ->> 'http_port'), ' ' ORDER BY generation) FROM cluster_revisions";
    assert_eq!(site.sql.text(kept).await, "1:18080 2:18300 3:18300 4:18080");
}
