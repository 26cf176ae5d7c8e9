//! Claims and fences: every write proves that it is by the only owner.

use std::collections::HashSet;
use std::time::Duration;

use kindler::clusters::observation::Observation;
use kindler::clusters::plan::{Action, Decision, Moment, Policy, Status, plan};
use kindler::clusters::{Actual, Cluster};
use kindler::core::rows::{Claim, Claimed, Leased, Written};

use super::claims::Claims;
use super::{migrated, one_waits_for_a_lock};
use crate::kit::Sql;

const TTL: Duration = Duration::from_secs(15);

fn won(claim: Claim<Cluster>) -> Claimed<Cluster> {
    match claim {
        Claim::Won(claimed) => *claimed,
        other => panic!("not won: {other:?}"),
    }
}

/// The first status that a worker writes.
fn intent(row: &Leased<Cluster>) -> Status {
    let moment = Moment {
        now: row.read_at,
        jitter: 0.0,
    };
    match plan(
        &row.object,
        Some(&Observation::Absent),
        &Policy::default(),
        moment,
    ) {
        Decision::Act {
            action: Action::Create,
            intent,
        } => intent,
        other => panic!("expected a create: {other:?}"),
    }
}

#[tokio::test]
async fn one_of_a_hundred_concurrent_claims_wins() {
    let (database, client) = migrated().await;
    client.declare("dev").await;
    let store = database.store(20);
    let contenders: Vec<_> = (0..100)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .claim("dev", &format!("owner-{n}"), TTL)
                    .await
                    .unwrap()
            })
        })
        .collect();
    let mut winners = 0;
    for contender in contenders {
        match contender.await.unwrap() {
            Claim::Won(_) => winners += 1,
            Claim::Busy { expires_in } => assert!(expires_in <= TTL),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(winners, 1);
}

#[tokio::test]
async fn a_stale_owner_cannot_write() {
    let (database, client) = migrated().await;
    client.declare("dev").await;
    let store = database.store(4);
    let first = won(store.claim("dev", "first", TTL).await.unwrap());
    let row = first.row.readable().unwrap();
    let status = intent(&row);
    client
        .run("UPDATE cluster_leases SET expires_at = clock_timestamp()")
        .await;
    assert!(
        store
            .claims()
            .renew(&first.lease, TTL)
            .await
            .unwrap()
            .is_none(),
        "expired is lost"
    );
    assert!(matches!(
        store
            .write_status(&row, &first.lease, &status)
            .await
            .unwrap(),
        Written::Lost
    ));

    let second = won(store.claim("dev", "second", TTL).await.unwrap());
    assert!(second.lease.term > first.lease.term);
    assert!(matches!(
        store
            .write_status(&row, &first.lease, &status)
            .await
            .unwrap(),
        Written::Lost
    ));
    store.claims().release(&first.lease).await.unwrap();
    assert!(
        store
            .claims()
            .renew(&second.lease, TTL)
            .await
            .unwrap()
            .is_some(),
        "not its lease to give"
    );
    let Written::Yes(written) = store
        .write_status(&row, &second.lease, &status)
        .await
        .unwrap()
    else {
        panic!("the owner writes")
    };
    assert_eq!(written.object.actual, Actual::Creating);
    // The same decision again: the row no longer has the state that it was based on.
    assert!(matches!(
        store
            .write_status(&row, &second.lease, &status)
            .await
            .unwrap(),
        Written::Lost
    ));
}

#[tokio::test]
async fn a_write_for_an_older_generation_is_rejected() {
    let (database, client) = migrated().await;
    client.declare("dev").await;
    let store = database.store(4);
    let claimed = won(store.claim("dev", "me", TTL).await.unwrap());
    let row = claimed.row.readable().unwrap();
    client.run("UPDATE clusters SET http_port = 18099").await;
    assert!(matches!(
        store
            .write_status(&row, &claimed.lease, &intent(&row))
            .await
            .unwrap(),
        Written::Lost
    ));
}

#[tokio::test]
async fn terms_rise_across_removal_and_redeclaration() {
    let (database, client) = migrated().await;
    let store = database.store(4);
    let mut terms = HashSet::new();
    let mut generations = HashSet::new();
    for _ in 0..3 {
        client.declare("dev").await;
        client.run("DELETE FROM clusters WHERE name = 'dev'").await;
        let claimed = won(store.claim("dev", "me", TTL).await.unwrap());
        let row = claimed.row.readable().unwrap();
        assert!(terms.insert(claimed.lease.term));
        assert!(
            generations.insert(row.object.generation),
            "a generation lived twice"
        );
        assert!(
            store
                .claims()
                .remove(&claimed.lease, row.generation)
                .await
                .unwrap()
        );
        let claim = store.claim_if_there("dev", "me", TTL).await.unwrap();
        assert!(claim.is_none(), "{claim:?}");
    }
}

#[tokio::test]
async fn a_row_that_is_not_due_is_not_claimed() {
    let (database, client) = migrated().await;
    client
        .run(
            "INSERT INTO clusters (name, provider, actual_state, next_attempt_at)
             VALUES ('dev', 'k3d', 'failed', now() + interval '1 min')",
        )
        .await;
    let store = database.store(4);
    match store.claim("dev", "me", TTL).await.unwrap() {
        Claim::NotDue { due_in: Some(wait) } => assert!(wait > Duration::from_secs(50)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_row_removed_during_a_claim_is_no_error() {
    let (database, client) = migrated().await;
    for step in [
        "INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d')",
        "BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM clusters",
    ] {
        client.run(step).await;
    }
    let store = database.store(4);
    let claim = tokio::spawn(async move {
        let first = store.claim("dev", "me", TTL).await.unwrap();
        (first, store.claim_if_there("dev", "me", TTL).await.unwrap())
    });
    one_waits_for_a_lock(&database).await;
    client.run("COMMIT").await;
    match claim.await.unwrap() {
        (Claim::Busy { expires_in }, None) => assert_eq!(expires_in, Duration::ZERO),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_expired_lease_on_a_row_that_is_not_due_is_deleted() {
    let (database, client) = migrated().await;
    client
        .run("INSERT INTO clusters (name, provider) SELECT n, 'k3d' FROM unnest('{due,done,held}'::text[]) n").await;
    let store = database.store(4);
    for name in ["due", "done", "held"] {
        won(store.claim(name, "a", TTL).await.unwrap());
    }
    client
        .run(
            "UPDATE cluster_leases SET expires_at = clock_timestamp() WHERE cluster_name <> 'held';
             UPDATE clusters SET next_attempt_at = now() + interval '1 h' WHERE name <> 'due'",
        )
        .await;
    // An owner that crashed after its last write left it; no claim follows for an hour.
    assert_eq!(store.claims().expired(10).await.unwrap(), ["due"]);
    let left = "SELECT string_agg(cluster_name, ' ' ORDER BY cluster_name) FROM cluster_leases";
    assert_eq!(client.text(left).await, "due held");
    won(store.claim("due", "b", TTL).await.unwrap());
}
