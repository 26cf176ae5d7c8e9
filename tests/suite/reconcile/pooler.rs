//! A pooler between daemon and database: in transaction mode LISTEN is accepted without
//! effect, and a prepared statement belongs to any session.

use std::time::{Duration, Instant};

use crate::kit::{Daemon, Host, Pooler, Sql, TIMEOUT, eventually, kindler_output, migrated};

#[tokio::test]
async fn behind_a_transaction_pooler_it_is_degraded_and_polls() {
    let (database, host) = (migrated().await, Host::new());
    let pooler = Pooler::start(&database, "transaction").await;
    let started = Instant::now();
    let daemon = Daemon::builder(&pooler.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1s")
        .spawn();
    let error = "changes are found by full passes only";
    eventually(TIMEOUT, "the error in the log", || async {
        daemon.log().contains(error)
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

    // Everything else works, also many clusters over many sessions.
    let sql = database.connect().await;
    sql.declare_many("c", 20).await;
    let running = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    sql.wait_text(running, "20").await;
    let output = |args: &[&str]| kindler_output(&pooler.url(), &host, args);
    let (create, code) = output(&["create", "by-hand", "--wait"]);
    assert_eq!(code, Some(0), "{create}");
    let (status, code) = output(&["status"]);
    assert_eq!(code, Some(1), "{status}");
    assert!(status.contains("transaction pooler"), "{status}");
    sql.run("UPDATE clusters SET desired_state = 'absent'")
        .await;
    sql.wait_text("SELECT count(*)::text FROM clusters", "1")
        .await;
    assert_eq!(daemon.log().matches("ERROR").count(), 1, "{}", daemon.log());
    let warned = daemon.log().matches("WARN").count();
    // The tests' server is not durable, which is a finding.
    let expected = ["deletions are deferred", "WARN found code=DurabilityOff"];
    let expected: usize = expected
        .iter()
        .map(|text| daemon.log().matches(text).count())
        .sum();
    assert_eq!(warned, expected, "{}", daemon.log());
    host.assert_one_at_a_time();
}

#[tokio::test]
async fn behind_a_session_pooler_it_listens() {
    let (database, host) = (migrated().await, Host::new());
    let pooler = Pooler::start(&database, "session").await;
    let daemon = Daemon::builder(&pooler.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .start()
        .await;
    let (status, body) = daemon.get("/readyz").await.unwrap();
    assert!(status == 200 && !body.contains("listener:"), "{body}");
    let sql = database.connect().await;
    sql.declare("dev").await;
    sql.wait_state("dev", "present running").await;
    daemon.wait_metric("kindler_listen_connected", 1.0).await;
}
