//! Another program listens inside a transaction until the server's notification queue is
//! full: every commit that notifies then fails. Needs a server whose queue can be made
//! small (17 or newer); on an older one the queue has 8 GB.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

use super::{converged, report, rounds, spread};
use crate::api::client::Client as Http;
use crate::kit::{Daemon, Database, Host, PrivateServer, Sql, TIMEOUT, eventually, kindler_output};

/// The number of pages, 8 kB each: the smallest that the server allows.
const SMALL: &str = "ALTER SYSTEM SET max_notify_queue_pages = 64";

const USAGE: &str = "kindler_db_notification_queue_usage_ratio";

/// A server with a small queue and a migrated database on it; none on older servers.
async fn small_queue() -> Option<(PrivateServer, Database)> {
    let server = PrivateServer::create().await;
    let database = server.database().await.migrate().await;
    let sql = database.connect().await;
    if sql
        .number("SELECT current_setting('server_version_num')::int8")
        .await
        < 170_000
    {
        eprintln!("not tested: this server's queue cannot be made small");
        return None;
    }
    sql.run(SMALL).await;
    server.stop_fast().await;
    server.start().await;
    Some((server, database))
}

/// A program that listens, and then stays in a transaction; with its process.
async fn foreign_listener(database: &Database) -> (Client, i32) {
    let mut config: tokio_postgres::Config = database.url().parse().unwrap();
    let connected = config.application_name("reporting").connect(NoTls).await;
    let (client, connection) = connected.unwrap();
    tokio::spawn(connection);
    // In effect only once it is committed.
    client.run("LISTEN somewhere").await;
    client.run("BEGIN; SELECT 1").await;
    let pid = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap();
    let pid = pid.get(0);
    (client, pid)
}

/// Notifies until the server refuses it.
async fn fill(sql: &Client) {
    let mut sent = 0;
    while sql
        .batch_execute(&format!(
            "SELECT pg_notify('somewhere', repeat('x', 7900) || {sent})"
        ))
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 1000, "the queue does not fill up");
    }
}

#[tokio::test]
async fn a_full_notification_queue_fails_no_write() {
    let Some((_server, database)) = small_queue().await else {
        return;
    };
    let host = Host::new();
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .set("KINDLER_HEALTH_INTERVAL", "1h")
        .start()
        .await;
    let sql = database.connect().await;
    sql.declare("first").await;
    sql.wait_state("first", "present running").await;
    // With a page open, the daemon's own writes notify, too.
    let mut page = Http::to(daemon.port()).events("/api/stream", None).await;
    page.until("synced").await;
    sql.wait_number("SELECT count(*) FROM kindler_watchers", 1)
        .await;
    let (listener, pid) = foreign_listener(&database).await;
    fill(&sql).await;

    // Users write, the daemon works and writes, the page follows.
    let (mut shown, mut run) = (Vec::new(), Vec::new());
    for n in 0..rounds(3, 60) {
        let name = format!("c{n}");
        let declared = Instant::now();
        sql.declare(&name).await;
        let mut states = Vec::new();
        while !states.iter().any(|state| state == "running") {
            let row = page.until("upsert").await.json();
            if row["name"] == *name {
                if states.is_empty() {
                    shown.push(declared.elapsed());
                }
                states.push(row["actual_state"].as_str().unwrap().to_owned());
            }
        }
        run.push(declared.elapsed());
    }
    sql.desire("first", "stopped").await;
    sql.wait_state("first", "stopped stopped").await;
    sql.desire("first", "absent").await;
    sql.wait_state("first", "gone").await;
    // Its first read since the queue is full was due within 5 s; then it reads every second.
    let slowest = *shown[1..].iter().max().unwrap();
    assert!(shown[0] < Duration::from_secs(7), "{shown:?}");
    assert!(slowest < Duration::from_secs(3), "{shown:?}");

    // Everything names the session.
    let since = sql
        .text(&format!(
            "SELECT extract(epoch FROM xact_start)::int8::text FROM pg_stat_activity WHERE pid = {pid}"
        ))
        .await;
    let named = format!("blocked by pid {pid} (application reporting, user postgres, since 20");
    eventually(TIMEOUT, "the notice of the daemon", || async {
        daemon.get("/readyz").await.unwrap().1.contains(&named)
    })
    .await;
    assert_eq!(daemon.get("/readyz").await.unwrap().0, 200);
    let (status, _) = kindler_output(&database.url(), &host, &["status"]);
    assert!(status.contains(&named), "{status}");
    assert!(daemon.log().contains("the notification queue fills up"));
    let blocked = format!(
        "kindler_db_notification_queue_blocked_since_timestamp_seconds\
         {{pid=\"{pid}\",application=\"reporting\"}}"
    );
    let found = daemon.metric(&blocked).await.unwrap();
    assert!(
        (found - since.parse::<f64>().unwrap()).abs() < 2.0,
        "{found} {since}"
    );
    assert!(daemon.metric(USAGE).await.unwrap() > 0.9);

    // A daemon that starts now works, too.
    let late = Daemon::builder(&database.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .start()
        .await;
    daemon.stop().await;
    sql.declare("late").await;
    sql.wait_state("late", "present running").await;

    listener.run("COMMIT").await;
    eventually(TIMEOUT, "an empty queue", || async {
        late.metric(USAGE).await == Some(0.0)
    })
    .await;
    assert_eq!(late.metric(&blocked).await, None);
    eventually(TIMEOUT, "no notice", || async {
        !late
            .get("/readyz")
            .await
            .unwrap()
            .1
            .contains("notifications:")
    })
    .await;
    let declared = Instant::now();
    sql.declare("notified").await;
    sql.wait_state("notified", "present running").await;
    assert!(declared.elapsed() < Duration::from_secs(3));
    assert!(!late.log().contains("ERROR"), "{}", late.log());
    converged(&sql, &host).await;
    report(
        "a full notification queue",
        &format!(
            "no write failed; shown on the page after {}; running after {}",
            spread(shown),
            spread(run)
        ),
    );
}
