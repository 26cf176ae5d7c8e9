//! A pooler between daemon and database: in transaction mode LISTEN is
//! accepted and does nothing, and a prepared statement is somebody else's.

use std::time::{Duration, Instant};

use super::{SOON, insert, migrated, run, text, until};
use crate::kit::{Daemon, Host, Pooler, eventually, kindler};

#[tokio::test]
async fn behind_a_transaction_pooler_it_says_so_and_polls() {
    let (database, host) = (migrated().await, Host::new());
    let pooler = Pooler::start(&database, "transaction").await;
    let started = Instant::now();
    let daemon = Daemon::builder(&pooler.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1s")
        .spawn();
    let told = "changes are found by full passes only";
    eventually(SOON, "the error to be told", || async {
        daemon.log().contains(told)
    })
    .await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(
        daemon.log().contains("transaction pooler"),
        "{}",
        daemon.log()
    );
    daemon.ready().await;
    let (status, body) = daemon.get("/readyz").await.unwrap();
    assert_eq!(status, 200);
    assert!(
        body.starts_with("ready, but degraded\nlistener: "),
        "{body}"
    );
    assert_eq!(daemon.metric("kindler_listen_connected").await, Some(0.0));

    // Everything works all the same, many at once, over many sessions.
    let sql = database.connect().await;
    run(&sql, "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, 20) n").await;
    let running = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    eventually(SOON, "all to run", || async {
        text(&sql, running).await == "20"
    })
    .await;
    let ask = |args: &[&str]| kindler(&pooler.url(), &host).args(args).output().unwrap();
    let said = ask(&["create", "by-hand", "--wait"]);
    assert!(said.status.success(), "{said:?}");
    let said = ask(&["status"]);
    let out = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.status.code(), Some(1), "{out}");
    assert!(out.contains("transaction pooler"), "{out}");
    run(&sql, "UPDATE clusters SET desired_state = 'absent'").await;
    eventually(SOON, "the first twenty to go", || async {
        text(&sql, "SELECT count(*)::text FROM clusters").await == "1"
    })
    .await;
    assert_eq!(daemon.log().matches("ERROR").count(), 1, "{}", daemon.log());
    let warned = daemon.log().matches("WARN").count();
    let expected = daemon.log().matches("deletions are deferred").count();
    assert_eq!(warned, expected, "{}", daemon.log());
    host.assert_one_at_a_time();
}

#[tokio::test]
async fn behind_a_session_pooler_it_listens() {
    let (database, host) = (migrated().await, Host::new());
    let pooler = Pooler::start(&database, "session").await;
    let daemon = Daemon::builder(&pooler.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .spawn();
    daemon.ready().await;
    assert_eq!(daemon.get("/readyz").await.unwrap().1, "ready\n");
    let sql = database.connect().await;
    run(&sql, &insert("dev")).await;
    until(&sql, "dev", "present running").await;
    eventually(SOON, "the gauge", || async {
        daemon.metric("kindler_listen_connected").await == Some(1.0)
    })
    .await;
}
