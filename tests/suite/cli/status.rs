//! `kindler status` and its exit code.

use kindler::store::SCHEMA_VERSION;

use super::rig::{Fleet, Home};
use crate::kit::Sql;

#[tokio::test]
async fn status_is_healthy_with_a_listening_daemon() {
    let fleet = Fleet::new().await;
    let result = fleet.run(&["status"]).await.exits(1);
    assert!(
        result.out.contains("none is running; next: kindler serve"),
        "{result:?}"
    );
    fleet.daemon("silent", 16, true).await;
    fleet.run(&["status"]).await.exits(1);
    fleet.daemon("deaf", 0, false).await;
    let result = fleet.run(&["status"]).await.exits(1);
    assert!(result.out.contains("NOT listening"), "{result:?}");
    fleet.daemon("well", 0, true).await;
    let result = fleet.run(&["status"]).await.exits(0);
    assert!(
        result
            .out
            .contains("well pid 4711 version 0.1.0, http 127.0.0.1:8080"),
        "{result:?}"
    );
    assert!(
        result.out.contains("silent pid 4711") && result.out.contains("no heartbeat for 1"),
        "{result:?}"
    );
    let schema = format!("schema version {SCHEMA_VERSION}");
    assert!(result.out.contains(&schema) && result.out.contains("none is declared"));
}

#[tokio::test]
async fn a_crash_loop_does_not_hide_other_daemons() {
    let fleet = Fleet::new().await;
    for n in 0..50 {
        fleet.daemon(&format!("crashed-{n}"), 60, false).await;
    }
    fleet.daemon("well", 0, true).await;
    let result = fleet.run(&["status"]).await.exits(0);
    assert!(result.out.contains("well pid 4711"), "{result:?}");
    assert_eq!(result.out.matches("crashed-").count(), 3, "{result:?}");
    assert!(
        result
            .out
            .contains("and 47 more that stopped sending heartbeats"),
        "{result:?}"
    );
    let report = fleet.run(&["status", "-o", "json"]).await.exits(0).json();
    assert_eq!(report["daemons"].as_array().unwrap().len(), 51);
}

#[tokio::test]
async fn daemons_on_standby_are_shown_and_do_not_count() {
    let fleet = Fleet::new().await;
    fleet.daemon("old", 0, true).await;
    fleet.set_standby("old").await;
    let result = fleet.run(&["status"]).await.exits(1);
    let all = "all replicas are on standby: the schema is newer";
    assert!(result.out.contains(all), "{result:?}");
    assert!(
        result.out.contains("; STANDBY; the schema is newer"),
        "{result:?}"
    );
    let report = fleet.run(&["status", "-o", "json"]).await.exits(1).json();
    assert_eq!(report["ok"], false);
    assert_eq!(report["daemons"][0]["standby"], true);
    // The old name.
    assert_eq!(report["daemons"][0]["aside"], true);
    assert_eq!(report["held"], report["deferred"]);
    assert!(report["deferred"].is_array(), "{report}");
    // One daemon works and does not listen, the other listens and is on standby.
    fleet.daemon("deaf", 0, false).await;
    let result = fleet.run(&["status"]).await.exits(1);
    assert!(!result.out.contains(all), "{result:?}");
    fleet.daemon("new", 0, true).await;
    let result = fleet.run(&["status"]).await.exits(0);
    assert!(
        result.out.contains("STANDBY") && !result.out.contains(all),
        "{result:?}"
    );
}

