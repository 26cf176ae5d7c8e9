//! Faults are injected from outside, one by one. After each: never two commands for one
//! cluster, no outdated fence, every row converges, nothing is left over. The tests
//! check the journal, the rows, and the process table.
//!
//! Each test has a short form for `make test`; `KINDLER_CHAOS=long` runs the long form
//! (`make chaos`).

mod altered_tables;
mod changing_rows;
mod clock;
mod database;
mod deleted_rows;
mod disk;
mod earlier_releases;
mod every_effect;
mod every_statement;
mod failed_observations;
mod forgotten_commits;
mod full_queue;
mod ground;
mod history;
mod idle_sessions;
mod load;
mod long_lease;
mod migration_locks;
mod outages;
mod power_loss;
pub(crate) mod processes;
mod refused_writes;
mod sessions;
mod shared_sessions;
mod stalled_standby;
mod step_statements;
mod stopped_guards;
mod suspended_listener;
mod unwritten_results;

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::kit::{Daemon, Host, Sql, eventually};

/// The number of repetitions of a fault in the short and the long form.
pub(crate) fn rounds(short: usize, long: usize) -> usize {
    match std::env::var("KINDLER_CHAOS").as_deref() {
        Ok("long") => long,
        _ => short,
    }
}

/// Prints the figures of a test for docs/MEASUREMENTS.md, and appends them to the file
/// that `KINDLER_CHAOS_REPORT` names, because a long run is read after its end.
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

/// The time within which everything must converge after the last fault.
const CONVERGED_BY: Duration = Duration::from_secs(60);

/// Rows whose desired and recorded states differ.
const UNSETTLED: &str = "SELECT count(*) FROM clusters WHERE NOT (
    desired_state = 'present' AND actual_state = 'running' AND observed_generation = generation
        AND observed_spec_hash = spec_hash
    OR desired_state = 'stopped' AND actual_state = 'stopped')";

/// Waits until every row is settled, then checks the invariants.
async fn converged(sql: &Client, host: &Host) {
    eventually(CONVERGED_BY, "every row settled", || async {
        sql.number(UNSETTLED).await == 0
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
    assert!(alive.is_empty(), "leftover processes: {alive:#?}");
    assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new());
    eventually(CONVERGED_BY, "no expired lease left", || async {
        let over = "SELECT count(*) FROM cluster_leases WHERE expires_at < clock_timestamp()";
        sql.number(over).await == 0
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
        let cluster = host.cluster(&name);
        let right = match desired.as_str() {
            "present" => cluster.as_deref() == Some("healthy"),
            "stopped" => cluster.as_deref() != Some("healthy"),
            other => panic!("{name} is still declared {other}"),
        };
        assert!(
            right,
            "{name} is declared {desired}, but is {cluster:?} on the host"
        );
    }
    let undeclared: Vec<String> = std::fs::read_dir(host.path().join("clusters"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in undeclared {
        let declared = format!("SELECT count(*) FROM clusters WHERE name = '{name}'");
        assert_eq!(
            sql.number(&declared).await,
            1,
            "{name} has no row: it is orphaned"
        );
    }
}

/// The generations of clusters that were ever declared absent.
async fn declared_absent(sql: &Client) -> HashSet<(String, i64)> {
    let query =
        "SELECT cluster_name, generation FROM cluster_revisions WHERE desired_state = 'absent'";
    let rows = sql.query(query, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Runs a lifecycle with a fault at many of the points 1 to `last`, four at a time (in the
/// long form at all points). Returns how many faults occurred, and how many lifecycles ran.
async fn at_many_points<L>(
    last: usize,
    short: usize,
    lifecycle: impl Fn(usize) -> L,
) -> (usize, usize)
where
    L: Future<Output = bool> + Send + 'static,
{
    let step = last.div_ceil(rounds(short, last));
    let points: Vec<usize> = (1..=last).step_by(step).collect();
    let mut occurred = 0;
    for few in points.chunks(4) {
        let lifecycles: Vec<_> = few.iter().map(|at| tokio::spawn(lifecycle(*at))).collect();
        for lifecycle in lifecycles {
            occurred += usize::from(lifecycle.await.expect("it converges"));
        }
    }
    (occurred, points.len())
}

/// A daemon with the shortest lease allowed, so that takeovers are quick.
fn quick(database_url: &str, host: &Host) -> crate::kit::DaemonBuilder {
    Daemon::builder(database_url, host)
        .set("KINDLER_LEASE_TTL", "2s")
        .set("KINDLER_RESYNC_INTERVAL", "1s")
        .set("KINDLER_HEALTH_INTERVAL", "1h")
}
