//! Faults from outside, one by one, and what must hold after each: never two
//! commands for one cluster, no outdated fence, everything converges, nothing
//! is left behind. The oracle is the journal, the rows, and the process table.
//!
//! Each test has a short form for `make test`; `KINDLER_CHAOS=long` runs the
//! long one (`make chaos`).

mod books;
mod clock;
mod database;
mod disk;
mod every_effect;
mod every_statement;
mod ignorance;
mod load;
mod outages;
mod processes;
mod sessions;
mod standstill;
mod step_statements;
mod wishes;

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::kit::{Daemon, Host, eventually, migrated};

/// How often a fault is repeated: short and long form.
pub(crate) fn rounds(short: usize, long: usize) -> usize {
    match std::env::var("KINDLER_CHAOS").as_deref() {
        Ok("long") => long,
        _ => short,
    }
}

/// Tells what a test saw, for docs/MEASUREMENTS.md; also into the file that
/// `KINDLER_CHAOS_REPORT` names, because a long run is read when it is over.
pub(crate) fn report(fault: &str, figures: &str) {
    let line = format!("chaos: {fault}: {figures}\n");
    print!("{line}");
    if let Some(path) = std::env::var_os("KINDLER_CHAOS_REPORT") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// The median, the 99th percentile and the longest of some durations.
pub(crate) fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    format!(
        "p50 {:.3} s, p99 {:.3} s, longest {:.3} s of {}",
        at(50).as_secs_f64(),
        at(99).as_secs_f64(),
        at(100).as_secs_f64(),
        times.len()
    )
}

/// By when everything must have converged after the last fault.
const CONVERGED_BY: Duration = Duration::from_secs(60);

async fn run(sql: &Client, statement: &str) {
    if let Err(error) = sql.batch_execute(statement).await {
        panic!("{error:?} in: {statement}");
    }
}

async fn number(sql: &Client, query: &str) -> i64 {
    sql.query_one(query, &[])
        .await
        .unwrap_or_else(|error| panic!("{error:?} in {query}"))
        .get(0)
}

/// Rows in which desire and record differ.
const UNSETTLED: &str = "SELECT count(*) FROM clusters WHERE NOT (
    desired_state = 'present' AND actual_state = 'running' AND observed_generation = generation
        AND observed_spec_hash = spec_hash
    OR desired_state = 'stopped' AND actual_state = 'stopped')";

/// Waits until every row is as wanted, then checks what must always hold.
async fn converged(sql: &Client, host: &Host) {
    eventually(CONVERGED_BY, "every row to be as wanted", || async {
        number(sql, UNSETTLED).await == 0
    })
    .await;
    let mut alive = Vec::new();
    let gone_by = Instant::now() + CONVERGED_BY;
    while Instant::now() < gone_by {
        alive = host.live_processes();
        if alive.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(alive.is_empty(), "these were left: {alive:#?}");
    assert_eq!(host.left_behind(), Vec::<std::path::PathBuf>::new());
    eventually(CONVERGED_BY, "no lease to be left", || async {
        let over = "SELECT count(*) FROM cluster_leases WHERE expires_at < clock_timestamp()";
        number(sql, over).await == 0
    })
    .await;
    host.assert_one_at_a_time();
    host.assert_deleted_as_declared(&declared_absent(sql).await);
    for row in sql
        .query("SELECT name, desired_state FROM clusters", &[])
        .await
        .unwrap()
    {
        let (name, desired): (String, String) = (row.get(0), row.get(1));
        let world = host.world(&name);
        let right = match desired.as_str() {
            "present" => world.as_deref() == Some("healthy"),
            "stopped" => world.as_deref() != Some("healthy"),
            other => panic!("{name} is still declared {other}"),
        };
        assert!(
            right,
            "{name} is declared {desired}, but is {world:?} on the host"
        );
    }
    let undeclared: Vec<String> = std::fs::read_dir(host.path().join("world"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in undeclared {
        let declared = format!("SELECT count(*) FROM clusters WHERE name = '{name}'");
        assert_eq!(
            number(sql, &declared).await,
            1,
            "{name} has no row: it is orphaned"
        );
    }
}

/// Which generations of which clusters were ever declared absent.
async fn declared_absent(sql: &Client) -> HashSet<(String, i64)> {
    let query =
        "SELECT cluster_name, generation FROM cluster_revisions WHERE desired_state = 'absent'";
    let rows = sql.query(query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// A daemon with the shortest lease there is, so that takeovers are quick.
fn quick(database_url: &str, host: &Host) -> crate::kit::DaemonBuilder {
    Daemon::builder(database_url, host)
        .set("KINDLER_LEASE_TTL", "2s")
        .set("KINDLER_RESYNC_INTERVAL", "1s")
        .set("KINDLER_HEALTH_INTERVAL", "1h")
}
