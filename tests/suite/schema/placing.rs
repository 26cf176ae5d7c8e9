//! Placement: a daemon gets only clusters that it selects, and a started cluster stays
//! with the daemons of its placement.

use std::time::Duration;

use kindler::clusters::observation::Observation;
use kindler::clusters::plan::{
    Conclusion, Decision, Moment, Outcome, Policy, Status, conclude, plan,
};
use kindler::clusters::{Actual, Cluster, Selector};
use kindler::core::rows::{Claim, Claimed, Lease, Leased, Written};
use kindler::store::Store;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::strategy::{Just, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::claims::Claims;
use super::migrated;
use crate::kit::{Database, Sql};

const TTL: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(15);

fn store(database: &Database, selector: &str) -> Store {
    let store = database.store(4);
    store.selecting(&selector.parse().unwrap())
}

async fn insert(client: &Client, name: &str, labels: &str) {
    let sql = format!(
        "INSERT INTO clusters (name, provider, labels) VALUES ('{name}', 'k3d', '{labels}')"
    );
    client.run(&sql).await;
}

async fn claim(store: &Store, name: &str) -> Option<Claimed<Cluster>> {
    match store.claim(name, "me", TTL).await.unwrap() {
        Claim::Won(claimed) => Some(*claimed),
        Claim::NotSelected => None,
        other => panic!("{name}: {other:?}"),
    }
}

fn moment(row: &Leased<Cluster>) -> Moment {
    Moment {
        now: row.read_at,
        jitter: 0.0,
    }
}

/// A row that owns no cluster is observed before its first action.
fn intent(row: &Leased<Cluster>, seen: Option<&Observation>) -> Status {
    let seen = seen.or(Some(&Observation::Absent));
    match plan(&row.object, seen, &Policy::default(), moment(row)) {
        Decision::Act { intent, .. } | Decision::Record(intent) => intent,
        other => panic!("expected a status: {other:?}"),
    }
}

async fn write(
    store: &Store,
    row: &Leased<Cluster>,
    lease: &Lease,
    status: &Status,
) -> Option<Leased<Cluster>> {
    match store.write_status(row, lease, status).await.unwrap() {
        Written::Yes(row) => Some(*row),
        Written::Lost => None,
    }
}

async fn place(client: &Client, name: &str) -> String {
    client
        .text(&format!(
            "SELECT placed_by FROM clusters WHERE name = '{name}'"
        ))
        .await
}

/// Selectors and labels with a common set of keys and values.
fn selectors_and_labels() -> impl Strategy<Value = (String, Value)> {
    let part = "!?[ab]|[ab]!?=[x1]?|[ab] (in|notin) \\([x1],(|true|x)\\)";
    let label = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..2_i32).prop_map(Value::from),
        "[x1]?".prop_map(Value::from),
        Just(json!(["x"])),
        Just(json!({"a": "x"})),
    ];
    let labels = proptest::collection::btree_map("[ab]", label, 0..3);
    let selector = proptest::collection::vec(part, 0..4).prop_map(|parts| parts.join(","));
    (selector, labels.prop_map(|labels| json!(labels)))
}

#[tokio::test]
async fn sql_and_rust_agree_on_what_a_selector_matches() {
    let (_database, client) = migrated().await;
    let asked = client
        .prepare("SELECT kindler_matches($1, $2)")
        .await
        .unwrap();
    let (mut runner, mut matching) = (TestRunner::deterministic(), 0);
    for _ in 0..2000 {
        let (text, labels) = selectors_and_labels()
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let selector: Selector = text.parse().unwrap();
        let row = client
            .query_one(&asked, &[&json!(selector), &labels])
            .await
            .unwrap();
        assert_eq!(
            row.get::<_, bool>(0),
            selector.matches(&labels),
            "{text} {labels}"
        );
        matching += i32::from(selector.matches(&labels));
    }
    assert!((200..1800).contains(&matching), "{matching}");
}

