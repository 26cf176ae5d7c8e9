//! Rows are deleted, renamed or truncated, in every state.

use std::time::Duration;

use super::{converged, quick};
use crate::kit::{Host, Sql, eventually, migrated};

/// Every recorded state.
const STATES: [&str; 9] = [
    "unknown",
    "creating",
    "running",
    "restarting",
    "updating",
    "stopping",
    "stopped",
    "failed",
    "deleting",
];

/// Creates one cluster for each state, with that name, and keeps it in that state.
async fn one_cluster_in_each_state(sql: &tokio_postgres::Client, host: &Host) {
    for (of, shell) in [
        ("creating.create", "sleep 600"),
        ("failed.create", "exit 1"),
        (
            "updating.create",
            r#"[ -e "$here/clusters/$name" ] && sleep 600"#,
        ),
        ("stopping.stop", "sleep 600"),
        ("restarting.start", "sleep 600"),
        (
            "deleting.delete",
            r#"while [ -e "$here/control/deleting.delete" ]; do sleep 0.05; done"#,
        ),
    ] {
        host.control(of, shell);
    }
    sql.run("INSERT INTO clusters (name, provider, paused) SELECT s, 'k3d', s = 'unknown' FROM unnest(ARRAY['unknown', 'creating',
             'running', 'restarting', 'updating', 'stopping', 'stopped', 'failed', 'deleting']) s",
    )
    .await;
    sql.wait_number(
        "SELECT count(*) FROM clusters WHERE actual_state = 'running'",
        6,
    )
    .await;
    sql.desire("restarting", "stopped").await;
    sql.wait_state("restarting", "stopped stopped").await;
    sql.desire("restarting", "present").await;
    sql.run(
        "UPDATE clusters SET http_port = 18999 WHERE name = 'updating';
         UPDATE clusters SET desired_state = 'stopped' WHERE name IN ('stopping', 'stopped');
         UPDATE clusters SET desired_state = 'absent' WHERE name = 'deleting'",
    )
    .await;
    sql.wait_number("SELECT count(*) FROM clusters WHERE name = actual_state", 9)
        .await;
}

#[tokio::test]
async fn deleting_renaming_or_truncating_rows_orphans_nothing() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let _daemon = quick(&database.url(), &host)
        .set("KINDLER_CONCURRENCY", "16")
        .set("KINDLER_KILL_GRACE", "1s")
        // The failed cluster waits while the others are reconciled.
        .set("KINDLER_BACKOFF_INITIAL", "1h")
        .set("KINDLER_BACKOFF_MAX", "1h")
        .start()
        .await;
    one_cluster_in_each_state(&sql, &host).await;

    for state in STATES {
        let error = sql
            .refused(&format!(
                "UPDATE clusters SET name = 'other' WHERE name = '{state}'"
            ))
            .await;
        assert!(error.contains("name"), "{error}");
        sql.refused("TRUNCATE clusters CASCADE").await;
    }
    assert_eq!(
        sql.number("SELECT count(*) FROM clusters WHERE name = actual_state")
            .await,
        9
    );

    sql.run("UPDATE clusters SET paused = false").await;
    sql.run("DELETE FROM clusters").await;
    // A running delete is always finished, so it must be allowed to end.
    host.release("deleting.delete");
    sql.run("UPDATE clusters SET retry_requested_at = now()")
        .await;
    eventually(Duration::from_secs(60), "every row removed", || async {
        sql.number("SELECT count(*) FROM clusters").await == 0
    })
    .await;
    converged(&sql, &host).await;
}
