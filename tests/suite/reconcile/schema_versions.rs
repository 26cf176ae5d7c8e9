//! A later release has migrated the database while this one runs: it finishes
//! what it does, begins nothing, says so, and goes on after a rollback.

use super::{SOON, insert, migrated, run, state, text, until};
use crate::kit::{Daemon, Host, eventually, kindler};

const LATER: &str =
    "INSERT INTO kindler_migrations (version, name) VALUES (999, 'of a later release')";
const ROLLED_BACK: &str = "DELETE FROM kindler_migrations WHERE version = 999";
const TOLD: &str = "schema is at version 999, newer than this release knows";

async fn stands_aside(daemon: &Daemon) {
    let (status, body) = eventually(SOON, "the daemon to stand aside", || async {
        let answer = daemon.get("/readyz").await?;
        answer.1.contains(TOLD).then_some(answer)
    })
    .await;
    assert_eq!(status, 503, "{body}");
}

#[tokio::test]
async fn a_later_schema_is_left_to_the_later_release() {
    let (database, host) = (migrated().await, Host::new());
    host.control(
        "running.create",
        "while [ ! -e \"$here/live/go\" ]; do sleep 0.1; done",
    );
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    run(&sql, &insert("running")).await;
    eventually(SOON, "the create to run", || async {
        host.live_commands().len() == 1
    })
    .await;

    run(&sql, LATER).await;
    stands_aside(&daemon).await;
    run(&sql, &insert("new")).await;
    let late = Daemon::builder(&database.url(), &host).spawn();
    stands_aside(&late).await;
    for daemon in [&daemon, &late] {
        daemon.full_passes(2).await;
    }
    assert_eq!(state(&sql, "new").await, "present unknown");
    assert_eq!(host.live_commands().len(), 1, "what runs is not cut short");
    std::fs::write(host.path().join("live/go"), "").unwrap();
    until(&sql, "running", "present running").await;
    // The lease is released after the last write.
    eventually(SOON, "the lease to be released", || async {
        text(&sql, "SELECT count(*)::text FROM cluster_leases").await == "0"
    })
    .await;

    let status = kindler(&database.url(), &host)
        .arg("status")
        .output()
        .unwrap();
    let told = String::from_utf8(status.stdout).unwrap();
    assert!(
        told.contains("schema version 999, newer than this release knows"),
        "{told}"
    );
    assert_eq!(status.status.code(), Some(1), "{told}");
    assert!(told.contains("all replicas are on standby"), "{told}");
    assert_eq!(told.matches("; STANDBY; ").count(), 2, "{told}");
    let (_, status) = daemon.get("/api/status").await.unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    for seen in status["replicas"].as_array().unwrap() {
        assert_eq!(seen["replica"]["aside"], true, "{seen}");
    }
    let once = kindler(&database.url(), &host)
        .arg("once")
        .output()
        .unwrap();
    assert_eq!(once.status.code(), Some(2), "{once:?}");

    run(&sql, ROLLED_BACK).await;
    until(&sql, "new", "present running").await;
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
