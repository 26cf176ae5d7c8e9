//! Statuses and claims of many rows share statements, and no row fails or delays the
//! others.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kindler::clusters::Cluster;
use kindler::clusters::observation::Observation;
use kindler::clusters::plan::{Action, Decision, Moment, Policy, plan};
use kindler::core::database::DatabaseError;
use kindler::core::object::Object;
use kindler::core::queue::Key;
use kindler::core::rows::{Claim, Claimed, Lease, Leased, Rows, Written};
use kindler::store::{ClusterStatus, Store};

use super::rig::STEPS_TIMEOUT;
use super::statement_log::LoggingDatabase;
use crate::kit::{Daemon, Database, Host, Sql, eventually, migrated};

const TTL: Duration = Duration::from_secs(60);

/// A claimed row, and the first status that a worker would write to it.
pub struct ClaimedCluster {
    pub lease: Lease,
    pub row: Leased<Cluster>,
    pub status: ClusterStatus,
}

impl ClaimedCluster {
    /// From the claim of a new row.
    pub fn of(claimed: Claimed<Cluster>) -> Self {
        let row = claimed.row.readable().expect("a readable row");
        let moment = Moment {
            now: row.read_at,
            jitter: 0.0,
        };
        let Decision::Act {
            action: Action::Create,
            intent,
        } = plan(
            &row.object,
            Some(&Observation::Absent),
            &Policy::default(),
            moment,
        )
        else {
            panic!("expected a create")
        };
        Self {
            status: ClusterStatus::new(&intent, &row.object.spec_hash),
            lease: claimed.lease,
            row,
        }
    }

    pub async fn write(&self, rows: &Rows<Cluster>) -> Result<Written<Cluster>, DatabaseError> {
        rows.write(&self.lease, &self.row, &self.status, &[]).await
    }
}

/// Claims these rows in one statement.
pub async fn claim(store: &Store, names: &[String]) -> Vec<(Key, Claim<Cluster>)> {
    let keys: Vec<Key> = names.iter().map(|name| name.as_str().into()).collect();
    let owner: Arc<str> = "a test".into();
    store.claims().claim(&keys, &owner, TTL, TTL).await.unwrap()
}

async fn begun(store: &Store, names: &[String]) -> Vec<ClaimedCluster> {
    let claims = claim(store, names).await;
    let begin = |(_, claim)| match claim {
        Claim::Won(claimed) => ClaimedCluster::of(*claimed),
        other => panic!("not won: {other:?}"),
    };
    claims.into_iter().map(begin).collect()
}

/// Inserts `c1` to `cCOUNT`.
async fn insert(database: &Database, count: usize) -> Vec<String> {
    database
        .run(&format!(
            "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'k3d' FROM generate_series(1, {count}) n"
        ))
        .await;
    (1..=count).map(|n| format!("c{n}")).collect()
}

#[tokio::test]
async fn concurrent_status_writes_share_statements() {
    let database_log = LoggingDatabase::new(&Cluster::TABLE).await;
    let names = insert(&database_log.database, 200).await;
    let store = database_log.database.store(8);
    let from = database_log.end();
    let all = begun(&store, &names).await;
    let written = join_all(all.iter().map(|one| one.write(store.claims()))).await;
    for (one, written) in all.iter().zip(written) {
        let Ok(Written::Yes(row)) = written else {
            panic!("{} was not written: {written:?}", one.lease.key)
        };
        // Each caller gets its own row back.
        assert_eq!(row.object.name.as_str(), &*one.lease.key);
    }
    let counts = database_log.counts(from, database_log.end());
    let count = |name: &str| counts.get(name).copied().unwrap_or_default();
    assert_eq!(count("claim several"), 1, "{counts:?}");
    let writes = count("write") + count("write several");
    assert!((1..=8).contains(&writes), "{counts:?}");
    let creating = "SELECT count(*) FROM clusters WHERE actual_state = 'creating'";
    assert_eq!(database_log.database.value::<i64>(creating).await, 200);
}

#[tokio::test]
async fn a_burst_of_clusters_shares_statements() {
    let database_log = LoggingDatabase::new(&Cluster::TABLE).await;
    let host = Host::new();
    for (verb, answer) in [
        ("create", "exit 0"),
        ("probe", "exit 0"),
        ("exists", "exit 1"),
    ] {
        host.script(verb, answer);
    }
    let _daemon = Daemon::builder(&database_log.database.url(), &host)
        .set("KINDLER_CONCURRENCY", "64")
        .set("KINDLER_HEALTH_INTERVAL", "1h")
        .set("KINDLER_LEASE_TTL", "5m")
        .start()
        .await;
    let from = database_log.end();
    insert(&database_log.database, 200).await;
    eventually(Duration::from_secs(120), "all clusters running", || async {
        let left = "SELECT count(*) FROM clusters WHERE actual_state <> 'running'";
        database_log.database.value::<i64>(left).await == 0
    })
    .await;
    let counts = database_log.counts(from, database_log.end());
    let count = |name: &str| counts.get(name).copied().unwrap_or_default();
    // How many share one depends on the load of the machine; that some do, does not.
    assert!(count("write several") > 0, "{counts:?}");
    assert!(count("claim several") > 0, "{counts:?}");
}

