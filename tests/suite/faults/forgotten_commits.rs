//! Servers that acknowledge commits before they are on disk, and crash.

use std::time::Duration;

use kindler::clusters::observation::Observation;
use kindler::clusters::plan::{Action, Decision, Moment, Policy, Status, plan};
use kindler::clusters::{Actual, Cluster};
use kindler::core::database::Database as Url;
use kindler::core::rows::{Claim, Lease, Leased, Written};
use kindler::core::steps::{Advanced, StepChange, StepState};
use kindler::store::{ClusterStatus, Store};
use tokio_postgres::Client;

use super::{converged, quick, report, rounds};
use crate::kit::{Database, Host, PrivateServer, Sql};
use crate::schema::claims::Claims;

/// Where commits are made asynchronous.
#[derive(Clone, Copy, Debug)]
enum Level {
    Server,
    Role,
    Database,
}

const LEVELS: [Level; 3] = [Level::Server, Level::Role, Level::Database];

/// A server that writes nothing to disk by itself for ten seconds.
async fn forgetful(level: Level, setting: &str) -> (PrivateServer, Database) {
    let server = PrivateServer::create().await;
    let database = server.database().await.migrate().await;
    let name = database.name();
    let admin = database.connect().await;
    for statement in [
        "ALTER SYSTEM SET wal_writer_delay = '10s'",
        "ALTER SYSTEM SET wal_writer_flush_after = '1GB'",
        "ALTER SYSTEM SET autovacuum = off",
    ] {
        admin.run(statement).await;
    }
    let alter = match level {
        Level::Server => "ALTER SYSTEM".to_owned(),
        Level::Role => "ALTER ROLE postgres".to_owned(),
        Level::Database => format!("ALTER DATABASE {name}"),
    };
    admin
        .run(&format!("{alter} SET synchronous_commit = {setting}"))
        .await;
    server.stop_fast().await;
    server.start().await;
    (server, database)
}

async fn crash(server: &PrivateServer) {
    server.kill().await;
    server.start().await;
}

/// A session whose own commits are durable.
async fn durable_session(database: &Database) -> Client {
    let sql = database.connect().await;
    sql.run("SET synchronous_commit = on").await;
    sql
}

/// Where a command runs, the claim and the intent before it are not forgotten, so no other
/// replica starts a second one.
#[tokio::test]
async fn a_crash_of_the_server_forgets_no_running_command() {
    let mut crashes = 0;
    for level in LEVELS {
        for _ in 0..rounds(1, 8) {
            let (server, database) = forgetful(level, "off").await;
            let host = Host::new();
            host.control("create", "sleep 3");
            let sql = durable_session(&database).await;
            let start = || {
                quick(&database.url(), &host)
                    .set("KINDLER_LEASE_TTL", "15s")
                    .start()
            };
            let (_one, _two) = tokio::join!(start(), start());
            sql.declare_many("c", 3).await;
            host.wait_commands(3).await;
            crash(&server).await;
            let sql = durable_session(&database).await;
            for entry in host.journal() {
                let lease = format!(
                    "SELECT count(*) FROM cluster_leases JOIN clusters ON name = cluster_name
                     WHERE name = '{}' AND term = {} AND actual_state <> 'unknown'",
                    entry.name, entry.fence
                );
                assert_eq!(sql.number(&lease).await, 1, "{level:?}: {entry:?}");
            }
            converged(&sql, &host).await;
            crashes += 1;
        }
    }
    report(
        "crashes of a server with asynchronous commits",
        &format!("{crashes} crashes, 0 overlaps"),
    );
}

const TTL: Duration = Duration::from_secs(600);

/// Everything that the statements under a lease write.
const RECORDS: &str = "SELECT concat_ws(E'\\n',
    (SELECT string_agg(c::text, ' ') FROM clusters c),
    (SELECT string_agg(l::text, ' ') FROM cluster_leases l),
    (SELECT string_agg(s::text, ' ' ORDER BY position) FROM cluster_steps s),
    (SELECT count(*) FROM cluster_deletions))";

/// A server that crashes after a statement was answered.
struct CrashRig {
    server: PrivateServer,
    database: Database,
}

impl CrashRig {
    fn store(&self) -> Store {
        Store::new(&Url::parse(&self.database.url()).unwrap(), 2, "test")
    }

    /// Runs a statement, crashes the server, and compares what it has recorded.
    async fn survives<T>(&self, what: &str, statement: impl AsyncFnOnce(Store) -> T) -> T {
        let answer = statement(self.store()).await;
        let written = self.database.connect().await.text(RECORDS).await;
        crash(&self.server).await;
        let left = self.database.connect().await.text(RECORDS).await;
        assert_eq!(left, written, "the server forgot: {what}");
        answer
    }
}

fn step(state: StepState, position: i32) -> StepChange {
    StepChange {
        driver: "test".into(),
        name: format!("step-{position}"),
        position,
        total: 2,
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

fn intent(row: &Leased<Cluster>) -> Status {
    let (now, jitter) = (row.read_at, 0.0);
    match plan(
        &row.object,
        Some(&Observation::Absent),
        &Policy::default(),
        Moment { now, jitter },
    ) {
        Decision::Act {
            action: Action::Create | Action::Delete,
            intent,
        } => intent,
        other => panic!("expected an action: {other:?}"),
    }
}

async fn renewed(store: &Store, lease: &Lease) -> Leased<Cluster> {
    let renewed = store.claims().renew(lease, TTL).await.unwrap();
    renewed.expect("the lease is held").0
}

fn yes(written: Written<Cluster>) -> Box<Leased<Cluster>> {
    match written {
        Written::Yes(row) => row,
        Written::Lost => panic!("not written"),
    }
}

#[tokio::test]
async fn every_write_under_a_lease_survives_a_crash() {
    for setting in ["off", "local"] {
        let (server, database) = forgetful(Level::Server, setting).await;
        durable_session(&database).await.declare("dev").await;
        let rig = CrashRig { server, database };
        let lease = rig
            .survives("a claim", async |store| {
                match store.claim("dev", "owner", TTL).await.unwrap() {
                    Claim::Won(claimed) => claimed.lease,
                    other => panic!("not won: {other:?}"),
                }
            })
            .await;
        let row = rig
            .survives("a renewal", async |store| renewed(&store, &lease).await)
            .await;
        let row = rig
            .survives("an intent", async |store| {
                let status = ClusterStatus::new(&intent(&row), &row.object.spec_hash);
                let steps = [step(StepState::Running, 1)];
                yes(store
                    .claims()
                    .write(&lease, &row, &status, &steps)
                    .await
                    .unwrap())
            })
            .await;
        assert_eq!(row.object.actual, Actual::Creating);
        rig.survives("a step", async |store| {
            let steps = [step(StepState::Done, 1), step(StepState::Running, 2)];
            let advanced = store
                .claims()
                .advance(&lease, row.generation, &steps, "second");
            assert_eq!(advanced.await.unwrap(), Advanced::GoOn);
        })
        .await;
        durable_session(&rig.database)
            .await
            .desire("dev", "absent")
            .await;
        let row = renewed(&rig.store(), &lease).await;
        rig.survives("the start of a deletion", async |store| {
            let intent = intent(&row);
            let deletion = store.begin_uncapped_deletion(&lease, &row, &[], &intent);
            yes(deletion.await.unwrap())
        })
        .await;
        rig.survives("a removal", async |store| {
            assert!(store.claims().remove(&lease, row.generation).await.unwrap());
        })
        .await;
    }
}
