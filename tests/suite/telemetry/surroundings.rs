//! Metrics of what surrounds the daemons: tables, folder, queue, steps, and how the database
//! answers.

use super::{SOON, Scrape, scene, scene_with};
use crate::kit::{Daemon, Host, PrivateServer, Sql, eventually};

#[tokio::test]
async fn ages_tables_folder_and_replicas_are_exported() {
    let scene = scene().await;
    scene.sql.declare("dev").await;
    scene.sql.wait_state("dev", "present running").await;
    let scrape = scene.scrape().await;
    for (sample, least, most) in [
        (
            r#"kindler_last_resync_age_seconds{controller="cluster"}"#,
            0.0,
            30.0,
        ),
        (
            r#"kindler_cluster_last_reconcile_age_seconds{name="dev"}"#,
            0.0,
            30.0,
        ),
        (r#"kindler_cluster_health_failures{name="dev"}"#, 0.0, 0.0),
        (r#"kindler_table_bytes{table="clusters"}"#, 8192.0, 1e7),
        (
            r#"kindler_table_bytes{table="cluster_events"}"#,
            8192.0,
            1e7,
        ),
        ("kindler_state_folder_free_bytes", 1.0, 1e15),
        ("kindler_state_folder_size_bytes", 1.0, 1e15),
        (r#"kindler_db_answers{result="ok"}"#, 1.0, 1.0),
    ] {
        let value = scrape
            .value(sample)
            .unwrap_or_else(|| panic!("no {sample}"));
        assert!((least..=most).contains(&value), "{sample} {value}");
    }
    let replicas = scrape.naming("kindler_replica_info");
    assert!(
        replicas.len() == 1 && replicas[0].contains(r#"reconciles="true""#),
        "{replicas:?}"
    );
    scene
        .sql
        .run("UPDATE kindler_replicas SET settings = '{\"concurrency\": \"3\"}'")
        .await;
    eventually(SOON, "the settings", || async {
        scene
            .scrape()
            .await
            .naming(r#"setting="concurrency",value="3""#)
            .len()
            == 1
    })
    .await;
}

#[tokio::test]
async fn waiting_failing_and_drifting_clusters_are_named() {
    let scene = scene_with(|daemon| daemon.set("KINDLER_CONCURRENCY", "1")).await;
    scene.host.control("slow.create", "sleep 600");
    scene.sql.declare("slow").await;
    scene.host.wait_commands(1).await;
    for name in ["first", "second"] {
        scene.sql.declare(name).await;
    }
    scene
        .until_sample(r#"kindler_cluster_queue_position{name="first"}"#, 1.0)
        .await;
    scene
        .until_sample(r#"kindler_cluster_queue_position{name="second"}"#, 2.0)
        .await;
    let steps =
        "INSERT INTO cluster_steps (uid, driver, name, position, total, version, required, state)
        SELECT uid, 'later', 'image', 1, 1, 1, false, 'failed' FROM clusters WHERE name = 'second'";
    scene.sql.run(steps).await;
    scene
        .until_sample(
            r#"kindler_cluster_step_failed{name="second",step="image"}"#,
            1.0,
        )
        .await;
    scene
        .sql
        .run(
            "UPDATE clusters SET actual_state = 'running' WHERE name = 'first';
              UPDATE clusters SET actual_state = 'failed' WHERE name = 'first'",
        )
        .await;
    scene
        .until_sample(r#"kindler_cluster_recent_drifts{name="first"}"#, 1.0)
        .await;
}

#[tokio::test]
async fn an_unreachable_database_differs_from_one_with_errors() {
    let server = PrivateServer::create().await;
    let database = server.database().await.migrate().await;
    let (sql, host) = (database.connect().await, Host::new());
    let daemon = Daemon::start(&database, &host).await;
    let answers = |expected: &'static str| {
        let daemon = &daemon;
        async move {
            eventually(SOON, expected, || async {
                let (_, text) = daemon.get("/metrics").await?;
                let scrape = Scrape::of(&text);
                let of =
                    |result| scrape.value(&format!(r#"kindler_db_answers{{result="{result}"}}"#));
                let is = ["ok", "error", "none"]
                    .map(|result| of(result) == Some(f64::from(u8::from(result == expected))));
                let up =
                    scrape.value("kindler_db_up") == Some(f64::from(u8::from(expected == "ok")));
                (up && is == [true; 3]).then_some(())
            })
            .await;
        }
    };
    answers("ok").await;
    sql.run("ALTER TABLE clusters RENAME TO moved").await;
    answers("error").await;
    sql.run("ALTER TABLE moved RENAME TO clusters").await;
    answers("ok").await;
    // A lock that is not free is an answer, too.
    sql.run("BEGIN; LOCK TABLE clusters IN ACCESS EXCLUSIVE MODE")
        .await;
    answers("error").await;
    sql.run("ROLLBACK").await;
    answers("ok").await;
    server.stop_immediate().await;
    answers("none").await;
}
