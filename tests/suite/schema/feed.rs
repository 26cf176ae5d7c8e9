//! What those who follow changes read after the clusters moved to a server that
//! counts its transactions from the start.

use std::time::Duration;

use kindler::core::database::Database as Url;
use kindler::store::{Changes, Store};

use super::triggers::ears;
use super::{migrated, number, text};
use crate::kit::eventually;

const AFTER_RESTORE: &str = include_str!("../../../sql/after_restore.sql");

/// As a dump of a server with nine thousand million transactions brings them.
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
async fn rows_of_an_older_server_are_told_once_and_then_only_when_they_change() {
    let (database, client) = migrated().await;
    client.batch_execute(RESTORED).await.unwrap();
    let store = Store::new(&Url::parse(&database.url()).unwrap(), 2, "test");
    for prepared in [false, true] {
        store.set_own_sessions(prepared);
        let all = store.changes(Changes::BEGINNING).await.unwrap();
        let (total, horizon) = (all.total, all.horizon.clone());
        assert_eq!((total, names(all).len()), (50, 50));
        // Often enough that a prepared statement gets its generic plan.
        for _ in 0..8 {
            let quiet = store.changes(&horizon).await.unwrap();
            assert_eq!(quiet.total, 50);
            // The one that changed may be told again while other sessions are open.
            let mut told = names(quiet);
            told.retain(|name| name != "c7");
            assert_eq!(told, Vec::<String>::new(), "prepared: {prepared}");
        }
        let edit = format!("UPDATE clusters SET paused = {prepared} WHERE name = 'c7'");
        client.batch_execute(&edit).await.unwrap();
        assert_eq!(names(store.changes(&horizon).await.unwrap()), ["c7"]);
    }
}

#[tokio::test]
async fn after_a_restore_rows_are_stamped_anew_and_nothing_else_happens() {
    let (database, client) = migrated().await;
    client.batch_execute(RESTORED).await.unwrap();
    let everything_else = "SELECT md5(string_agg((to_jsonb(c) - 'changed_in')::text, '' ORDER BY name)) FROM clusters c";
    let books = "SELECT (SELECT count(*) FROM cluster_events) * 1000 + (SELECT count(*) FROM cluster_revisions)";
    let of_the_future = "SELECT count(*) FROM clusters WHERE changed_in > pg_current_xact_id()";
    let before = (
        text(&client, everything_else).await,
        number(&client, books).await,
    );
    assert_eq!(number(&client, of_the_future).await, 50);

    let (_listener, heard) = ears(&database).await;
    client.batch_execute(AFTER_RESTORE).await.unwrap();
    assert_eq!(number(&client, of_the_future).await, 0);
    let after = (
        text(&client, everything_else).await,
        number(&client, books).await,
    );
    assert_eq!(after, before);
    client
        .batch_execute("NOTIFY kindler_wake_public, 'end'")
        .await
        .unwrap();
    eventually(Duration::from_secs(5), "the end", || async {
        !heard.lock().unwrap().is_empty()
    })
    .await;
    assert_eq!(*heard.lock().unwrap(), ["end"]);
}
