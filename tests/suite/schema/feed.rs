//! Reads of changes after the clusters moved to a server whose transaction counter is
//! lower.

use std::time::Duration;

use kindler::store::Changes;

use super::migrated;
use super::triggers::listen;
use crate::kit::{Sql, eventually};

const AFTER_RESTORE: &str = include_str!("../../../sql/after_restore.sql");

/// Rows from a dump of a server that counted nine billion transactions.
const RESTORED: &str = "
    INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, 50) n;
    ALTER TABLE clusters DISABLE TRIGGER USER;
    UPDATE clusters SET changed_in = '9000000000';
    ALTER TABLE clusters ENABLE TRIGGER USER";

fn names(changes: Changes) -> Vec<String> {
    let rows = changes.rows.into_iter();
    rows.map(|row| row.unwrap().cluster.name.to_string())
        .collect()
}

#[tokio::test]
async fn rows_of_another_server_are_read_once_until_they_change() {
    let (database, client) = migrated().await;
    client.run(RESTORED).await;
    let store = database.store(2);
    for prepared in [false, true] {
        store.set_own_sessions(prepared);
        let all = store.changes(Changes::BEGINNING).await.unwrap();
        let (total, horizon) = (all.total, all.horizon.clone());
        assert_eq!((total, names(all).len()), (50, 50));
        // Often enough that a prepared statement gets its generic plan.
        for _ in 0..8 {
            let unchanged = store.changes(&horizon).await.unwrap();
            assert_eq!(unchanged.total, 50);
            // The changed row may be returned again while other sessions are open.
            let mut repeated = names(unchanged);
            repeated.retain(|name| name != "c7");
            assert_eq!(repeated, Vec::<String>::new(), "prepared: {prepared}");
        }
        let edit = format!("UPDATE clusters SET paused = {prepared} WHERE name = 'c7'");
        client.run(&edit).await;
        assert_eq!(names(store.changes(&horizon).await.unwrap()), ["c7"]);
    }
}

#[tokio::test]
async fn after_restore_changes_only_the_transaction_ids() {
    let (database, client) = migrated().await;
    client.run(RESTORED).await;
    let everything_else = "SELECT md5(string_agg((to_jsonb(c) - 'changed_in')::text, '' ORDER BY name)) FROM clusters c";
    let history = "SELECT (SELECT count(*) FROM cluster_events) * 1000 + (SELECT count(*) FROM cluster_revisions)";
    let of_the_future = "SELECT count(*) FROM clusters WHERE changed_in > pg_current_xact_id()";
    let before = (
        client.text(everything_else).await,
        client.number(history).await,
    );
    assert_eq!(client.number(of_the_future).await, 50);

    let (_listener, received) = listen(&database).await;
    client.run(AFTER_RESTORE).await;
    assert_eq!(client.number(of_the_future).await, 0);
    let after = (
        client.text(everything_else).await,
        client.number(history).await,
    );
    assert_eq!(after, before);
    client.run("NOTIFY kindler_wake_public, 'end'").await;
    eventually(Duration::from_secs(5), "the end", || async {
        !received.lock().unwrap().is_empty()
    })
    .await;
    assert_eq!(*received.lock().unwrap(), ["end"]);
}
