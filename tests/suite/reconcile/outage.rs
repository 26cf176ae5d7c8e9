//! The database goes away and comes back; all goes on without a restart.

use std::time::{Duration, Instant};

use super::{SOON, insert, run, text, until};
use crate::kit::{Daemon, Database, Host, PrivateServer, eventually};

/// A server of the test's own, to be stopped and started, with a migrated
/// database, and a host.
async fn apart() -> (PrivateServer, Database, Host) {
    let server = PrivateServer::create().await;
    let database = server.database().await.migrate().await;
    (server, database, Host::new())
}

#[tokio::test]
async fn a_stopped_postgres_is_waited_out_and_the_backlog_done() {
    let (server, database, host) = apart().await;
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    run(&sql, &insert("before")).await;
    until(&sql, "before", "present running").await;

    server.stop_immediate().await;
    eventually(SOON, "the outage to be told", || async {
        daemon
            .get("/readyz")
            .await
            .is_some_and(|(status, body)| status == 503 && body.contains("listener"))
    })
    .await;
    assert_eq!(daemon.metric("kindler_db_up").await, Some(0.0));
    server.start().await;
    let back = Instant::now();
    let sql = database.connect().await;
    run(&sql, &insert("after")).await;
    run(
        &sql,
        "UPDATE clusters SET desired_state = 'absent' WHERE name = 'before'",
    )
    .await;
    until(&sql, "after", "present running").await;
    until(&sql, "before", "gone").await;
    assert!(
        back.elapsed() < Duration::from_secs(10),
        "{:?}",
        back.elapsed()
    );
    daemon.ready().await;
    assert_eq!(daemon.metric("kindler_listen_connected").await, Some(1.0));
    host.assert_one_at_a_time();
}

#[tokio::test]
async fn a_command_outlives_a_short_outage_and_not_its_lease() {
    let (server, database, host) = apart().await;
    host.control("long.create", "sleep 600");
    let _daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    run(&sql, &insert("long")).await;
    eventually(SOON, "the create to run", || async {
        host.live_commands().len() == 1
    })
    .await;
    let first = host.live_commands();
    server.stop_immediate().await;
    server.start().await;
    let sql = database.connect().await;
    // The renewals go on, so the same command lives beyond a lease of 3 s.
    let renewed =
        "SELECT count(*)::text FROM cluster_leases WHERE renewed_at > acquired_at + interval '4 s'";
    eventually(
        SOON,
        "the lease to be renewed beyond its first life",
        || async { text(&sql, renewed).await == "1" },
    )
    .await;
    assert_eq!(host.live_commands(), first);

    server.stop_immediate().await;
    // No renewal gets through: the trust ends, and the command with it.
    eventually(SOON, "the command to be ended", || async {
        host.live_commands().is_empty()
    })
    .await;
    host.release("long.create");
    server.start().await;
    let sql = database.connect().await;
    until(&sql, "long", "present running").await;
    host.assert_one_at_a_time();
}

#[tokio::test]
async fn a_terminated_listener_listens_again_and_misses_nothing() {
    let (server, database, host) = apart().await;
    // Only rings and reconnects wake it.
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .spawn();
    daemon.ready().await;
    for n in 0..5 {
        server.terminate_all().await;
        let sql = database.connect().await;
        // In the gap: nobody hears this ring.
        run(&sql, &insert(&format!("gap-{n}"))).await;
        until(&sql, &format!("gap-{n}"), "present running").await;
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_at_start_is_waited_for() {
    let (server, database, host) = apart().await;
    server.stop_fast().await;
    let daemon = Daemon::builder(&database.url(), &host).spawn();
    let told = eventually(SOON, "the reason", || async {
        daemon
            .get("/readyz")
            .await
            .filter(|(_, body)| body.contains("cannot be reached"))
    })
    .await;
    assert_eq!(told.0, 503);
    server.start().await;
    daemon.ready().await;
}
