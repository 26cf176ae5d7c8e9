//! Statements of earlier releases on the newest tables. After a migration a replica of an
//! earlier release claims rows until its next heartbeat (5 s), and then finishes its work on
//! standby. `releases` has the statements, as those releases send them.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use kindler::clusters::Cluster;
use kindler::core::rows::{Claim, Claimed};
use kindler::store::Store;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::claims::Claims;
use super::migrated;
use crate::kit::{Database, Sql};

const TTL: Duration = Duration::from_secs(60);

/// The schema versions of the releases, and their statements.
const RELEASES: [(i32, &str); 3] = [
    (11, include_str!("releases/11.sql")),
    (12, include_str!("releases/12.sql")),
    (17, include_str!("releases/17.sql")),
];

/// A session with the prepared statements of an earlier release, and its owner.
struct EarlierRelease {
    client: Client,
    owner: String,
    calls: HashMap<&'static str, &'static str>,
}

/// A lease that an earlier release has claimed, with the values of the row.
#[derive(Clone)]
struct EarlierLease {
    key: String,
    uid: String,
    term: i64,
    generation: String,
    hash: String,
    state: String,
}

impl EarlierRelease {
    async fn prepare(database: &Database, (version, text): (i32, &'static str)) -> Self {
        let client = database.connect().await;
        let (mut calls, statements) = (HashMap::new(), text.split("\n--# "));
        for (number, statement) in statements.enumerate() {
            if number == 0 {
                for call in statement
                    .lines()
                    .filter_map(|line| line.strip_prefix("--@ "))
                {
                    let named = call
                        .split_once(": ")
                        .filter(|(name, _)| !name.contains('('));
                    let (name, call) = named.unwrap_or((call, call));
                    calls.insert(name.split('(').next().unwrap(), call);
                }
            } else {
                let (name, statement) = statement.split_once('\n').unwrap();
                client.run(&format!("PREPARE {name} AS {statement}")).await;
            }
        }
        Self {
            client,
            owner: format!("release-{version}"),
            calls,
        }
    }

    async fn call(&self, name: &str, values: &[(&str, &dyn Display)]) -> Vec<SimpleQueryRow> {
        let mut call = (*self.calls.get(name).expect(name)).replace(":owner", &self.owner);
        for (value, with) in values {
            call = call.replace(&format!(":{value}"), &with.to_string());
        }
        match self.client.simple_query(&format!("EXECUTE {call}")).await {
            Ok(answer) => answer.into_iter().filter_map(only_row).collect(),
            Err(error) => panic!("{error:?} in: {call}"),
        }
    }

    /// The lease of a row, if its claim wins.
    async fn claim(&self, key: &str) -> Option<EarlierLease> {
        let found = self
            .call("claim", &[("key", &key), ("ttl", &TTL.as_secs())])
            .await;
        let row = found.first().expect("the row");
        // The earliest release has no prefixes.
        let named = row
            .columns()
            .iter()
            .any(|column| column.name() == "row_term");
        let term = row.get(if named { "row_term" } else { "term" })?;
        let value = |column| row.get(column).unwrap().to_owned();
        Some(EarlierLease {
            key: key.to_owned(),
            uid: value("uid"),
            term: term.parse().unwrap(),
            generation: value("generation"),
            hash: value("spec_hash"),
            state: value("actual_state"),
        })
    }

    async fn under(&self, name: &str, lease: &EarlierLease, state: &str) -> Vec<SimpleQueryRow> {
        let values: [(&str, &dyn Display); 8] = [
            ("key", &lease.key),
            ("uid", &lease.uid),
            ("term", &lease.term),
            ("generation", &lease.generation),
            ("hash", &lease.hash),
            ("was", &lease.state),
            ("state", &state),
            ("ttl", &TTL.as_secs()),
        ];
        self.call(name, &values).await
    }

    /// Writes a state; whether the fence holds.
    async fn write(&self, how: &str, lease: &mut EarlierLease, state: &str) -> bool {
        let written = !self.under(how, lease, state).await.is_empty();
        if written {
            lease.state = state.to_owned();
        }
        written
    }
}

fn only_row(message: SimpleQueryMessage) -> Option<SimpleQueryRow> {
    match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    }
}

async fn claim_newest(store: &Store, key: &str) -> Option<Box<Claimed<Cluster>>> {
    match store.claim(key, "newest", TTL).await.unwrap() {
        Claim::Won(claimed) => Some(claimed),
        _ => None,
    }
}

const LEASES: &str =
    "SELECT coalesce(string_agg(owner || ' ' || term, ', '), '') FROM cluster_leases";
const EXPIRE: &str = "UPDATE cluster_leases SET expires_at = clock_timestamp()";

