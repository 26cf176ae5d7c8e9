//! The series of clusters: they exist from the declaration on, are correct in each
//! state, and end with the row on every path.

use kindler::metrics::catalogue;

use super::{SOON, scene, scene_with};
use crate::kit::{Sql, eventually};

#[tokio::test]
async fn the_series_follow_the_life_of_a_cluster() {
    let scene = scene().await;
    scene.host.control("dev.create", "exit 3");
    scene.sql.declare("dev").await;
    scene.sql.wait_state("dev", "present failed").await;
    let scrape = scene.scrape().await;
    let info = r#"kindler_cluster_info{name="dev",provider="k3d",desired="present"}"#;
    let ready = r#"kindler_cluster_status_condition{name="dev",type="Ready",status="true"}"#;
    let running = r#"kindler_cluster_status_phase{name="dev",phase="running"}"#;
    let declared = r#"kindler_cluster_declared_timestamp_seconds{name="dev"}"#;
    scrape.has(info, 1.0);
    scrape.has(r#"kindler_cluster_spec_paused{name="dev"}"#, 0.0);
    scrape.has(running, 0.0);
    scrape.has(ready, 0.0);
    scrape.has("kindler_ready_seconds_count", 0.0);
    assert!(scrape.value(declared).unwrap() > 1.7e9);
    assert!(
        scrape
            .value(r#"kindler_cluster_created{name="dev"}"#)
            .unwrap()
            > 1.7e9
    );
    let failures = r#"kindler_cluster_consecutive_failures{name="dev"}"#;
    assert!(scrape.value(failures).unwrap() >= 1.0);

    scene.host.release("dev.create");
    scene.sql.wait_state("dev", "present running").await;
    scene.until_sample("kindler_leases_held", 0.0).await;
    let scrape = scene.scrape().await;
    scrape.has(running, 1.0);
    scrape.has(ready, 1.0);
    scrape.has("kindler_ready_seconds_count", 1.0);
    scrape.has(
        r#"kindler_clusters{desired="present",actual="running"}"#,
        1.0,
    );
    scrape.has(
        r#"kindler_clusters{desired="present",actual="failed"}"#,
        0.0,
    );
    scrape.has(r#"kindler_replicas{reconciles="true"}"#, 1.0);
    scrape.has(r#"kindler_replicas{reconciles="false"}"#, 0.0);
    // A value of the whole server, which other tests notify, too.
    let queue = scrape.value("kindler_db_notification_queue_usage_ratio");
    assert!(queue.is_some_and(|share| share < 0.1), "{queue:?}");
    assert_eq!(scrape.value(failures), None, "it fails no more");
    let reconciled = r#"kindler_cluster_last_reconcile_timestamp_seconds{name="dev"}"#;
    let first = scrape.value(declared).unwrap();
    assert!(scrape.value(reconciled).unwrap() >= first);

    // A new declaration changes the time; a pause does not.
    scene.sql.run("UPDATE clusters SET paused = true").await;
    let scrape = scene.scrape().await;
    scrape.has(r#"kindler_cluster_spec_paused{name="dev"}"#, 1.0);
    scrape.has(declared, first);
    scene
        .sql
        .run("UPDATE clusters SET paused = false, http_port = 18999")
        .await;
    let second = scene.scrape().await.value(declared).unwrap();
    assert!(second > first, "{second} {first}");
    scene.until_sample("kindler_ready_seconds_count", 2.0).await;
}

#[tokio::test]
async fn the_series_of_a_removed_cluster_end_on_every_path() {
    let scene = scene().await;
    for name in ["by-psql", "by-api", "by-force", "old-name"] {
        scene.sql.declare(name).await;
    }
    for name in ["by-psql", "by-api", "by-force", "old-name"] {
        scene.sql.wait_state(name, "present running").await;
        assert!(scene.scrape().await.naming(&format!("\"{name}\"")).len() > 15);
    }
    let gone = async |name: &str| {
        let scrape = scene.scrape().await;
        assert_eq!(scrape.naming(&format!("\"{name}\"")), Vec::<&String>::new());
    };

    scene
        .sql
        .run("DELETE FROM clusters WHERE name = 'by-psql'")
        .await;
    scene.sql.wait_state("by-psql", "gone").await;
    gone("by-psql").await;

    let (status, _) = super::http::send(&scene.daemon, "DELETE", "/api/clusters/by-api").await;
    assert!((200..300).contains(&status), "{status}");
    scene.sql.wait_state("by-api", "gone").await;
    gone("by-api").await;

    // With triggers off, the row is deleted or renamed.
    scene
        .sql
        .run(
            "SET session_replication_role = replica;
             DELETE FROM clusters WHERE name = 'by-force';
             UPDATE clusters SET name = 'new-name' WHERE name = 'old-name'",
        )
        .await;
    gone("by-force").await;
    gone("old-name").await;
    assert!(scene.scrape().await.naming("\"new-name\"").len() > 15);
}

#[tokio::test]
async fn drift_deadlines_and_terminal_errors_are_counted() {
    let scene = scene_with(|daemon| daemon.set("KINDLER_CREATE_DEADLINE", "1s")).await;
    for name in ["gone", "ill", "halted"] {
        scene.sql.declare(name).await;
        scene.sql.wait_state(name, "present running").await;
    }
    scene.host.set_cluster("gone", None);
    scene
        .until_sample(r#"kindler_drift_total{reason="gone"}"#, 1.0)
        .await;
    scene.host.set_cluster("ill", Some("ill"));
    scene
        .until_sample(r#"kindler_drift_total{reason="unhealthy"}"#, 1.0)
        .await;
    scene.sql.wait_state("ill", "present running").await;

    let timeouts = r#"kindler_reconcile_timeouts_total{controller="cluster"}"#;
    let terminal = r#"kindler_terminal_reconcile_errors_total{controller="cluster"}"#;
    let scrape = scene.scrape().await;
    scrape.has(timeouts, 0.0);
    scrape.has(terminal, 0.0);
    scene.host.control("slow.create", "sleep 600");
    scene.sql.declare("slow").await;
    eventually(SOON, "a command to be late", || async {
        scene.scrape().await.value(timeouts) >= Some(1.0)
    })
    .await;
    scene.sql.run("UPDATE clusters SET paused = true").await;
    std::fs::remove_file(scene.host.command("create")).unwrap();
    scene.sql.declare("none").await;
    scene.sql.wait_state("none", "present failed").await;
    assert!(scene.scrape().await.value(terminal) >= Some(1.0));
}

/// The alert ClusterUnobserved uses this series.
#[tokio::test]
async fn a_failed_observation_is_unknown_and_no_failure() {
    let scene = scene().await;
    scene.sql.declare("dev").await;
    scene.sql.wait_state("dev", "present running").await;
    let unknown = r#"kindler_cluster_status_condition{name="dev",type="Ready",status="unknown"}"#;
    scene.scrape().await.has(unknown, 0.0);
    std::fs::remove_file(scene.host.command("probe")).unwrap();
    scene.until_sample(unknown, 1.0).await;
    let scrape = scene.scrape().await;
    scrape.has(
        r#"kindler_cluster_status_phase{name="dev",phase="running"}"#,
        1.0,
    );
    let failures = r#"kindler_cluster_consecutive_failures{name="dev"}"#;
    assert_eq!(scrape.value(failures), None, "ignorance is no failure");
}

#[tokio::test]
async fn steps_are_counted_by_state_and_a_failed_one_is_a_condition() {
    // No second attempt during the test.
    let scene = scene_with(|daemon| {
        let daemon = daemon.set("KINDLER_BACKOFF_INITIAL", "60s");
        daemon.set("KINDLER_BACKOFF_MAX", "60s")
    })
    .await;
    scene.host.control("bad.create", "exit 3");
    for name in ["good", "bad"] {
        scene.sql.declare(name).await;
    }
    scene.sql.wait_state("good", "present running").await;
    scene.sql.wait_state("bad", "present failed").await;
    let of = |state: &str| {
        format!(r#"kindler_step_state{{driver="script",step="create_env.sh",state="{state}"}}"#)
    };
    let done = |name: &str, status: &str| {
        format!(
            r#"kindler_cluster_status_condition{{name="{name}",type="StepsDone",status="{status}"}}"#
        )
    };
    let scrape = scene.scrape().await;
    for (state, clusters) in [
        ("done", 1.0),
        ("failed", 1.0),
        ("running", 0.0),
        ("removed", 0.0),
    ] {
        scrape.has(&of(state), clusters);
    }
    scrape.has(&done("good", "true"), 1.0);
    scrape.has(&done("bad", "false"), 1.0);
    let durations = r#"kindler_step_duration_seconds_count{controller="cluster",driver="script",step="create_env.sh",operation="apply"}"#;
    scrape.has(durations, 2.0);

    // The cluster runs although a best-effort step failed.
    scene
        .sql
        .run("UPDATE cluster_steps SET state = 'failed', required = false")
        .await;
    let scrape = scene.scrape().await;
    scrape.has(&of("failed"), 2.0);
    scrape.has(&done("good", "false"), 1.0);
    scrape.has(&done("bad", "false"), 1.0);
    let ready = r#"kindler_cluster_status_condition{name="good",type="Ready",status="true"}"#;
    scrape.has(ready, 1.0);

    scene
        .sql.run("SET session_replication_role = replica; DELETE FROM cluster_steps; DELETE FROM clusters")
        .await;
    assert!(scene.scrape().await.naming("kindler_step_state").is_empty());
}

#[tokio::test]
async fn failing_clusters_are_exported_without_per_cluster_series() {
    let scene = scene_with(|daemon| daemon.set("KINDLER_METRICS_PER_CLUSTER", "false")).await;
    scene.host.control("bad.create", "exit 3");
    for name in ["good", "bad"] {
        scene.sql.declare(name).await;
    }
    scene.sql.wait_state("good", "present running").await;
    scene.sql.wait_state("bad", "present failed").await;
    let paused = r#"kindler_cluster_spec_paused{name="bad"}"#;
    let scrape = scene.scrape().await;
    assert_eq!(scrape.naming("\"good\""), Vec::<&String>::new());
    assert!(scrape.naming("\"bad\"").len() >= 2);
    scrape.has(paused, 0.0);
    scrape.has(
        r#"kindler_clusters{desired="present",actual="running"}"#,
        1.0,
    );
    // Here a pause silences the alerts, too.
    scene.sql.run("UPDATE clusters SET paused = true").await;
    let scrape = scene.scrape().await;
    scrape.has(paused, 1.0);
    assert_eq!(scrape.naming("\"good\""), Vec::<&String>::new());
}

/// docs/METRICS.md is printed by `kindler metrics-table`.
#[test]
fn docs_metrics_matches_the_catalogue() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, after) = text.split_once("<!-- metrics -->\n").unwrap();
    let (documented, _) = after.split_once("<!-- /metrics -->").unwrap();
    let printed = std::process::Command::new(crate::kit::KINDLER)
        .arg("metrics-table")
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(printed, catalogue::table());
    assert_eq!(
        documented, printed,
        "update it with `kindler metrics-table`"
    );
}
