//! The database stops and comes back; the daemon continues without a restart.

use std::time::{Duration, Instant};

use crate::kit::{Daemon, Database, Host, PrivateServer, Sql};

/// A private server, a migrated database on it, and a host.
async fn private_database() -> (PrivateServer, Database, Host) {
    let server = PrivateServer::create().await;
    let database = server.database().await.migrate().await;
    (server, database, Host::new())
}

#[tokio::test]
async fn work_continues_after_postgres_was_stopped() {
    let (server, database, host) = private_database().await;
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    sql.declare("before").await;
    sql.wait_state("before", "present running").await;

    server.stop_immediate().await;
    daemon.wait_not_ready("listener").await;
    assert_eq!(daemon.metric("kindler_db_up").await, Some(0.0));
    server.start().await;
    let back = Instant::now();
    let sql = database.connect().await;
    sql.declare("after").await;
    sql.desire("before", "absent").await;
    sql.wait_state("after", "present running").await;
    sql.wait_state("before", "gone").await;
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
async fn a_command_survives_a_short_outage_but_not_its_lease() {
    let (server, database, host) = private_database().await;
    host.control("long.create", "sleep 600");
    let _daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    sql.declare("long").await;
    host.wait_commands(1).await;
    let first = host.live_commands();
    server.stop_immediate().await;
    server.start().await;
    let sql = database.connect().await;
    // The renewals continue, so the same command runs longer than a lease of 3 s.
    let renewed =
        "SELECT count(*)::text FROM cluster_leases WHERE renewed_at > acquired_at + interval '4 s'";
    sql.wait_text(renewed, "1").await;
    assert_eq!(host.live_commands(), first);

    server.stop_immediate().await;
    // No renewal succeeds: the trust ends, and so does the command.
    host.wait_commands(0).await;
    host.release("long.create");
    server.start().await;
    let sql = database.connect().await;
    sql.wait_state("long", "present running").await;
    host.assert_one_at_a_time();
}

#[tokio::test]
async fn a_terminated_listener_reconnects_and_misses_nothing() {
    let (server, database, host) = private_database().await;
    // Only notifications and reconnects start work.
    let _daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .start()
        .await;
    for n in 0..5 {
        server.terminate_all().await;
        let sql = database.connect().await;
        // No session listens at this notification.
        sql.declare(&format!("gap-{n}")).await;
        sql.wait_state(&format!("gap-{n}"), "present running").await;
    }
}

#[tokio::test]
async fn a_database_that_is_down_at_start_is_awaited() {
    let (server, database, host) = private_database().await;
    server.stop_fast().await;
    let daemon = Daemon::builder(&database.url(), &host).spawn();
    daemon.wait_not_ready("cannot be reached").await;
    server.start().await;
    daemon.ready().await;
}
