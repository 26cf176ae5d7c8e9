//! The number of statements for the lifecycle of one cluster: a driver with one step needs
//! no statement for its record.

use std::collections::BTreeMap;

use kindler::clusters::Cluster;
use kindler::core::object::Object;
use tokio_postgres::Client;

use super::rig::STEPS_TIMEOUT;
use super::statement_log::LoggingDatabase;
use crate::kit::{Daemon, DaemonBuilder, Host, claim_port, eventually};

/// The statements of the work on a row; all others are the daemon's own.
const WORK_STATEMENTS: [&str; 6] = ["claim", "renew", "write", "advance", "remove", "release"];

/// A daemon in whose log only one row's work shows: nothing else is due, and no lease
/// is renewed during the work.
fn quiet_daemon(database_log: &LoggingDatabase, host: &Host) -> DaemonBuilder {
    Daemon::builder(&database_log.database.url(), host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .set("KINDLER_HEALTH_INTERVAL", "1h")
        .set("KINDLER_LEASE_TTL", "5m")
}

/// Runs `change` and returns the statements until `done` holds and no lease is left.
/// None if a full pass ran meanwhile: if the pass finds the row before its notification
/// arrives, the row is claimed and its lease renewed once more.
async fn statements_without_pass(
    database_log: &LoggingDatabase,
    sql: &Client,
    change: &str,
    done: &str,
) -> Option<BTreeMap<String, usize>> {
    let from = database_log.end();
    sql.batch_execute(change).await.unwrap();
    let over = format!("SELECT ({done}) AND NOT EXISTS (SELECT FROM cluster_leases)");
    eventually(STEPS_TIMEOUT, done, || async {
        sql.query_one(&over, &[]).await.unwrap().get::<_, bool>(0)
    })
    .await;
    // The removal of a row deletes its lease before the release is sent.
    eventually(STEPS_TIMEOUT, "the release of the lease", || async {
        database_log
            .counts(from, database_log.end())
            .contains_key("release")
    })
    .await;
    let mut counts = database_log.counts(from, database_log.end());
    let passes = counts.remove("due").unwrap_or_default();
    counts.retain(|name, _| WORK_STATEMENTS.contains(&&**name) || name.starts_with("write"));
    (passes == 0).then_some(counts)
}

/// The statements to create a cluster, and to remove it. A daemon runs full passes at
/// its start and once it listens, and then none for an hour.
async fn create_and_delete(
    database_log: &LoggingDatabase,
    sql: &Client,
    insert: &str,
) -> [BTreeMap<String, usize>; 2] {
    let delete = "UPDATE clusters SET desired_state = 'absent'";
    for _ in 0..5 {
        let made = statements_without_pass(database_log, sql, insert, RUNNING).await;
        let gone = statements_without_pass(database_log, sql, delete, GONE).await;
        if let (Some(made), Some(gone)) = (made, gone) {
            return [made, gone];
        }
    }
    panic!("a full pass ran in each of five lifecycles");
}

fn expected(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    let owned = |(name, count): &(&str, usize)| ((*name).to_owned(), *count);
    counts.iter().map(owned).collect()
}

const RUNNING: &str = "EXISTS (SELECT FROM clusters WHERE actual_state = 'running' AND observed_generation = generation)";
const GONE: &str = "NOT EXISTS (SELECT FROM clusters)";

#[tokio::test]
async fn a_single_step_driver_needs_no_extra_statement() {
    let database_log = LoggingDatabase::new(&Cluster::TABLE).await;
    let (host, sql) = (Host::new(), database_log.database.connect().await);
    let _daemon = quiet_daemon(&database_log, &host).start().await;
    let insert = "INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d')";
    let [made, gone] = create_and_delete(&database_log, &sql, insert).await;
    // Claim, intent, renewal before the effect, result, release.
    assert_eq!(
        made,
        expected(&[("claim", 1), ("release", 1), ("renew", 1), ("write", 2)])
    );
    // The intent is written by the transaction that counts deletions.
    assert_eq!(
        gone,
        expected(&[
            ("claim", 1),
            ("release", 1),
            ("remove", 1),
            ("renew", 1),
            ("write", 1)
        ])
    );
    statements_without_pass(&database_log, &sql, insert, RUNNING).await;
    let record = "SELECT string_agg(driver || ' ' || name || ' ' || state || ' ' || position || '/' || total, ',') FROM cluster_steps";
    let record: String = sql.query_one(record, &[]).await.unwrap().get(0);
    assert_eq!(record, "script create_env.sh done 1/1");
    let events = "SELECT count(*) FROM cluster_events WHERE kind = 'step'";
    let events: i64 = sql.query_one(events, &[]).await.unwrap().get(0);
    assert_eq!(
        events, 0,
        "the step must not add an event to the cluster's own"
    );
}

#[tokio::test]
async fn each_further_step_costs_one_statement() {
    let database_log = LoggingDatabase::new(&Cluster::TABLE).await;
    let (host, sql) = (Host::new(), database_log.database.connect().await);
    let _daemon = quiet_daemon(&database_log, &host)
        .set("KINDLER_DRIVER", "sandbox")
        .start()
        .await;
    let port = claim_port();
    let insert = format!(
        "INSERT INTO clusters (name, provider, http_port) VALUES ('dev', 'k3d', {})",
        port.number
    );
    let [made, gone] = create_and_delete(&database_log, &sql, &insert).await;
    // Four steps act: folder, port, process, about; readiness is only observed.
    assert_eq!(
        (made["write"], made["advance"], made["renew"]),
        (2, 3, 1),
        "{made:?}"
    );
    assert_eq!(
        (gone["write"], gone["advance"], gone["remove"]),
        (1, 4, 1),
        "{gone:?}"
    );
}
