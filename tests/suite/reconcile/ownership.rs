//! Several daemons on one database: each cluster has one owner, which the fence proves.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{ReconcileRig, rig_on};
use crate::kit::{Daemon, Host, Sql, migrated};

#[tokio::test]
async fn two_daemons_share_the_work_but_never_a_cluster() {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 0.05");
    let _daemons = [
        Daemon::start(&database, &host).await,
        Daemon::start(&database, &host).await,
    ];
    let sql = database.connect().await;
    sql.declare_many("c", 40).await;
    let running = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    sql.wait_text(running, "40").await;
    host.assert_one_at_a_time();
    let creates = host
        .journal()
        .iter()
        .filter(|e| e.what == "start" && e.verb == "create")
        .count();
    assert_eq!(creates, 40, "one create for each cluster");
    // A crashed daemon leaves its row in the list of replicas.
    sql.run("INSERT INTO kindler_replicas (owner, host, pid, version, seen_at)
         SELECT 'crashed-' || n, 'h', n, '0', now() - interval '61 min' FROM generate_series(1, 100) n",
    )
    .await;
    let replicas =
        "SELECT count(*) || ' ' || count(*) FILTER (WHERE listening) FROM kindler_replicas";
    sql.wait_text(replicas, "2 2").await;
}

#[tokio::test]
async fn no_more_commands_than_the_limit_run_at_once() {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 0.1");
    let _daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_CONCURRENCY", "2")
        .start()
        .await;
    let sql = database.connect().await;
    sql.declare_many("c", 12).await;
    let running = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    sql.wait_text(running, "12").await;
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

/// A daemon whose create hangs, and a second daemon; the next create succeeds.
async fn hanging_create_and_second_daemon() -> (ReconcileRig, Daemon) {
    let host = Host::new();
    host.control("dev.create", "sleep 600");
    let rig = rig_on(host).await;
    rig.sql.declare("dev").await;
    rig.host.wait_commands(1).await;
    let second = Daemon::start(&rig.database, &rig.host).await;
    rig.host.release("dev.create");
    (rig, second)
}

#[tokio::test]
async fn a_killed_daemons_command_ends_and_is_taken_over() {
    let (rig, _second) = hanging_create_and_second_daemon().await;
    let ReconcileRig {
        daemon: first,
        host,
        sql,
        database: _database,
    } = rig;
    first.kill();
    let killed = Instant::now();
    sql.wait_state("dev", "present running").await;
    // A lease of 3 s, and 5 s more.
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
async fn a_daemon_suspended_past_its_lease_loses_its_command() {
    let (rig, _second) = hanging_create_and_second_daemon().await;
    let ReconcileRig {
        daemon: first,
        host,
        sql,
        database: _database,
    } = rig;
    first.signal(Signal::STOP);
    sql.wait_state("dev", "present running").await;
    assert_eq!(host.live_commands(), Vec::<i32>::new());
    let row =
        "SELECT (generation, actual_state, status_reason, failed_attempts)::text FROM clusters";
    let before = sql.text(row).await;
    first.signal(Signal::CONT);
    first.wait_metric("kindler_lease_lost_total", 1.0).await;
    assert_eq!(sql.text(row).await, before, "a stale owner wrote");
    host.assert_one_at_a_time();
}

#[tokio::test]
async fn a_slow_cluster_is_awaited_for_longer_than_a_lease() {
    let (database, host) = (migrated().await, Host::new());
    // The cluster is created at once and answers only after two lease times of 3 s.
    host.script("create", r#"
        verb=create; name=$2; now=$(date +%s)
        echo "start create $name pid=$$ fence=$KINDLER_FENCE generation=$KINDLER_GENERATION attempt=$KINDLER_ATTEMPT" >> "$here/journal"
        echo $((now + 6)) > "$here/clusters/$name""#);
    host.script("probe", r#"[ "$(date +%s)" -ge "$(cat "$here/clusters/$1" 2>/dev/null || echo 9999999999)" ] || { echo not yet; exit 1; }"#);
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    sql.declare("dev").await;
    sql.wait_state("dev", "present running").await;
    assert_eq!(host.started("dev"), ["create"]);
    assert_eq!(daemon.metric("kindler_lease_lost_total").await, Some(0.0));
}
