//! Kindler in a database whose default is REPEATABLE READ: a statement after a lock
//! must see what was committed before the lock was taken.

use std::collections::HashSet;

use kindler::clusters::{Desired, PartialSpec, Provider};
use kindler::core::database::Database as Url;
use kindler::store::{Batch, BatchOutcome, Declaration, Declared, Store};

use crate::kit::{Database, Pooler, Sql};

/// A migrated database whose new sessions use REPEATABLE READ.
pub(super) async fn repeatable_read() -> Database {
    let database = Database::create().await.migrate().await;
    let name = database.name();
    let keep =
        format!("ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'");
    database.run(&keep).await;
    let kept = database.text("SHOW transaction_isolation").await;
    assert_eq!(kept, "repeatable read");
    database
}

pub fn declaration(name: &str) -> Declaration {
    Declaration {
        name: name.parse().unwrap(),
        spec: PartialSpec {
            provider: Some(Provider::Kind),
            ..PartialSpec::default()
        },
        labels: serde_json::json!({}),
        paused: false,
        desired: Desired::Present,
    }
}

/// Declares forty clusters concurrently, every fourth in a batch, through two stores;
/// returns the number of distinct ports.
async fn declared_at_once(database: &Database, url: &str) -> usize {
    let stores = [(); 2].map(|()| Store::new(&Url::parse(url).unwrap(), 8, "test"));
    let declared = (0..40).map(|n| {
        let (store, new) = (stores[n % 2].clone(), declaration(&format!("c{n}")));
        tokio::spawn(async move {
            if n % 4 == 0 {
                let create = vec![new];
                let delete = Vec::new();
                let outcome = store
                    .declare_batch(&Batch {
                        create,
                        delete,
                        ..Batch::default()
                    })
                    .await
                    .unwrap();
                assert_eq!(outcome, BatchOutcome::Declared);
            } else {
                let made = store.declare(&new).await.unwrap();
                assert!(matches!(made, Declared::New(_)), "{made:?}");
            }
        })
    });
    for declared in declared.collect::<Vec<_>>() {
        declared.await.unwrap();
    }
    let ports: Vec<i32> = database
        .value("SELECT array_agg(port) FROM clusters, LATERAL (VALUES (pf_port), (http_port), (https_port)) AS p (port)")
        .await;
    assert_eq!(ports.len(), 120);
    ports.into_iter().collect::<HashSet<_>>().len()
}

#[tokio::test]
async fn clusters_declared_concurrently_get_distinct_ports() {
    let database = repeatable_read().await;
    assert_eq!(declared_at_once(&database, &database.url()).await, 120);
}

#[tokio::test]
async fn so_do_they_behind_a_pooler_that_resets_sessions() {
    let database = repeatable_read().await;
    let pooler = Pooler::start(&database, "transaction").await;
    assert_eq!(declared_at_once(&database, &pooler.url()).await, 120);
}

#[tokio::test]
async fn a_single_statement_succeeds_after_a_lock_wait() {
    let database = repeatable_read().await;
    database.declare("dev").await;
    let store = database.store(2);
    let other = database.connect().await;
    let edit = "BEGIN; UPDATE clusters SET http_port = 18099";
    other.run(edit).await;
    let name = "dev".parse().unwrap();
    let pausing = tokio::spawn(async move { store.set_paused(&name, true, None).await });
    super::one_waits_for_a_lock(&database).await;
    other.run("COMMIT").await;
    let paused = pausing.await.unwrap().unwrap().unwrap();
    assert!(paused.paused && paused.spec.http_port.get() == 18099);
}
