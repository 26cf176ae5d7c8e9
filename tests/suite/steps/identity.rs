//! Step records belong to one row: a new row of the same name has none, and a stale
//! owner writes none.

use kindler::clusters::Cluster;
use kindler::core::rows::{Claim, Lease, Rows, Written};
use kindler::core::steps::{Advanced, StepChange, StepState};
use uuid::Uuid;

use super::batches::{ClaimedCluster, claim};
use super::rig::{STEPS_TIMEOUT, StepsRig};
use crate::kit::{Sql, eventually, migrated};

#[tokio::test]
async fn a_new_row_of_the_same_name_has_no_step_records() {
    let rig = StepsRig::new().await;
    let _daemon = rig.daemon();
    rig.declare_and_wait().await;
    let first = rig.sql.text("SELECT uid::text FROM clusters").await;
    // A mark that would show if the records were taken over.
    rig.sql
        .run("UPDATE cluster_steps SET attempt = 40, message = 'of the first'")
        .await;
    rig.delete().await;
    rig.wait_removed().await;
    rig.declare_and_wait().await;
    let second = rig.sql.text("SELECT uid::text FROM clusters").await;
    assert_ne!(first, second);
    let steps = rig.steps().await;
    assert!(
        steps
            .values()
            .all(|step| step.attempt == 1 && step.message != "of the first"),
        "{steps:?}"
    );
    let others = format!("SELECT count(*)::text FROM cluster_steps WHERE uid <> '{second}'");
    assert_eq!(rig.sql.text(&others).await, "0");
    let applied = "SELECT string_agg(DISTINCT uid::text || ' ' || n, ',') FROM
        (SELECT uid, count(*) AS n FROM cluster_events WHERE kind = 'step' AND reason IN ('Applied', 'Verified') GROUP BY uid) e
        WHERE uid = (SELECT uid FROM clusters)";
    assert_eq!(rig.sql.text(applied).await, format!("{second} 5"));
    assert_eq!(rig.record().uid.unwrap().to_string(), second);
}

/// The row is removed and inserted again by another session while a daemon runs a step.
#[tokio::test]
async fn a_run_for_a_removed_row_records_nothing() {
    let rig = StepsRig::new().await;
    let daemon = rig
        .builder()
        .set("KINDLER_SANDBOX_CREATE_DELAY", "12s")
        .spawn();
    rig.declare().await;
    rig.wait_step("folder", "running").await;
    let stale = rig.sql.text("SELECT term::text FROM cluster_leases").await;
    rig.sql
        .run(&format!(
            "BEGIN; DELETE FROM cluster_leases; {}; COMMIT",
            crate::kit::removal("dev")
        ))
        .await;
    rig.declare().await;
    let second = rig.sql.text("SELECT uid::text FROM clusters").await;
    eventually(STEPS_TIMEOUT, "the daemon to claim the new row", || async {
        let claimed = format!("SELECT count(*)::text FROM cluster_leases WHERE term > {stale}");
        rig.sql.text(&claimed).await == "1"
    })
    .await;
    daemon.kill();
    let _quick = rig.daemon();
    rig.wait_running().await;
    let by_stale = format!(
        "SELECT count(*)::text FROM cluster_events WHERE uid = '{second}' AND kind = 'step' AND term <= {stale}"
    );
    assert_eq!(rig.sql.text(&by_stale).await, "0");
    let by_stale = format!("SELECT count(*)::text FROM cluster_steps WHERE term <= {stale}");
    assert_eq!(rig.sql.text(&by_stale).await, "0");
    rig.assert_one_node();
}

fn step(state: StepState) -> StepChange {
    StepChange {
        driver: "sandbox".into(),
        name: "folder".into(),
        position: 1,
        total: 5,
        version: 1,
        required: true,
        state,
        attempt: 1,
        reason: None,
        message: None,
        input_hash: None,
        next_try_seconds: None,
    }
}

/// Leases that differ from the right one in one field each.
fn stale(right: &Lease) -> [Lease; 3] {
    let of = || right.clone();
    [
        Lease {
            uid: Uuid::from_u128(7),
            ..of()
        },
        Lease {
            owner: "another".into(),
            ..of()
        },
        Lease {
            term: kindler::core::lease::Term(right.term.0 - 1),
            ..of()
        },
    ]
}

