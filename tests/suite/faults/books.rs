//! Rows taken away, renamed or truncated underneath, in every state.

use std::time::Duration;

use super::{converged, migrated, number, quick, run};
use crate::kit::{Host, eventually};

const SOON: Duration = Duration::from_secs(20);

/// Every recorded state, and what of the host keeps a cluster in it.
const STATES: [&str; 8] = [
    "unknown", "creating", "running", "updating", "stopping", "stopped", "failed", "deleting",
];

/// Brings one cluster into each state, named after it, and keeps it there.
async fn one_in_each(sql: &tokio_postgres::Client, host: &Host) {
    for (of, shell) in [
        ("creating.create", "sleep 600"),
        ("failed.create", "exit 1"),
        (
            "updating.create",
            r#"[ -e "$here/world/$name" ] && sleep 600"#,
        ),
        ("stopping.stop", "sleep 600"),
        (
            "deleting.delete",
            r#"while [ -e "$here/control/deleting.delete" ]; do sleep 0.05; done"#,
        ),
    ] {
        host.control(of, shell);
    }
    run(
        sql,
        "INSERT INTO clusters (name, provider, paused) SELECT s, 'k3d', s = 'unknown' FROM unnest(ARRAY['unknown', 'creating',
             'running', 'updating', 'stopping', 'stopped', 'failed', 'deleting']) s",
    )
    .await;
    eventually(SOON, "the clusters to be made", || async {
        number(
            sql,
            "SELECT count(*) FROM clusters WHERE actual_state = 'running'",
        )
        .await
            == 5
    })
    .await;
    run(
        sql,
        "UPDATE clusters SET http_port = 18999 WHERE name = 'updating';
         UPDATE clusters SET desired_state = 'stopped' WHERE name IN ('stopping', 'stopped');
         UPDATE clusters SET desired_state = 'absent' WHERE name = 'deleting'",
    )
    .await;
    eventually(SOON, "one cluster in each state", || async {
        number(
            sql,
            "SELECT count(*) FROM clusters WHERE name = actual_state",
        )
        .await
            == 8
    })
    .await;
}

async fn refused(sql: &tokio_postgres::Client, statement: &str) -> String {
    let error = sql.batch_execute(statement).await.expect_err(statement);
    error
        .as_db_error()
        .expect("the server's word")
        .message()
        .to_owned()
}

#[tokio::test]
async fn a_row_that_is_deleted_renamed_or_truncated_orphans_nothing_in_any_state() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let daemon = quick(&database.url(), &host)
        .set("KINDLER_CONCURRENCY", "16")
        .set("KINDLER_KILL_GRACE", "1s")
        // A failed one rests while the others are looked at.
        .set("KINDLER_BACKOFF_INITIAL", "1h")
        .set("KINDLER_BACKOFF_MAX", "1h")
        .spawn();
    daemon.ready().await;
    one_in_each(&sql, &host).await;

    for state in STATES {
        let told = refused(
            &sql,
            &format!("UPDATE clusters SET name = 'other' WHERE name = '{state}'"),
        )
        .await;
        assert!(told.contains("name"), "{told}");
        refused(&sql, "TRUNCATE clusters CASCADE").await;
    }
    assert_eq!(
        number(
            &sql,
            "SELECT count(*) FROM clusters WHERE name = actual_state"
        )
        .await,
        8
    );

    run(&sql, "UPDATE clusters SET paused = false").await;
    run(&sql, "DELETE FROM clusters").await;
    // A delete that runs is finished, so this one has to be let go.
    host.release("deleting.delete");
    run(&sql, "UPDATE clusters SET retry_requested_at = now()").await;
    eventually(Duration::from_secs(60), "every row to go", || async {
        number(&sql, "SELECT count(*) FROM clusters").await == 0
    })
    .await;
    converged(&sql, &host).await;
}