#[tokio::test]
async fn status_shows_work_and_failures() {
    let fleet = Fleet::new().await;
    fleet.daemon("well", 0, true).await;
    fleet.run(&["create", "demo"]).await.exits(0);
    fleet.run(&["create", "bad"]).await.exits(0);
    fleet
        .status(
            "demo",
            "actual_state = 'creating', status_message = 'running create_env.sh'",
        )
        .await;
    fleet
        .database
        .run(
            "INSERT INTO cluster_leases (cluster_name, owner, term, acquired_at, renewed_at, expires_at) \
             VALUES ('demo', 'well-1', 7, now() - interval '65 s', now(), now() + interval '1 h')",
        )
        .await;
    fleet.run(&["status"]).await.exits(0);
    let failed = "actual_state = 'failed', failed_attempts = 2, \
                  next_attempt_at = now() + interval '50 s', status_message = 'exited with code 1'";
    fleet.status("bad", failed).await;
    let result = fleet.run(&["status"]).await.exits(1);
    assert!(result.out.contains("demo creating for 1m"), "{result:?}");
    assert!(result.out.contains("running create_env.sh"), "{result:?}");
    assert!(
        result
            .out
            .contains("bad: exited with code 1 (2 attempts failed, next attempt in 4"),
        "{result:?}"
    );
    assert!(
        result.out.contains("1 creating") && result.out.contains("1 failed"),
        "{result:?}"
    );

    let report = fleet.run(&["status", "-o", "json"]).await.exits(1).json();
    assert_eq!(report["ok"], false);
    assert_eq!(report["database"]["reachable"], true);
    assert_eq!(report["database"]["schema_version"], SCHEMA_VERSION);
    assert_eq!(report["daemons"][0]["host"], "well");
    assert_eq!(report["daemons"][0]["alive"], true);
    assert_eq!(report["working"][0]["cluster_name"], "demo");
    assert_eq!(report["failing"][0]["name"], "bad");
    assert_eq!(report["counts"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn status_reports_a_missing_database() {
    let home = Home::new().with("DATABASE_URL", "postgresql://u@127.0.0.1:1/x");
    home.run(&["status"])
        .await
        .exits(2)
        .stderr_has("hint: check KINDLER_DATABASE_URL");
    let result = home.run(&["status", "-o", "json"]).await.exits(2);
    assert_eq!(result.json()["database"]["reachable"], false);
    Home::new()
        .run(&["status"])
        .await
        .exits(2)
        .stderr_has("no database is set");
    let home = Home::new();
    home.write("state/database-url", "postgresql://u@127.0.0.1:1/x");
    home.run(&["status"])
        .await
        .exits(2)
        .stderr_has("is it still running?");
}

/// Neither has failed, so nothing else shows them.
#[tokio::test]
async fn a_cluster_that_cannot_be_observed_is_no_success() {
    let fleet = Fleet::new().await;
    fleet.daemon("well", 0, true).await;
    fleet.run(&["create", "demo"]).await.exits(0);
    fleet.reached("demo", "running").await;
    fleet.run(&["status"]).await.exits(0);
    for (reason, heading) in [
        ("ObservationFailed", "unobserved"),
        ("StepsUnknown", "blocked"),
    ] {
        let said = format!("status_reason = '{reason}', status_message = 'exit code 127'");
        fleet.status("demo", &said).await;
        let result = fleet.run(&["status"]).await.exits(1);
        let line = format!("{heading:<11} demo: exit code 127; next: kindler get demo");
        assert!(result.out.contains(&line), "{result:?}");
        let report = fleet.run(&["status", "-o", "json"]).await.exits(1).json();
        assert_eq!(report["failing"][0]["reason"], reason);
    }
}

#[tokio::test]
async fn a_paused_failure_has_no_next_attempt() {
    let fleet = Fleet::new().await;
    fleet.daemon("well", 0, true).await;
    fleet.run(&["create", "demo"]).await.exits(0);
    let failed = "actual_state = 'failed', status_reason = 'Paused', status_message = 'no answer'";
    fleet.status("demo", failed).await;
    let line = |with: &str| format!("failed      demo: no answer ({with}); next: kindler ");
    fleet.run(&["pause", "demo"]).await.exits(0);
    let result = fleet.run(&["status"]).await.exits(1);
    let paused = line("paused: only observed") + "resume demo";
    assert!(result.out.contains(&paused), "{result:?}");
    let protect = "UPDATE clusters SET protected = true WHERE name = 'demo'";
    fleet.force(protect).await;
    let result = fleet.run(&["status"]).await.exits(1);
    let protected = line("protected: only observed") + "logs demo";
    assert!(result.out.contains(&protected), "{result:?}");
}

#[tokio::test]
async fn a_deferred_deletion_says_its_position_once() {
    let fleet = Fleet::new().await;
    fleet.daemon("well", 0, true).await;
    let cap = "UPDATE kindler_replicas SET workload = '{\"delete_cap\": 1}'";
    fleet.database.run(cap).await;
    fleet.run(&["create", "demo"]).await.exits(0);
    fleet.run(&["delete", "demo", "--yes"]).await.exits(0);
    for state in ["creating", "failed"] {
        let deferred = format!(
            "actual_state = '{state}', status_reason = 'DeletionHeld', \
             status_message = 'deferred: position 9'"
        );
        fleet.status("demo", &deferred).await;
        let shown = fleet.run(&["list"]).await.exits(0);
        assert_eq!(shown.out.matches("deferred:").count(), 1, "{shown:?}");
        assert!(shown.out.contains("position 1"), "{shown:?}");
    }
}

#[tokio::test]
async fn get_says_that_no_daemon_runs_of_a_running_cluster() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    fleet.reached("demo", "running").await;
    let shown = fleet.run(&["get", "demo"]).await.exits(0);
    shown.stderr_has("no daemon is running");
}
