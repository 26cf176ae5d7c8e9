//! A cancelled call does not affect later calls.

use std::time::Duration;

use tokio::time::timeout;

use super::{migrated, one_waits_for_a_lock, waiting_for_a_lock};
use crate::kit::Sql;

#[tokio::test]
async fn a_cancelled_call_delays_no_later_call() {
    let (database, client) = migrated().await;
    client.declare("dev").await;
    client.run("BEGIN; SELECT FROM clusters FOR UPDATE").await;
    let (store, name) = (database.store(1), "dev".parse().unwrap());
    {
        // The future is dropped while its statement waits for the lock.
        let pausing = store.set_paused(&name, true, None);
        tokio::select! {
            paused = pausing => panic!("the row is locked: {paused:?}"),
            () = one_waits_for_a_lock(&database) => {}
        }
    }
    assert_eq!(store.pool_use().open, 0, "the connection is closed");
    let read = timeout(Duration::from_secs(2), store.get(&name)).await;
    assert!(read.expect("it does not wait").unwrap().is_some());
    // The server runs the statement until its timeout; the next call did not wait for it.
    assert_eq!(waiting_for_a_lock(&database).await, 1);
}

#[tokio::test]
async fn a_finished_call_returns_its_connection() {
    let (database, _client) = migrated().await;
    let store = database.store(1);
    let pid = || async {
        let pids = database.value::<i32>("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'kindler' AND query NOT LIKE '%pg_stat_activity%'");
        pids.await
    };
    store.check().await.unwrap();
    let first = pid().await;
    let name = "a".repeat(60).parse().unwrap();
    assert!(store.get(&name).await.unwrap().is_none());
    assert_eq!(pid().await, first);
    assert_eq!(store.pool_use().idle, 1);
}
