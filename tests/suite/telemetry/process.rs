//! The metrics of one process about its own work.

use super::{SOON, scene, scene_with};
use crate::kit::{Sql, eventually};

#[tokio::test]
async fn running_work_is_measured_until_it_ends() {
    let scene = scene().await;
    scene.host.control(
        "dev.create",
        r#"while [ -e "$here/control/wait" ]; do sleep 0.05; done"#,
    );
    scene.host.control("wait", "");
    scene.sql.declare("dev").await;
    let longest =
        r#"workqueue_longest_running_processor_seconds{name="cluster",controller="cluster"}"#;
    eventually(SOON, "the work to show", || async {
        scene.scrape().await.value(longest) > Some(0.5)
    })
    .await;
    let scrape = scene.scrape().await;
    scrape.has("kindler_leases_held", 1.0);
    scrape.has(r#"kindler_active_workers{controller="cluster"}"#, 1.0);
    scrape.has(
        r#"kindler_cluster_status_condition{name="dev",type="Progressing",status="true"}"#,
        1.0,
    );
    scene.host.release("wait");
    scene.sql.wait_state("dev", "present running").await;
    scene.until_sample("kindler_leases_held", 0.0).await;
    scene.until_sample(longest, 0.0).await;
    let scrape = scene.scrape().await;
    for family in [
        r#"workqueue_work_duration_seconds_count{name="cluster",controller="cluster"}"#,
        r#"kindler_reconcile_time_seconds_count{controller="cluster"}"#,
        r#"kindler_wakeup_to_start_seconds_count{controller="cluster"}"#,
        r#"kindler_action_total{action="create",result="success"}"#,
    ] {
        assert!(scrape.value(family) >= Some(1.0), "{family}");
    }
    let resynced = r#"kindler_last_resync_timestamp_seconds{controller="cluster"}"#;
    let now = jiff::Timestamp::now().as_second() as f64;
    assert!((now - scrape.value(resynced).unwrap()).abs() < 60.0);
}

#[tokio::test]
async fn an_api_only_process_has_no_reconcile_families() {
    let scene = scene_with(|daemon| daemon.set("KINDLER_API_ONLY", "true")).await;
    let scrape = scene.scrape().await;
    assert_eq!(scrape.naming("controller="), Vec::<&String>::new());
    scrape.has("kindler_db_up", 1.0);
    scrape.has(r#"kindler_replicas{reconciles="true"}"#, 0.0);
}

#[tokio::test]
async fn a_daemon_on_standby_does_not_count_as_reconciling() {
    let scene = scene().await;
    let (at_work, aside) = (
        r#"kindler_replicas{reconciles="true"}"#,
        r#"kindler_replicas{reconciles="false"}"#,
    );
    scene.until_sample(at_work, 1.0).await;
    scene
        .sql
        .run("INSERT INTO kindler_migrations (version, name) VALUES (999, 'of a later release')")
        .await;
    scene.until_sample(aside, 1.0).await;
    scene.until_sample(at_work, 0.0).await;
}
