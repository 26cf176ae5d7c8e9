//! An administrator changes the type of columns while the daemon runs: its sessions have
//! prepared statements that return the old type.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{converged, report, rounds};
use crate::kit::{Daemon, Host, Sql, TIMEOUT, eventually, migrated};

/// Changes of columns that the daemon reads or writes, in every table of its work. Each
/// round makes them longer.
const CHANGES: [&str; 6] = [
    "ALTER TABLE clusters ALTER COLUMN reconcile_error TYPE varchar(4000)",
    "ALTER TABLE clusters ALTER COLUMN status_message TYPE varchar(4000)",
    "ALTER TABLE cluster_leases ALTER COLUMN owner TYPE varchar(400)",
    "ALTER TABLE cluster_events ALTER COLUMN message TYPE varchar(4000)",
    "ALTER TABLE cluster_steps ALTER COLUMN message TYPE varchar(4000)",
    "ALTER TABLE kindler_replicas ALTER COLUMN notice TYPE varchar(4000)",
];

/// What the page and programs read; each was read before, so its statements are prepared.
const READ: [&str; 5] = [
    "/api/clusters",
    "/api/clusters/first",
    "/api/clusters/first/events",
    "/api/events",
    "/api/status",
];

async fn read_all(daemon: &Daemon) {
    for path in READ {
        let (status, body) = daemon.get(path).await.expect("an answer");
        assert_eq!(status, 200, "{path}: {body}");
    }
}

/// The time from the commit of a new cluster until it runs.
async fn runs_after(sql: &Client, name: &str) -> Duration {
    let declared = Instant::now();
    sql.declare(name).await;
    sql.wait_state(name, "present running").await;
    declared.elapsed()
}

#[tokio::test]
async fn a_changed_column_type_costs_no_work_and_no_answer() {
    let (database, host) = (migrated().await, Host::new());
    // Nothing hides a lost wake-up, and no backoff ends early.
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .set("KINDLER_HEALTH_INTERVAL", "1h")
        .set("KINDLER_BACKOFF_INITIAL", "1h")
        .set("KINDLER_BACKOFF_MAX", "1h")
        .start()
        .await;
    let sql = database.connect().await;
    sql.declare("first").await;
    sql.wait_state("first", "present running").await;
    daemon.wait_metric("kindler_listen_connected", 1.0).await;
    let pid = daemon.pid();
    let mut slowest = Duration::ZERO;
    let changes = (0..rounds(1, 10)).flat_map(|round| {
        let longer = |change: &&str| change.replace("00)", &format!("{round:02})"));
        CHANGES.iter().map(longer).collect::<Vec<_>>()
    });
    let mut count = 0;
    for (n, change) in changes.enumerate() {
        count += 1;
        // On several sessions of each pool.
        for _ in 0..2 {
            read_all(&daemon).await;
        }
        sql.declare_many(&format!("warm-{n}-"), 4).await;
        let settled = "SELECT count(*) FROM clusters WHERE actual_state <> 'running'";
        sql.wait_number(settled, 0).await;
        sql.run(&change).await;
        slowest = slowest.max(runs_after(&sql, &format!("after-{n}")).await);
        for _ in 0..2 {
            read_all(&daemon).await;
        }
    }
    sql.desire("first", "absent").await;
    eventually(TIMEOUT, "the deletion", || async {
        sql.state("first").await == "gone"
    })
    .await;
    assert_eq!(daemon.pid(), pid);
    let log = daemon.log();
    assert!(!log.contains("cached plan"), "{log}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    converged(&sql, &host).await;
    report(
        "column types are changed",
        &format!("{count} changes, slowest create {slowest:.3?}"),
    );
}