async fn rejected(rows: &Rows<Cluster>, begun: &ClaimedCluster, lease: &Lease) {
    let (row, status) = (&begun.row, &begun.status);
    let steps = [step(StepState::Running)];
    let written = rows.write(lease, row, status, &steps).await.unwrap();
    assert!(matches!(written, Written::Lost), "{lease:?}");
    let advanced = rows.advance(lease, row.generation, &steps, "stale").await;
    assert_eq!(advanced.unwrap(), Advanced::LeaseLost, "{lease:?}");
    let renewed = rows.renew(lease, std::time::Duration::from_secs(60)).await;
    assert!(renewed.unwrap().is_none(), "{lease:?}");
    assert!(!rows.remove(lease, row.generation).await.unwrap());
}

async fn one_claimed() -> (crate::kit::Database, kindler::store::Store, ClaimedCluster) {
    let database = migrated().await;
    database.declare("dev").await;
    let store = database.store(8);
    let Some((_, Claim::Won(claimed))) = claim(&store, &["dev".into()]).await.pop() else {
        panic!("not won")
    };
    (database, store, ClaimedCluster::of(*claimed))
}

#[tokio::test]
async fn a_stale_owner_writes_no_step() {
    let (database, store, begun) = one_claimed().await;
    for lease in stale(&begun.lease) {
        rejected(store.claims(), &begun, &lease).await;
    }
    let untouched = "SELECT count(*) FROM clusters WHERE actual_state = 'unknown' AND status_message IS DISTINCT FROM 'stale'
                     AND NOT EXISTS (SELECT FROM cluster_steps)";
    assert_eq!(database.value::<i64>(untouched).await, 1);
    let (row, steps) = (&begun.row, [step(StepState::Running)]);
    let rows = store.claims();
    let written = rows.write(&begun.lease, row, &begun.status, &steps).await;
    assert!(matches!(written.unwrap(), Written::Yes(_)));
    let recorded = "SELECT name || ' ' || state FROM cluster_steps";
    assert_eq!(database.value::<String>(recorded).await, "folder running");
}

/// A batch contains the owner's own write and one of an earlier term: the latter is
/// rejected with its steps.
#[tokio::test]
async fn a_stale_write_in_a_batch_is_rejected() {
    let (database, store, begun) = one_claimed().await;
    let (rows, row, status) = (store.claims(), &begun.row, &begun.status);
    let [_, _, earlier] = stale(&begun.lease);
    let (mut theirs, ours) = ([step(StepState::Failed)], [step(StepState::Running)]);
    "port".clone_into(&mut theirs[0].name);
    let (stale, right) = tokio::join!(
        rows.write(&earlier, row, status, &theirs),
        rows.write(&begun.lease, row, status, &ours),
    );
    assert!(matches!(stale.unwrap(), Written::Lost));
    assert!(matches!(right.unwrap(), Written::Yes(_)));
    let recorded = "SELECT string_agg(name || ' ' || state, ',') FROM cluster_steps";
    assert_eq!(database.value::<String>(recorded).await, "folder running");
}

#[tokio::test]
async fn no_step_begins_for_a_changed_or_paused_row() {
    for change in ["http_port = 18999", "paused = true", "protected = true"] {
        let (database, store, begun) = one_claimed().await;
        database.run(&format!("UPDATE clusters SET {change}")).await;
        let second = StepChange {
            name: "port".into(),
            position: 2,
            ..step(StepState::Running)
        };
        let steps = [step(StepState::Done), second];
        let rows = store.claims();
        let advanced = rows
            .advance(&begun.lease, begun.row.generation, &steps, "on")
            .await;
        assert_eq!(advanced.unwrap(), Advanced::PlanAgain, "{change}");
        let recorded = "SELECT string_agg(name || ' ' || state, ',') FROM cluster_steps";
        let recorded = database.value::<String>(recorded).await;
        assert_eq!(recorded, "folder done", "{change}");
    }
}