#[tokio::test]
async fn a_locked_row_delays_no_other() {
    let database = migrated().await;
    let names = insert(&database, 20).await;
    let store = database.store(8);
    let all = begun(&store, &names).await;
    let mut holder = database.connect().await;
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("SELECT FROM clusters WHERE name = 'c7' FOR UPDATE")
        .await
        .unwrap();
    let (locked, free): (Vec<_>, Vec<_>) = all.iter().partition(|one| &*one.lease.key == "c7");
    let waiting = locked[0].write(store.claims());
    tokio::pin!(waiting);
    let others = join_all(free.iter().map(|one| one.write(store.claims())));
    // The write of the locked row is polled first, and is in the same batch.
    let written = tokio::select! {
        biased;
        early = &mut waiting => panic!("written despite the lock: {early:?}"),
        written = others => written,
    };
    assert!(written.iter().all(|w| matches!(w, Ok(Written::Yes(_)))));
    lock.commit().await.unwrap();
    assert!(matches!(waiting.await, Ok(Written::Yes(_))));
}

#[tokio::test]
async fn a_rejected_row_fails_alone() {
    let database = migrated().await;
    let names = insert(&database, 20).await;
    database
        .run("ALTER TABLE clusters ADD CHECK (name <> 'c7' OR actual_state <> 'creating')")
        .await;
    let store = database.store(8);
    let all = begun(&store, &names).await;
    let written = join_all(all.iter().map(|one| one.write(store.claims()))).await;
    for (one, written) in all.iter().zip(written) {
        match &*one.lease.key {
            "c7" => assert!(written.is_err(), "{written:?}"),
            name => assert!(matches!(written, Ok(Written::Yes(_))), "{name}"),
        }
    }
}

/// Statements that insert a first cluster that cannot be read, one for each reason.
const UNREADABLE: [&str; 2] = [
    "ALTER TABLE clusters DROP CONSTRAINT clusters_http_port_1_to_65535;
     ALTER TABLE clusters DISABLE TRIGGER USER;
     INSERT INTO clusters (name, provider, pf_port, http_port, https_port) VALUES ('bad', 'k3d', 19009, 0, 18499);
     ALTER TABLE clusters ENABLE TRIGGER USER",
    "ALTER TABLE cluster_steps DROP CONSTRAINT IF EXISTS cluster_steps_state_check;
     INSERT INTO clusters (name, provider) VALUES ('bad', 'k3d');
     INSERT INTO cluster_steps (uid, driver, name, position, total, version, required, state)
         SELECT uid, 'newer', 'gateway', 1, 1, 1, true, 'unheard-of' FROM clusters",
];

#[tokio::test]
async fn an_unreadable_row_does_not_prevent_other_claims() {
    for unreadable in UNREADABLE {
        let database = migrated().await;
        database.run(unreadable).await;
        let names = [vec!["bad".to_owned()], insert(&database, 3).await].concat();
        for (key, found) in claim(&database.store(8), &names).await {
            let Claim::Won(claimed) = found else {
                panic!("{key} was not won: {found:?}")
            };
            assert_eq!(claimed.row.object.is_err(), &*key == "bad", "{key}");
        }
    }
}

#[tokio::test]
async fn an_unreadable_step_is_shown_and_delays_no_other() {
    let (database, host) = (migrated().await, Host::new());
    database.run(UNREADABLE[1]).await;
    insert(&database, 3).await;
    let _daemon = Daemon::builder(&database.url(), &host).spawn();
    eventually(STEPS_TIMEOUT, "the other rows running, and the reason", || async {
        let states = "SELECT string_agg(name || ' ' || actual_state || ' ' || coalesce(status_reason, ''), ',' ORDER BY name) FROM clusters";
        database.value::<String>(states).await
            == "bad failed RowInvalid,c1 running Created,c2 running Created,c3 running Created"
    })
    .await;
}

#[tokio::test]
async fn a_rejected_claim_delays_no_other() {
    let (database, host) = (migrated().await, Host::new());
    database
        .run(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION 'refused by the test'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON cluster_leases FOR EACH ROW
                 WHEN (NEW.cluster_name = 'c2') EXECUTE FUNCTION refuse()",
        )
        .await;
    insert(&database, 3).await;
    let _daemon = Daemon::builder(&database.url(), &host).spawn();
    eventually(STEPS_TIMEOUT, "the other rows running", || async {
        let states = "SELECT string_agg(actual_state, ' ' ORDER BY name) FROM clusters";
        database.value::<String>(states).await == "running unknown running"
    })
    .await;
}
