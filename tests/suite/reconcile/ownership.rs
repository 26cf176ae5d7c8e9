//! Several daemons on one database: one owner per cluster, proven by a fence.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{SOON, Scene, insert, migrated, run, scene_on, text, until};
use crate::kit::{Daemon, Host, eventually};

#[tokio::test]
async fn two_daemons_share_the_work_and_never_a_cluster() {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 0.05");
    let _daemons = [
        Daemon::start(&database, &host).await,
        Daemon::start(&database, &host).await,
    ];
    let sql = database.connect().await;
    run(&sql, "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, 40) n").await;
    let running = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    eventually(SOON, "all to run", || async {
        text(&sql, running).await == "40"
    })
    .await;
    host.assert_one_at_a_time();
    let creates = host
        .journal()
        .iter()
        .filter(|e| e.what == "start" && e.verb == "create")
        .count();
    assert_eq!(creates, 40, "each once");
    // Daemons that crash have nobody to take them off the list.
    run(
        &sql,
        "INSERT INTO kindler_replicas (owner, host, pid, version, seen_at)
         SELECT 'crashed-' || n, 'h', n, '0', now() - interval '61 min' FROM generate_series(1, 100) n",
    )
    .await;
    let replicas =
        "SELECT count(*) || ' ' || count(*) FILTER (WHERE listening) FROM kindler_replicas";
    eventually(SOON, "both on the list", || async {
        text(&sql, replicas).await == "2 2"
    })
    .await;
}

#[tokio::test]
async fn no_more_than_the_limit_run_at_once() {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 0.1");
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_CONCURRENCY", "2")
        .spawn();
    daemon.ready().await;
    let sql = database.connect().await;
    run(&sql, "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, 12) n").await;
    let running = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    eventually(SOON, "all to run", || async {
        text(&sql, running).await == "12"
    })
    .await;
    let (mut now, mut most) = (0_i32, 0_i32);
    for entry in host.journal() {
        match entry.what.as_str() {
            "start" => now += 1,
            _ => now -= 1,
        }
        most = most.max(now);
    }
    assert_eq!(most, 2);
}

/// A daemon whose create hangs, and a second daemon; the next create works.
async fn a_create_and_a_second_daemon() -> (Scene, Daemon) {
    let host = Host::new();
    host.control("dev.create", "sleep 600");
    let scene = scene_on(host).await;
    scene.run(&insert("dev")).await;
    eventually(SOON, "the create to run", || async {
        !scene.host.live_commands().is_empty()
    })
    .await;
    let second = Daemon::start(&scene.database, &scene.host).await;
    scene.host.release("dev.create");
    (scene, second)
}

#[tokio::test]
async fn a_killed_daemons_command_dies_and_its_cluster_is_taken_over() {
    let (scene, _second) = a_create_and_a_second_daemon().await;
    let Scene {
        daemon: first,
        host,
        sql,
        database: _database,
    } = scene;
    first.kill();
    let killed = Instant::now();
    until(&sql, "dev", "present running").await;
    // A lease of 3 s and 5 s more.
    assert!(
        killed.elapsed() < Duration::from_secs(8),
        "{:?}",
        killed.elapsed()
    );
    assert_eq!(host.started("dev"), ["create", "create"]);
    assert_eq!(host.live_commands(), Vec::<i32>::new());
    host.assert_one_at_a_time();
}

#[tokio::test]
async fn a_daemon_stopped_past_its_lease_has_lost_and_its_command_is_gone() {
    let (scene, _second) = a_create_and_a_second_daemon().await;
    let Scene {
        daemon: first,
        host,
        sql,
        database: _database,
    } = scene;
    first.signal(Signal::STOP);
    until(&sql, "dev", "present running").await;
    assert_eq!(host.live_commands(), Vec::<i32>::new());
    let row =
        "SELECT (generation, actual_state, status_reason, failed_attempts)::text FROM clusters";
    let before = text(&sql, row).await;
    first.signal(Signal::CONT);
    eventually(SOON, "the first to see that it lost", || async {
        first.metric("kindler_lease_lost_total").await == Some(1.0)
    })
    .await;
    assert_eq!(text(&sql, row).await, before, "a stale owner wrote");
    host.assert_one_at_a_time();
}

#[tokio::test]
async fn a_cluster_that_takes_its_time_to_answer_is_waited_for_beyond_a_lease() {
    let (database, host) = (migrated().await, Host::new());
    // Made at once, answering only after two lives of the lease of 3 s.
    host.script("create", r#"
        verb=create; name=$2; now=$(date +%s)
        echo "start create $name pid=$$ fence=$KINDLER_FENCE generation=$KINDLER_GENERATION attempt=$KINDLER_ATTEMPT" >> "$here/journal"
        echo $((now + 6)) > "$here/world/$name""#);
    host.script("probe", r#"[ "$(date +%s)" -ge "$(cat "$here/world/$1" 2>/dev/null || echo 9999999999)" ] || { echo not yet; exit 1; }"#);
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    run(&sql, &insert("dev")).await;
    until(&sql, "dev", "present running").await;
    assert_eq!(host.started("dev"), ["create"]);
    assert_eq!(daemon.metric("kindler_lease_lost_total").await, Some(0.0));
}
