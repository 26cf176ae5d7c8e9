//! What a life of one cluster costs in statements: a driver with one step pays
//! nothing for its record.

use std::collections::BTreeMap;

use kindler::clusters::Cluster;
use kindler::core::object::Object;
use tokio_postgres::Client;

use super::log::Logged;
use super::rig::SOON;
use crate::kit::{Daemon, DaemonBuilder, Host, claim_port, eventually};

/// What belongs to the work on a row; the rest is the daemon's own.
const OF_WORK: [&str; 6] = ["claim", "renew", "write", "advance", "remove", "release"];

/// A daemon in whose log only one row's work shows: nothing else is due, and no
/// lease is old enough to be renewed in the middle of it.
fn quiet(logged: &Logged, host: &Host) -> DaemonBuilder {
    Daemon::builder(&logged.database.url(), host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .set("KINDLER_HEALTH_INTERVAL", "1h")
        .set("KINDLER_LEASE_TTL", "5m")
}

/// Runs `change` and returns what it cost until `done` holds and no lease is left.
/// None if a full pass ran meanwhile: a row that it finds before its notification
/// arrives is claimed once more, and its lease renewed once more.
async fn cost_without_pass(
    logged: &Logged,
    sql: &Client,
    change: &str,
    done: &str,
) -> Option<BTreeMap<String, usize>> {
    let from = logged.end();
    sql.batch_execute(change).await.unwrap();
    let over = format!("SELECT ({done}) AND NOT EXISTS (SELECT FROM cluster_leases)");
    eventually(SOON, done, || async {
        sql.query_one(&over, &[]).await.unwrap().get::<_, bool>(0)
    })
    .await;
    // A removed row takes its lease along, before the release is sent.
    eventually(SOON, "the lease to be released", || async {
        logged.counts(from, logged.end()).contains_key("release")
    })
    .await;
    let mut counts = logged.counts(from, logged.end());
    let passes = counts.remove("due").unwrap_or_default();
    counts.retain(|name, _| OF_WORK.contains(&&**name) || name.starts_with("write"));
    (passes == 0).then_some(counts)
}

/// What it costs to make a cluster, and to remove it. A daemon makes passes at its
/// start and once it listens, and then none for an hour.
async fn life(logged: &Logged, sql: &Client, insert: &str) -> [BTreeMap<String, usize>; 2] {
    let delete = "UPDATE clusters SET desired_state = 'absent'";
    for _ in 0..5 {
        let made = cost_without_pass(logged, sql, insert, RUNNING).await;
        let gone = cost_without_pass(logged, sql, delete, GONE).await;
        if let (Some(made), Some(gone)) = (made, gone) {
            return [made, gone];
        }
    }
    panic!("a full pass ran in each of five lives");
}

fn expected(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    let owned = |(name, count): &(&str, usize)| ((*name).to_owned(), *count);
    counts.iter().map(owned).collect()
}

const RUNNING: &str = "EXISTS (SELECT FROM clusters WHERE actual_state = 'running' AND observed_generation = generation)";
const GONE: &str = "NOT EXISTS (SELECT FROM clusters)";

#[tokio::test]
async fn a_driver_with_one_step_pays_no_statement_for_it() {
    let logged = Logged::new(&Cluster::TABLE).await;
    let (host, sql) = (Host::new(), logged.database.connect().await);
    let daemon = quiet(&logged, &host).spawn();
    daemon.ready().await;
    let insert = "INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d')";
    let [made, gone] = life(&logged, &sql, insert).await;
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
    cost_without_pass(&logged, &sql, insert, RUNNING).await;
    let record = "SELECT string_agg(driver || ' ' || name || ' ' || state || ' ' || position || '/' || total, ',') FROM cluster_steps";
    let record: String = sql.query_one(record, &[]).await.unwrap().get(0);
    assert_eq!(record, "script create_env.sh done 1/1");
    let events = "SELECT count(*) FROM cluster_events WHERE kind = 'step'";
    let events: i64 = sql.query_one(events, &[]).await.unwrap().get(0);
    assert_eq!(events, 0, "its end is the cluster's own event");
}

#[tokio::test]
async fn each_further_step_costs_one_statement() {
    let logged = Logged::new(&Cluster::TABLE).await;
    let (host, sql) = (Host::new(), logged.database.connect().await);
    let daemon = quiet(&logged, &host)
        .set("KINDLER_DRIVER", "sandbox")
        .spawn();
    daemon.ready().await;
    let port = claim_port();
    let insert = format!(
        "INSERT INTO clusters (name, provider, http_port) VALUES ('dev', 'k3d', {})",
        port.number
    );
    let [made, gone] = life(&logged, &sql, &insert).await;
    // Four steps act: folder, port, process, about; readiness is only seen.
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
