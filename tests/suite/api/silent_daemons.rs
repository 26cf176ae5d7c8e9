//! No daemon works on a cluster: every answer says it, and the stream tells the page.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::quiet_site;
use crate::kit::{Daemon, Sql, kindler_output};

/// From the death of a daemon to the banner of the page.
const BANNER_WITHIN: Duration = Duration::from_secs(15);

const NO_DAEMON: &str = "no daemon is running";

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[tokio::test]
async fn without_a_daemon_every_answer_of_the_api_says_so() {
    let site = quiet_site().await;
    let body = json!({ "name": "dev", "provider": "k3d" });
    let accepted = site.http.post("/api/clusters", body).await.is(202).json();
    assert!(text(&accepted["message"]).contains(NO_DAEMON), "{accepted}");
    let one = site.http.get("/api/clusters/dev").await.is(200).json();
    let list = site.http.get("/api/clusters").await.is(200).json();
    for view in [&one, &list[0]] {
        assert!(text(&view["message"]).contains(NO_DAEMON), "{view}");
        assert!(text(&view["waiting"]).contains(NO_DAEMON), "{view}");
        assert_eq!(view["reason"], "Declared", "{view}");
    }
    let task = site
        .http
        .get("/api/tasks/reconcile-dev")
        .await
        .is(200)
        .json();
    assert!(text(&task["message"]).contains(NO_DAEMON), "{task}");
    let status = site
        .http
        .get("/api/clusters/dev/status")
        .await
        .is(200)
        .json();
    assert!(text(&status["message"]).contains(NO_DAEMON), "{status}");
    let stopped = site
        .http
        .post_empty("/api/clusters/dev/stop")
        .await
        .is(202)
        .json();
    assert!(text(&stopped["message"]).contains(NO_DAEMON), "{stopped}");
    let deleted = site.http.delete("/api/clusters/dev").await.is(202).json();
    assert!(text(&deleted["message"]).contains(NO_DAEMON), "{deleted}");
    let status = site.http.get("/api/status").await.is(200).json();
    assert!(
        text(&status["problems"][0]["what"]).contains(NO_DAEMON),
        "{status}"
    );
    assert!(
        text(&status["problems"][0]["next"]).contains("kindler serve"),
        "{status}"
    );
}

#[tokio::test]
async fn the_stream_says_within_15_s_that_no_daemon_runs() {
    let site = quiet_site().await;
    let daemon = Daemon::builder(&site.database.url(), &site.host).spawn();
    daemon.ready().await;
    site.declare("dev").await;
    site.until("dev", "actual_state", "running").await;
    let mut events = site.http.events("/api/stream", None).await;
    events.until("synced").await;
    let killed = Instant::now();
    daemon.kill();
    let seen = tokio::time::timeout(BANNER_WITHIN, async {
        loop {
            let status = events.until("status").await.json();
            if text(&status["problems"][0]["what"]).contains(NO_DAEMON) {
                return status;
            }
        }
    });
    let status = seen.await.expect("a status in time");
    assert_eq!(status["current"], true, "{status}");
    assert!(killed.elapsed() < BANNER_WITHIN);
    // A new stream learns it at once, and the banner ends when a daemon runs again.
    let mut events = site.http.events("/api/stream", None).await;
    let status = events.until("status").await.json();
    assert!(
        text(&status["problems"][0]["what"]).contains(NO_DAEMON),
        "{status}"
    );
    let daemon = Daemon::builder(&site.database.url(), &site.host).spawn();
    daemon.ready().await;
    let ended = tokio::time::timeout(super::SOON, async {
        while events.until("status").await.data.contains(NO_DAEMON) {}
    });
    ended.await.expect("the end of the banner");
}

