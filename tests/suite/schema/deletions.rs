//! The cap on deletions is exact over all replicas, and first come, first served.

use std::time::Duration;

use kindler::clusters::observation::Observation;
use kindler::clusters::plan::{Decision, Moment, Policy, defer_deletion, plan};
use kindler::clusters::{Actual, Cluster};
use kindler::core::database::Database as Url;
use kindler::core::rows::{Claim, Lease, Leased, Written};
use kindler::store::Store;
use tokio_postgres::Client;

use super::claims::Claims;
use super::isolation::repeatable_read;
use super::migrated;
use crate::kit::{Database, Pooler, Sql};

const TTL: Duration = Duration::from_secs(15);

/// Running clusters that were declared absent one after the other, in order of name.
async fn leaving(client: &Client, clusters: u32) {
    let sql = format!(
        "INSERT INTO clusters (name, provider, actual_state)
         SELECT 'c' || lpad(n::text, 3, '0'), 'k3d', 'running' FROM generate_series(1, {clusters}) n"
    );
    client.run(&sql).await;
    for n in 1..=clusters {
        let sql = format!("DELETE FROM clusters WHERE name = 'c{n:03}'");
        client.run(&sql).await;
    }
}

/// Reconciles a row up to the intent and returns the state in the row.
async fn reconcile_to_intent(store: &Store, name: &str, cap: usize) -> Actual {
    let claimed = match store.claim(name, "a replica", TTL).await.unwrap() {
        Claim::Won(claimed) => *claimed,
        other => panic!("{name} is due and free: {other:?}"),
    };
    let row = begin(store, &claimed.row.readable().unwrap(), &claimed.lease, cap).await;
    store.claims().release(&claimed.lease).await.unwrap();
    row.object.actual
}

async fn begin(store: &Store, row: &Leased<Cluster>, lease: &Lease, cap: usize) -> Leased<Cluster> {
    let moment = Moment {
        now: row.read_at,
        jitter: 0.0,
    };
    let Decision::Act { intent, .. } = plan(
        &row.object,
        Some(&Observation::HEALTHY),
        &Policy::default(),
        moment,
    ) else {
        panic!("its delete is due: {row:?}")
    };
    // Others may begin for longer than one call waits.
    for _ in 0..20 {
        let decide = |queue: &_| defer_deletion(&row.object, intent.clone(), cap, queue);
        let begun = store.begin_deletion(lease, row, (&[], &[]), decide);
        if let Written::Yes(row) = begun.await.unwrap() {
            return *row;
        }
    }
    panic!("the owner writes")
}

/// Moves counted deletions a minute into the past and makes deferred ones due.
async fn a_minute_later(client: &Client) {
    client
        .run(
            "UPDATE cluster_deletions SET begun_at = begun_at - interval '1 min';
             UPDATE clusters SET next_attempt_at = NULL WHERE status_reason = 'DeletionHeld'",
        )
        .await;
}

const HELD: &str = "SELECT count(*) FROM clusters WHERE status_reason = 'DeletionHeld'";

#[tokio::test]
async fn concurrent_replicas_do_not_exceed_the_cap() {
    let database = Database::create().await.migrate().await;
    never_more_than_the_cap(&database, &database.url()).await;
}

#[tokio::test]
async fn the_cap_is_exact_under_repeatable_read() {
    let database = repeatable_read().await;
    never_more_than_the_cap(&database, &database.url()).await;
}

#[tokio::test]
async fn the_cap_is_exact_under_repeatable_read_behind_a_pooler() {
    let database = repeatable_read().await;
    let pooler = Pooler::start(&database, "transaction").await;
    never_more_than_the_cap(&database, &pooler.url()).await;
}