#[tokio::test]
async fn only_selected_clusters_are_found_and_claimed() {
    let (database, client) = migrated().await;
    let (a, b, all) = (
        store(&database, "host=a"),
        store(&database, "host=b"),
        store(&database, ""),
    );
    insert(&client, "a-new", r#"{"host": "a"}"#).await;
    insert(&client, "b-new", r#"{"host": "b"}"#).await;
    insert(&client, "a-strays", r#"{"host": "b"}"#).await;
    insert(&client, "unlabelled", "{}").await;
    client
        .run("UPDATE clusters SET placed_by = 'host=a' WHERE name = 'a-strays'")
        .await;
    let everything = ["a-new", "a-strays", "b-new", "unlabelled"];
    for (store, mine) in [
        (&a, &everything[..2]),
        (&b, &everything[2..3]),
        (&all, &everything[..]),
    ] {
        let mut due: Vec<_> = store.claims().due(Duration::ZERO, 10).await.unwrap();
        due.sort();
        assert_eq!(
            due.iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>(),
            mine
        );
        assert_eq!(
            store.unconverged().await.unwrap().unsettled,
            mine.len() as i64
        );
        for name in everything {
            let claimed = claim(store, name).await;
            assert_eq!(claimed.is_some(), mine.contains(&name), "{name}");
            if let Some(claimed) = claimed {
                store.claims().release(&claimed.lease).await.unwrap();
            }
        }
        assert_eq!(
            client.number("SELECT count(*) FROM cluster_leases").await,
            0
        );
        let mut peers = Vec::new();
        client
            .run("UPDATE clusters SET actual_state = 'running'")
            .await;
        for peer in store.peers(&[], 10, "script").await.unwrap() {
            peers.push(peer.name.to_string());
        }
        peers.sort();
        assert_eq!(peers, mine);
        // A daemon of another driver cannot observe a cluster with recorded steps.
        let recorded = "INSERT INTO cluster_steps (uid, driver, name, position, total, version, required, state, attempt)
                        SELECT uid, 'script', 'create_env.sh', 1, 1, 1, true, 'done', 1 FROM clusters";
        client.run(recorded).await;
        assert_eq!(store.peers(&[], 10, "sandbox").await.unwrap().len(), 0);
        let same = store.peers(&[], 10, "script").await.unwrap().len();
        assert_eq!(same, mine.len());
        client.run("DELETE FROM cluster_steps").await;
        client
            .run("UPDATE clusters SET actual_state = 'unknown'")
            .await;
    }
    // Expired leases are also found per placement.
    for name in everything {
        claim(&all, name).await.unwrap();
    }
    client
        .run("UPDATE cluster_leases SET expires_at = clock_timestamp()")
        .await;
    for (store, mine) in [(&a, 2), (&b, 1), (&all, 4)] {
        assert_eq!(store.claims().expired(10).await.unwrap().len(), mine);
    }
}

#[tokio::test]
async fn a_placement_is_set_by_the_intent_and_cleared_by_absence() {
    let (database, client) = migrated().await;
    let (a, all) = (store(&database, "host=a"), store(&database, ""));
    insert(&client, "dev", r#"{"host": "a"}"#).await;
    let Claimed { lease, row, .. } = claim(&a, "dev").await.unwrap();
    let row = row.readable().unwrap();
    assert_eq!(
        place(&client, "dev").await,
        "",
        "a claim alone does nothing"
    );
    let row = write(&a, &row, &lease, &intent(&row, None)).await.unwrap();
    assert_eq!(row.object.actual, Actual::Creating);
    assert_eq!(place(&client, "dev").await, "host=a");
    // The daemon crashes and the labels change. Another daemon of the placement takes
    // over, observes that the cluster is absent, and its create fails.
    client
        .run(r#"UPDATE cluster_leases SET expires_at = clock_timestamp(); UPDATE clusters SET labels = '{}'"#).await;
    let Claimed { lease, row, .. } = claim(&a, "dev").await.unwrap();
    let row = row.readable().unwrap();
    let row = write(&a, &row, &lease, &intent(&row, Some(&Observation::Absent)))
        .await
        .unwrap();
    assert_eq!(place(&client, "dev").await, "host=a");
    let failed = |row: &Leased<Cluster>, seen: &Observation| {
        let failure = Outcome::Failed(kindler::clusters::plan::Failure {
            persistence: kindler::clusters::plan::Persistence::Transient,
            summary: "exited with code 1".into(),
            detail: String::new(),
        });
        let action = kindler::clusters::plan::Action::Create;
        match conclude(
            &row.object,
            action,
            &failure,
            seen,
            &Policy::default(),
            moment(row),
        ) {
            Conclusion::Record(status) => status,
            Conclusion::Remove => panic!("it is wanted"),
        }
    };
    let unknown = failed(&row, &Observation::unknown("docker is down"));
    let row = write(&a, &row, &lease, &unknown).await.unwrap();
    assert_eq!(
        place(&client, "dev").await,
        "host=a",
        "ignorance is not absence"
    );
    let row = write(&a, &row, &lease, &failed(&row, &Observation::Absent))
        .await
        .unwrap();
    assert_eq!(row.object.placed_by, None);
    a.claims().release(&lease).await.unwrap();
    client
        .run("UPDATE clusters SET next_attempt_at = NULL")
        .await;
    assert!(
        claim(&a, "dev").await.is_none(),
        "its labels are others by now"
    );

    // A daemon without a selector leaves placements unchanged.
    client.run("UPDATE clusters SET placed_by = 'host=b'").await;
    let Claimed { lease, row, .. } = claim(&all, "dev").await.unwrap();
    let row = row.readable().unwrap();
    let row = write(&all, &row, &lease, &failed(&row, &Observation::Absent))
        .await
        .unwrap();
    assert_eq!(row.object.placed_by.as_deref(), Some("host=b"));
}

#[tokio::test]
async fn a_lease_gives_no_right_to_a_row_placed_elsewhere() {
    let (database, client) = migrated().await;
    let b = store(&database, "host=b");
    insert(&client, "dev", r#"{"host": "b"}"#).await;
    insert(&client, "away", r#"{"host": "b"}"#).await;
    client
        .run("UPDATE clusters SET desired_state = 'absent', actual_state = 'running' WHERE name = 'away'").await;
    let dev = claim(&b, "dev").await.unwrap();
    let away = claim(&b, "away").await.unwrap();
    // As if another daemon placed the row while this claim ran.
    client.run("UPDATE clusters SET placed_by = 'host=a'").await;
    let row = dev.row.readable().unwrap();
    assert!(
        write(&b, &row, &dev.lease, &intent(&row, None))
            .await
            .is_none()
    );
    assert!(b.claims().renew(&dev.lease, TTL).await.unwrap().is_none());
    let row = away.row.readable().unwrap();
    let status = intent(&row, None);
    let begun = b
        .begin_deletion(&away.lease, &row, (&[], &[]), |_| status)
        .await
        .unwrap();
    assert!(matches!(begun, Written::Lost));
    assert!(
        !b.claims()
            .remove(&away.lease, row.generation)
            .await
            .unwrap()
    );
    let left =
        "SELECT count(*) FROM clusters WHERE placed_by = 'host=a' AND last_reconciled_at IS NULL";
    assert_eq!(client.number(left).await, 2);
    assert_eq!(
        client
            .number("SELECT count(*) FROM cluster_deletions")
            .await,
        0
    );
}

#[tokio::test]
async fn deletions_without_a_live_daemon_delay_no_others() {
    let (database, client) = migrated().await;
    for n in 0..5 {
        insert(&client, &format!("a{n}"), r#"{"host": "a"}"#).await;
    }
    insert(&client, "b", r#"{"host": "b"}"#).await;
    client
        .run(
            "UPDATE clusters SET actual_state = 'running', status_reason = 'DeletionHeld';
             UPDATE clusters SET desired_state = 'absent' WHERE name <> 'b';
             UPDATE clusters SET desired_state = 'absent' WHERE name = 'b'",
        )
        .await;
    for (selector, ahead) in [("host=b", 0), ("", 5)] {
        let store = store(&database, selector);
        let Claimed { lease, row, .. } = claim(&store, "b").await.unwrap();
        let row = row.readable().unwrap();
        let mut seen = None;
        let begun = store.begin_deletion(&lease, &row, (&[], &[]), |queue| {
            seen = Some(queue.ahead);
            Status {
                actual: row.object.actual,
                ..intent(&row, None)
            }
        });
        assert!(matches!(begun.await.unwrap(), Written::Yes(_)));
        assert_eq!(seen, Some(ahead), "for {selector:?}");
        store.claims().release(&lease).await.unwrap();
    }
}

#[tokio::test]
async fn clusters_that_no_live_daemon_selects_are_listed() {
    let (database, client) = migrated().await;
    insert(&client, "a", r#"{"host": "a"}"#).await;
    insert(&client, "b", r#"{"host": "b"}"#).await;
    insert(&client, "b-strays", r#"{"host": "a"}"#).await;
    insert(&client, "quiet", "{}").await;
    client
        .run(
            "UPDATE clusters SET placed_by = 'host=b' WHERE name = 'b-strays';
             UPDATE clusters SET paused = true WHERE name = 'quiet'",
        )
        .await;
    let all = store(&database, "");
    let unselected = async || {
        let found = all.unselected(PATIENCE, None, 10).await.unwrap();
        assert_eq!(found.total, found.clusters.len() as i64);
        let names = found.clusters.into_iter().map(|cluster| cluster.name);
        names.collect::<Vec<_>>().join(" ")
    };
    let announce = async |owner: &str, selector: &str, aside: bool| {
        let me = kindler::store::Replica {
            identity: Default::default(),
            owner: owner.into(),
            host: "h".into(),
            pid: 1,
            listen: None,
        };
        store(&database, selector)
            .heartbeat(&me, true, aside, None, &[], &[])
            .await
            .unwrap();
    };
    assert_eq!(unselected().await, "", "no daemon is live");
    announce("1", "host=a", false).await;
    assert_eq!(unselected().await, "b b-strays");
    assert_eq!(all.unselected(PATIENCE, None, 1).await.unwrap().total, 2);
    for (name, waits) in [("a", 0), ("b", 1)] {
        let only = name.parse().unwrap();
        let found = all.unselected(PATIENCE, Some(&only), 1).await.unwrap();
        assert_eq!(found.total, waits, "{name}");
    }
    announce("2", "host=b", false).await;
    assert_eq!(unselected().await, "");
    let shown = all.replicas().await.unwrap();
    assert!(
        shown
            .iter()
            .any(|seen| seen.selector.as_deref() == Some("host=b")),
        "{shown:?}"
    );
    announce("2", "host=b", true).await;
    assert_eq!(
        unselected().await,
        "b b-strays",
        "a replica on standby works on nothing"
    );
    client
        .run("UPDATE kindler_replicas SET seen_at = now() - interval '1 min' WHERE owner = '1'")
        .await;
    announce("2", "host=b", false).await;
    assert_eq!(unselected().await, "a");
    announce("3", "", false).await;
    assert_eq!(
        unselected().await,
        "",
        "a daemon without a selector is live"
    );
}
