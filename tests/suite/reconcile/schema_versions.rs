//! A later release migrates the database while this one runs: this one finishes its
//! running work, starts no new work, says so, and continues after a rollback.

use crate::kit::{Daemon, Host, Sql, kindler_output, migrated};

const LATER: &str =
    "INSERT INTO kindler_migrations (version, name) VALUES (999, 'of a later release')";
const ROLLED_BACK: &str = "DELETE FROM kindler_migrations WHERE version = 999";
const REASON: &str = "schema is at version 999, newer than this release knows";

#[tokio::test]
async fn a_replica_with_a_newer_schema_begins_nothing() {
    let (database, host) = (migrated().await, Host::new());
    host.control(
        "running.create",
        "while [ ! -e \"$here/live/go\" ]; do sleep 0.1; done",
    );
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    sql.declare("running").await;
    host.wait_commands(1).await;

    sql.run(LATER).await;
    daemon.wait_not_ready(REASON).await;
    sql.declare("new").await;
    let late = Daemon::builder(&database.url(), &host).spawn();
    late.wait_not_ready(REASON).await;
    for daemon in [&daemon, &late] {
        daemon.full_passes(2).await;
    }
    assert_eq!(sql.state("new").await, "present unknown");
    assert_eq!(
        host.live_commands().len(),
        1,
        "running work must not be cancelled"
    );
    std::fs::write(host.path().join("live/go"), "").unwrap();
    sql.wait_state("running", "present running").await;
    // The lease is released after the last write.
    sql.wait_text("SELECT count(*)::text FROM cluster_leases", "0")
        .await;

    let (status, code) = kindler_output(&database.url(), &host, &["status"]);
    assert!(
        status.contains("schema version 999, newer than this release knows"),
        "{status}"
    );
    assert_eq!(code, Some(1), "{status}");
    assert!(status.contains("all replicas are on standby"), "{status}");
    assert_eq!(status.matches("; STANDBY; ").count(), 2, "{status}");
    let (_, status) = daemon.get("/api/status").await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    for replica in status["replicas"].as_array().unwrap() {
        assert_eq!(replica["replica"]["standby"], true, "{replica}");
    }
    let (_, code) = kindler_output(&database.url(), &host, &["once"]);
    assert_eq!(code, Some(2));

    sql.run(ROLLED_BACK).await;
    sql.wait_state("new", "present running").await;
    for daemon in [&daemon, &late] {
        daemon.ready().await;
        assert_eq!(
            daemon
                .log()
                .matches("on standby: no work is started")
                .count(),
            1,
            "{}",
            daemon.log()
        );
    }
    host.assert_one_at_a_time();
}