async fn never_more_than_the_cap(database: &Database, url: &str) {
    let client = database.connect().await;
    leaving(&client, 40).await;
    let store = || Store::new(&Url::parse(url).unwrap(), 16, "test");
    let replicas = [store(), store(), store()];
    for round in 1..=3 {
        let due = replicas[0].claims().due(Duration::ZERO, 100).await.unwrap();
        let turns: Vec<_> = due
            .into_iter()
            .zip(0..)
            .map(|((name, _), n)| {
                let replica = replicas[n % 3].clone();
                tokio::spawn(async move { reconcile_to_intent(&replica, &name, 5).await })
            })
            .collect();
        let mut begun = 0;
        for turn in turns {
            begun += i32::from(turn.await.unwrap() == Actual::Deleting);
        }
        assert_eq!(begun, 5, "in round {round}");
        let counted = "SELECT max(n) FROM (SELECT count(*) AS n FROM cluster_deletions a JOIN cluster_deletions b
                       ON b.begun_at BETWEEN a.begun_at - interval '59.999 s' AND a.begun_at GROUP BY a) w";
        assert_eq!(client.number(counted).await, 5, "in some minute");
        client
            .run("UPDATE clusters SET next_attempt_at = '9999-01-01' WHERE actual_state = 'deleting'")
            .await;
        a_minute_later(&client).await;
    }
}

#[tokio::test]
async fn deletions_begin_in_the_order_of_their_declarations() {
    let (database, client) = migrated().await;
    leaving(&client, 6).await;
    let store = database.store(16);
    // The last one reconciles first and begins; the others follow in any order.
    assert_eq!(
        reconcile_to_intent(&store, "c006", 1).await,
        Actual::Deleting
    );
    for name in ["c003", "c001", "c005", "c004", "c002"] {
        assert_eq!(
            reconcile_to_intent(&store, name, 1).await,
            Actual::Running,
            "{name}"
        );
    }
    let order = "SELECT string_agg(name, ' ' ORDER BY next_attempt_at) FROM (
                 SELECT * FROM clusters WHERE status_reason = 'DeletionHeld') held";
    a_minute_later(&client).await;
    for name in ["c005", "c004", "c003", "c002"] {
        assert_eq!(
            reconcile_to_intent(&store, name, 1).await,
            Actual::Running,
            "{name} overtakes"
        );
    }
    // The first in the queue is due now (and sorted last here); the others a minute apart.
    assert_eq!(client.text(order).await, "c002 c003 c004 c005 c001");
    assert_eq!(
        reconcile_to_intent(&store, "c001", 1).await,
        Actual::Deleting
    );
    // A new deletion does not overtake a deferred one; a withdrawn one leaves the queue.
    client.desire("c002", "present").await;
    a_minute_later(&client).await;
    client
        .run(
            "INSERT INTO clusters (name, provider, actual_state) VALUES ('a-new-one', 'k3d', 'running');
             DELETE FROM clusters WHERE name = 'a-new-one'",
        ).await;
    assert_eq!(
        reconcile_to_intent(&store, "a-new-one", 1).await,
        Actual::Running
    );
    assert_eq!(
        reconcile_to_intent(&store, "c003", 1).await,
        Actual::Deleting
    );
}

#[tokio::test]
async fn a_deletion_is_counted_once_and_only_if_written() {
    let (database, client) = migrated().await;
    leaving(&client, 2).await;
    let store = database.store(16);
    assert_eq!(
        reconcile_to_intent(&store, "c001", 1).await,
        Actual::Deleting
    );
    // It failed; its next attempt is the same deletion.
    client
        .run("UPDATE clusters SET actual_state = 'failed', failed_attempts = 1 WHERE name = 'c001'")
        .await;
    assert_eq!(
        reconcile_to_intent(&store, "c001", 1).await,
        Actual::Deleting
    );
    assert_eq!(
        reconcile_to_intent(&store, "c002", 1).await,
        Actual::Running
    );
    let counted = "SELECT count(*) FROM cluster_deletions";
    assert_eq!(client.number(counted).await, 1);
    assert_eq!(client.number(HELD).await, 1);

    // The fence is lost between reading and writing: nothing is counted.
    a_minute_later(&client).await;
    let Claim::Won(claimed) = store.claim("c002", "slow", TTL).await.unwrap() else {
        panic!("it is due and free")
    };
    let row = claimed.row.readable().unwrap();
    client
        .run("UPDATE cluster_leases SET expires_at = clock_timestamp()")
        .await;
    let intent = match plan(
        &row.object,
        None,
        &Policy::default(),
        Moment {
            now: row.read_at,
            jitter: 0.0,
        },
    ) {
        Decision::Act { intent, .. } => intent,
        other => panic!("{other:?}"),
    };
    let lost = store
        .begin_deletion(&claimed.lease, &row, (&[], &[]), |_| intent)
        .await;
    assert!(matches!(lost.unwrap(), Written::Lost));
    assert_eq!(client.number(counted).await, 1);
}