#[tokio::test]
async fn standby_selectors_and_findings_show_in_the_api() {
    let site = quiet_site().await;
    let finding = json!([{ "code": "ClockApart", "severity": "warning", "what": "an hour off",
        "next": "set the clock", "since": "2026-01-01T00:00:00Z" }]);
    let insert = format!(
        "INSERT INTO kindler_replicas (owner, host, pid, version, listening, notice, aside, findings, seen_at)
         VALUES ('a', 'hosta', 1, '0.1.0', true, 'the schema is newer', true, '{finding}', now() + interval '1 h')"
    );
    site.sql.run(&insert).await;
    site.declare("dev").await;
    let waiting = async || {
        let view = site.http.get("/api/clusters/dev").await.is(200).json();
        text(&view["waiting"]).to_owned()
    };
    crate::kit::eventually(super::SOON, "standby", || async {
        waiting().await == "all replicas are on standby: the schema is newer"
    })
    .await;
    let status = site.http.get("/api/status").await.is(200).json();
    let what: Vec<&str> = status["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| text(&one["what"]))
        .collect();
    assert_eq!(
        what,
        [
            "all replicas are on standby: the schema is newer",
            "hosta: an hour off"
        ]
    );
    let select = r#"UPDATE kindler_replicas SET aside = false, selector =
        '{"place": "host=b", "requirements": [{"key": "host", "op": "in", "values": ["b"]}]}'"#;
    site.sql.run(select).await;
    crate::kit::eventually(super::SOON, "no daemon selects it", || async {
        waiting().await.starts_with("no daemon selects it")
    })
    .await;
    site.sql
        .run(r#"UPDATE clusters SET labels = '{"host": "b"}'"#)
        .await;
    crate::kit::eventually(super::SOON, "a daemon that selects it", || async {
        waiting().await.is_empty()
    })
    .await;
}

/// A person, or an earlier system, wrote rows without a reason, in every state.
#[tokio::test]
async fn no_answer_has_an_empty_reason_in_any_state() {
    let site = quiet_site().await;
    // A daemon works, but has not come to these rows.
    site.sql
        .run(
            "INSERT INTO kindler_replicas (owner, host, pid, version, listening, seen_at)
             VALUES ('other', 'other', 7, '0.1.0', true, now() + interval '1 hour');
             ALTER TABLE clusters DISABLE TRIGGER USER;
             INSERT INTO clusters (name, provider, pf_port, http_port, https_port, desired_state,
                                   actual_state, status_reason, status_message, failed_attempts)
             SELECT concat_ws('-', desired, actual, said.n), 'k3d', 19000, 18080, 18443, desired, actual,
                    said.text, said.text, (actual = 'failed')::int
             FROM unnest(ARRAY['present', 'stopped', 'absent']) AS desired,
                  unnest(ARRAY['unknown', 'creating', 'running', 'restarting', 'updating', 'stopping',
                               'stopped', 'failed', 'deleting']) AS actual,
                  (VALUES (1, NULL), (2, ''), (3, E' \\n')) AS said (n, text);
             ALTER TABLE clusters ENABLE TRIGGER USER",
        )
        .await;
    let said = |value: &Value| !text(value).trim().is_empty();
    let list = site.http.get("/api/clusters").await.is(200).json();
    let views = list.as_array().unwrap();
    assert_eq!(views.len(), 81);
    for view in views {
        assert!(said(&view["reason"]) && said(&view["message"]), "{view}");
        let settled = text(&view["actual_state"]) == "running";
        let claims = text(&view["message"]).contains("not observed yet");
        assert!(!(settled && claims), "{view}");
    }
    for name in ["present-running-1", "absent-deleting-2", "present-failed-3"] {
        let task = format!("/api/tasks/reconcile-{name}");
        let task = site.http.get(&task).await.is(200).json();
        assert!(said(&task["message"]), "{task}");
    }
    let (json, _) = kindler_output(&site.database.url(), &site.host, &["list", "-o", "json"]);
    let rows: Value = serde_json::from_str(&json).unwrap();
    for row in rows.as_array().unwrap() {
        assert!(
            said(&row["status_reason"]) && said(&row["status_message"]),
            "{row}"
        );
    }
    let (get, _) = kindler_output(
        &site.database.url(),
        &site.host,
        &["get", "present-running-2"],
    );
    let why = get.lines().find_map(|line| line.strip_prefix("why"));
    assert!(!why.unwrap().trim().is_empty(), "{get}");
    let (status, _) = kindler_output(&site.database.url(), &site.host, &["status", "-o", "json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert!(!status["failing"].as_array().unwrap().is_empty());
    for failing in status["failing"].as_array().unwrap() {
        assert!(
            said(&failing["reason"]) && said(&failing["message"]),
            "{failing}"
        );
    }
}