async fn a_life_of_a_cluster(release: (i32, &'static str)) {
    let (database, sql) = migrated().await;
    let earlier = EarlierRelease::prepare(&database, release).await;
    let store = database.store(2);
    earlier.call("heartbeat", &[]).await;
    sql.declare("dev").await;
    assert_eq!(earlier.call("due", &[]).await.len(), 1);

    let mut lease = earlier.claim("dev").await.expect("a free row");
    assert!(claim_newest(&store, "dev").await.is_none());
    assert!(earlier.write("begin", &mut lease, "creating").await);
    assert_eq!(earlier.under("renew", &lease, "").await.len(), 1);
    assert!(earlier.write("finish", &mut lease, "running").await);
    earlier.under("release", &lease, "").await;
    assert_eq!(sql.text(LEASES).await, "");
    assert_eq!(sql.state("dev").await, "present running");
    let reached = "SELECT (observed_spec_hash = spec_hash AND observed_generation = generation)::text FROM clusters";
    assert_eq!(sql.text(reached).await, "true");
    assert!(earlier.call("due", &[]).await.is_empty());

    sql.desire("dev", "absent").await;
    let mut lease = earlier.claim("dev").await.expect("a free row");
    sql.run(EXPIRE).await;
    assert_eq!(earlier.call("expired", &[]).await.len(), 1);
    assert!(!earlier.write("begin", &mut lease, "deleting").await);
    let mut lease = earlier.claim("dev").await.expect("an expired lease");
    earlier.client.run("BEGIN").await;
    for name in ["lock_deletions", "deletions", "count_deletion"] {
        earlier.under(name, &lease, "").await;
    }
    // The newest release counts deletions under the same lock.
    let lock = include_str!("../../../sql/queries/lock_deletions.sql");
    assert!(!sql.value::<bool>(lock).await);
    assert!(earlier.write("begin", &mut lease, "deleting").await);
    earlier.client.run("COMMIT").await;
    earlier.under("remove", &lease, "").await;
    assert_eq!(sql.state("dev").await, "gone");
    earlier.call("release_all", &[]).await;
    earlier.call("leave", &[]).await;
    assert_eq!(sql.number("SELECT count(*) FROM kindler_replicas").await, 0);
}

#[tokio::test]
async fn earlier_releases_work_on_newer_tables() {
    futures_util::future::join_all(RELEASES.map(a_life_of_a_cluster)).await;
}

/// After a takeover the statements of the last owner, of whichever release, do nothing.
async fn takeovers(release: (i32, &'static str)) {
    let (database, sql) = migrated().await;
    let earlier = EarlierRelease::prepare(&database, release).await;
    let store = database.store(2);
    sql.declare("dev").await;
    let mut last = 0;
    for _ in 0..3 {
        let mut lost = earlier.claim("dev").await.expect("an expired lease");
        assert!(claim_newest(&store, "dev").await.is_none());
        assert!(lost.term > last);
        sql.run(EXPIRE).await;
        let newest = claim_newest(&store, "dev").await.expect("an expired lease");
        assert!(newest.lease.term.0 > lost.term);
        assert!(earlier.claim("dev").await.is_none());
        last = newest.lease.term.0;

        let held = format!("newest {last}");
        assert!(!earlier.write("begin", &mut lost, "creating").await);
        assert!(!earlier.write("finish", &mut lost, "running").await);
        assert!(earlier.under("renew", &lost, "").await.is_empty());
        earlier.under("release", &lost, "").await;
        earlier.call("release_all", &[]).await;
        assert_eq!(sql.text(LEASES).await, held);
        assert_eq!(sql.state("dev").await, "present unknown");

        sql.run(EXPIRE).await;
        let taken = earlier.claim("dev").await.expect("an expired lease");
        assert!(taken.term > last);
        let claims = store.claims();
        assert!(claims.renew(&newest.lease, TTL).await.unwrap().is_none());
        claims.release(&newest.lease).await.unwrap();
        let held = format!("{} {}", earlier.owner, taken.term);
        assert_eq!(sql.text(LEASES).await, held);
        last = taken.term;
        sql.run(EXPIRE).await;
    }
}

#[tokio::test]
async fn terms_grow_over_takeovers_between_releases() {
    futures_util::future::join_all(RELEASES.map(takeovers)).await;
}

#[tokio::test]
async fn one_of_the_claims_of_four_releases_wins() {
    let (database, sql) = migrated().await;
    let store = database.store(8);
    let mut sessions = Vec::new();
    for release in RELEASES {
        for _ in 0..4 {
            sessions.push(EarlierRelease::prepare(&database, release).await);
        }
    }
    sql.declare("dev").await;
    let mut last = 0;
    for _ in 0..10 {
        let earlier = sessions
            .iter()
            .map(async |session| session.claim("dev").await.map(|lease| lease.term));
        let newest = (0..4).map(|_| async {
            claim_newest(&store, "dev")
                .await
                .map(|won| won.lease.term.0)
        });
        let (earlier, newest) = futures_util::join!(
            futures_util::future::join_all(earlier),
            futures_util::future::join_all(newest)
        );
        let won: Vec<i64> = earlier.into_iter().chain(newest).flatten().collect();
        assert_eq!(won.len(), 1, "{won:?}");
        assert!(won[0] > last, "{won:?} {last}");
        last = won[0];
        sql.run(EXPIRE).await;
    }
}
