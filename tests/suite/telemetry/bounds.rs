//! A scrape is bounded in time, whatever the database does, and in size, by a setting.
//! promtool accepts it.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{SOON, Scrape, migrated, scene, scene_with};
use crate::kit::{Daemon, Host, PrivateServer, Proxy, Sql, Traffic, eventually};

#[tokio::test]
async fn a_stalled_database_does_not_stall_the_scrape() {
    let database = migrated().await;
    let proxy = Proxy::to(&database).await;
    let host = Host::new();
    let daemon = Daemon::builder(&proxy.url(), &host).spawn();
    daemon.ready().await;
    let scrape = async || {
        let began = Instant::now();
        let (status, text) = daemon.get("/metrics").await.expect("an answer");
        assert_eq!(status, 200);
        let took = began.elapsed();
        (Scrape::of(&text), took)
    };
    let (before, _) = scrape().await;
    before.has("kindler_db_up", 1.0);
    assert!(before.value("kindler_deletions_deferred").is_some());
    proxy.set(Traffic::Stalls);
    // Longer than the store's deadline of 5 s, so that every timeout occurs.
    let stalled = Instant::now();
    let mut longest = Duration::ZERO;
    while stalled.elapsed() < Duration::from_secs(12) {
        let ((now, took), (_, beside)) = tokio::join!(scrape(), scrape());
        longest = longest.max(took).max(beside);
        now.has("kindler_db_up", 0.0);
        now.has("kindler_scrape_complete", 0.0);
        assert_eq!(now.value("kindler_deletions_deferred"), None);
        // The values of the process itself are still exported.
        assert!(now.value("process_open_fds") > Some(3.0));
        assert!(longest < Duration::from_secs(2), "{longest:?}");
    }
    proxy.set(Traffic::Flows);
    eventually(SOON, "the database to be up again", || async {
        scrape().await.0.value("kindler_db_up") == Some(1.0)
    })
    .await;
    println!("longest scrape during the stall: {longest:?}");
}

/// An incomplete scrape looks like an empty fleet and would silence its alerts.
#[tokio::test]
async fn an_incomplete_scrape_is_marked() {
    let scene = scene_with(|daemon| daemon.set("KINDLER_API_ONLY", "true")).await;
    scene.sql.declare("dev").await;
    let complete = "kindler_scrape_complete";
    let scrape = scene.scrape().await;
    scrape.has(complete, 1.0);
    assert!(!scrape.naming("kindler_cluster_info").is_empty());
    // The read of each cluster waits for this lock; the read of the totals does not.
    scene
        .sql
        .run("BEGIN; LOCK TABLE cluster_revisions IN ACCESS EXCLUSIVE MODE")
        .await;
    let scrape = scene.scrape().await;
    scrape.has("kindler_db_up", 1.0);
    scrape.has("kindler_deletions_deferred", 0.0);
    assert!(scrape.naming("kindler_cluster_info").is_empty());
    scrape.has(complete, 0.0);
    scene.sql.run("COMMIT").await;
    scene.until_sample(complete, 1.0).await;
}

#[tokio::test]
async fn a_reconnect_of_the_listener_is_counted() {
    let server = PrivateServer::create().await;
    let database = server.database().await.migrate().await;
    let host = Host::new();
    let daemon = Daemon::builder(&database.url(), &host).spawn();
    daemon.ready().await;
    let returns = "kindler_listen_reconnects_total";
    assert_eq!(daemon.metric(returns).await, Some(0.0));
    server.terminate_all().await;
    eventually(SOON, "the listener to be back", || async {
        daemon.metric(returns).await == Some(1.0)
    })
    .await;
    assert_eq!(daemon.metric("kindler_listen_connected").await, Some(1.0));
}

#[tokio::test]
async fn ten_thousand_clusters_fit_in_a_scrape_or_are_left_out() {
    let rows = "INSERT INTO clusters (name, provider, pf_port, http_port, https_port)
        SELECT 'cluster-number-' || n, 'k3d', 1000 + n, 20000 + n, 40000 + n FROM generate_series(1, 10000) n";
    // Without reconciling, so that nothing changes during the measurement.
    let scene = scene_with(|daemon| daemon.set("KINDLER_API_ONLY", "true")).await;
    scene.sql.run(rows).await;
    let steps = "SET session_replication_role = replica;
        INSERT INTO cluster_steps (uid, driver, name, position, total, version, required, state)
        SELECT uid, 'native', 'step-' || n, n, 7, 1, true, 'done' FROM clusters, generate_series(1, 7) n";
    scene.sql.run(steps).await;
    let measured = async |daemon: &Daemon, per_cluster: bool| {
        // A debug build on a busy machine may need several attempts to read 10,000 rows
        // within the time limit of a scrape.
        eventually(SOON, "a whole scrape", || async {
            let began = Instant::now();
            let (_, text) = daemon.get("/metrics").await.expect("an answer");
            let took = began.elapsed();
            let scrape = Scrape::of(&text);
            scrape.has("kindler_db_up", 1.0);
            let whole = scrape.value("kindler_scrape_complete") == Some(1.0);
            let all = scrape.value(r#"kindler_clusters{desired="present",actual="unknown"}"#);
            let shown = scrape.naming("kindler_cluster_info").len();
            let wanted = if per_cluster { 10_000 } else { 0 };
            (whole && all == Some(10_000.0) && shown == wanted).then_some((text.len(), took))
        })
        .await
    };
    let (bytes, took) = measured(&scene.daemon, true).await;
    println!("10,000 clusters: {bytes} bytes, {took:?} (debug build)");
    assert!(bytes < 22_000_000, "{bytes}");
    let counts = Daemon::builder(&scene.database.url(), &Host::new())
        .set("KINDLER_API_ONLY", "true")
        .set("KINDLER_METRICS_PER_CLUSTER", "false")
        .spawn();
    counts.ready().await;
    let (bytes, took) = measured(&counts, false).await;
    println!("without each cluster: {bytes} bytes, {took:?} (debug build)");
    assert!(bytes < 50_000, "{bytes}");
}

#[tokio::test]
async fn promtool_accepts_every_family() {
    let scene = scene().await;
    scene.host.control("bad.create", "exit 3");
    for name in ["good", "bad"] {
        scene.sql.declare(name).await;
    }
    scene.sql.wait_state("good", "present running").await;
    scene.sql.wait_state("bad", "present failed").await;
    scene.scrape().await;
    let (_, text) = scene.daemon.get("/metrics").await.unwrap();
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        assert!(
            std::env::var_os("REQUIRE_TOOLS").is_none(),
            "promtool is not installed"
        );
        return;
    };
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let checked = promtool.wait_with_output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
}
