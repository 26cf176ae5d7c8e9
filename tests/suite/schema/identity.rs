//! History belongs to one row, also for events and revisions of an earlier release,
//! which have no UID.

use std::path::Path;

use kindler::clusters::ClusterName;
use kindler::store::{Incarnation, Store};
use tokio_postgres::Client;

use super::{migrated, run_migration};
use crate::kit::{Database, Sql, removal};

fn dev() -> ClusterName {
    "dev".parse().unwrap()
}

/// The schema of the last release without UIDs.
async fn schema_without_uids() -> (Database, Client) {
    let (database, folder) = (Database::create().await, "sql/migrations");
    let client = database.connect().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    for file in files.iter().take(10) {
        client.run(&std::fs::read_to_string(file).unwrap()).await;
    }
    (database, client)
}

/// `generation:kind` of each event, oldest first.
async fn events(store: &Store, of: Option<&Incarnation>) -> String {
    let events = store.events(&dev(), of, 0, 100).await.unwrap().into_iter();
    let events = events.map(|event| format!("{}:{}", event.generation, event.kind));
    events.collect::<Vec<_>>().join(" ")
}

async fn generations(store: &Store, of: Option<&Incarnation>) -> Vec<i64> {
    let revisions = store.revisions(&dev(), of).await.unwrap().into_iter();
    revisions.map(|revision| revision.generation).collect()
}

#[tokio::test]
async fn history_is_that_of_the_present_row() {
    let (database, client) = migrated().await;
    let store = database.store(2);
    client.declare("dev").await;
    let first = store.incarnation(&dev()).await.unwrap();
    client.run("UPDATE clusters SET http_port = 18099").await;
    client.run(&removal("dev")).await;
    let one = "1:declared 2:changed 3:changed 3:removed";
    // While no row has the name, history is that of the last row.
    let last = store.incarnation(&dev()).await.unwrap();
    assert_eq!(last, first);
    assert_eq!(events(&store, Some(&last)).await, one);

    client.declare("dev").await;
    let second = store.incarnation(&dev()).await.unwrap();
    assert_ne!(second.uid, first.uid);
    assert_eq!(events(&store, Some(&second)).await, "4:declared");
    assert_eq!(generations(&store, Some(&second)).await, [4]);
    let both = format!("{one} 4:declared");
    assert_eq!(events(&store, None).await, both);
    assert_eq!(generations(&store, None).await, [4, 3, 2, 1]);

    client.run(&removal("dev")).await;
    let last = store.incarnation(&dev()).await.unwrap();
    assert_eq!(last, second);
    let two = "4:declared 5:changed 5:removed";
    assert_eq!(events(&store, Some(&last)).await, two);
    assert_eq!(events(&store, Some(&first)).await, one);
}

#[tokio::test]
async fn a_rollback_uses_only_revisions_of_the_same_row() {
    let (database, client) = migrated().await;
    let store = database.store(2);
    client.declare("dev").await;
    client.run(&removal("dev")).await;
    client.declare("dev").await;
    client.run("UPDATE clusters SET http_port = 18099").await;
    let to = async |revision| store.roll_back(&dev(), revision, None).await.unwrap();
    for of_the_first in [1, 2] {
        assert_eq!(to(of_the_first).await, None);
    }
    let back = to(3).await.expect("its own");
    assert_eq!((back.generation, back.spec.http_port.get()), (5, 18080));
}

#[tokio::test]
async fn removals_separate_the_history_of_an_earlier_release() {
    let (database, client) = schema_without_uids().await;
    client.declare("dev").await;
    client.run(&removal("dev")).await;
    client.declare("dev").await;
    client.run("UPDATE clusters SET http_port = 18099").await;
    run_migration(&database).await;
    let old = "SELECT count(*)::text FROM cluster_events WHERE uid IS NOT NULL";
    assert_eq!(client.text(old).await, "0");
    let store = database.store(2);
    let present = store.incarnation(&dev()).await.unwrap();
    assert!(present.uid.is_some());
    let expected = "3:declared 4:changed";
    assert_eq!(events(&store, Some(&present)).await, expected);
    assert_eq!(generations(&store, Some(&present)).await, [4, 3]);
    assert_eq!(store.roll_back(&dev(), 1, None).await.unwrap(), None);

    // Later events have the UID and belong to the same row.
    let back = store.roll_back(&dev(), 3, None).await.unwrap().unwrap();
    assert_eq!(Some(back.uid), present.uid);
    let expected = format!("{expected} 5:changed");
    assert_eq!(events(&store, Some(&present)).await, expected);
    client.run(&removal("dev")).await;
    let expected = format!("{expected} 6:changed 6:removed");
    let last = store.incarnation(&dev()).await.unwrap();
    assert_eq!(
        (last, events(&store, Some(&last)).await),
        (present, expected)
    );
    client.declare("dev").await;
    let present = store.incarnation(&dev()).await.unwrap();
    assert_eq!(events(&store, Some(&present)).await, "7:declared");
}

#[tokio::test]
async fn history_without_a_row_is_that_of_the_last_removed_row() {
    let (database, client) = schema_without_uids().await;
    for _twice in 0..2 {
        client.declare("dev").await;
        client.run(&removal("dev")).await;
    }
    run_migration(&database).await;
    let store = database.store(2);
    let last = store.incarnation(&dev()).await.unwrap();
    assert_eq!(last.uid, None);
    let expected = "3:declared 4:changed 4:removed";
    assert_eq!(events(&store, Some(&last)).await, expected);
    assert_eq!(generations(&store, Some(&last)).await, [4, 3]);
}

#[tokio::test]
async fn a_task_belongs_to_the_row_of_its_revision() {
    for before in [false, true] {
        let (database, client) = match before {
            false => migrated().await,
            true => schema_without_uids().await,
        };
        for _twice in 0..2 {
            client.declare("dev").await;
            client.run(&removal("dev")).await;
        }
        client.declare("dev").await;
        if before {
            run_migration(&database).await;
        }
        let store = database.store(2);
        let removals = "SELECT string_agg(at::text, '|' ORDER BY id) FROM cluster_events WHERE kind = 'removed'";
        let removals = client.text(removals).await;
        let removals: Vec<jiff::Timestamp> =
            removals.split('|').map(|at| at.parse().unwrap()).collect();
        let revisions = store.revisions(&dev(), None).await.unwrap();
        for (generation, removed) in [(1, Some(0)), (2, Some(0)), (3, Some(1)), (5, None)] {
            let revision = revisions.iter().find(|one| one.generation == generation);
            let task = store.task_revision(&revision.unwrap().task_id).await;
            let task = task.unwrap().expect("a task");
            let removed = removed.map(|n: usize| removals[n]);
            assert_eq!(task.removed_at, removed, "{generation} {before}");
            assert_eq!(task.row.is_some(), removed.is_none(), "{generation}");
        }
    }
}
