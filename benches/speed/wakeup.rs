//! Idle wake-up: from before the COMMIT of an INSERT is sent until the daemon has the
//! claim; compared with a bare listener that claims with one UPDATE.
//!
//! Both are processes with their own databases, on one durable server. Both report the
//! same point: the system time right after the answer to the claim arrived, its commit
//! included (the daemon in its debug line `claimed`, the bare listener on its standard
//! output). The time in the lease row would be from within the claiming statement,
//! without its commit. Rounds alternate, and each begins after a pause of both.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::bare::{self, BareListener, micros};
use crate::kit::{Daemon, Database, Host, PrivateServer, Sql};
use crate::report::{Target, figure, percentile};
use crate::rig::{answer, migrated, until};

/// Rounds that are measured.
const ROUNDS: usize = 300;
/// Rounds before them, in which connections are opened and plans cached.
const WARM_UP: usize = 30;
/// The pause before each commit.
const REST: Duration = Duration::from_millis(30);

/// Measures both, and shows the ratio of the medians.
pub async fn measure(server: &PrivateServer) {
    let (kindler, bare) = (migrated(server).await, server.database().await);
    let host = Host::new();
    answer(&host, &["create", "probe"], true);
    // A row is observed before its first action.
    answer(&host, &["exists"], false);
    let daemon = Daemon::with_defaults(&kindler.url(), &host)
        .set("KINDLER_CREATE_COMMAND", host.command("create"))
        .set("KINDLER_PROBE_COMMAND", host.command("probe"))
        .set("KINDLER_EXISTS_COMMAND", host.command("exists"))
        .set("KINDLER_LOG", "info,kindler::core::resource=debug")
        .set("KINDLER_LOG_FORMAT", "json")
        .start()
        .await;
    bare.run(bare::SCHEMA).await;
    let mut listener = BareListener::start(&bare.url());

    let (sent, mut bare_times) = rounds(&kindler, &bare, &mut listener).await;
    let claimed = claims(&daemon.log());
    let mut kindler_times: Vec<f64> = sent
        .iter()
        .map(|(name, sent)| (claimed[name] - sent) as f64 / 1e3)
        .collect();
    let ratio = |share: f64, kindler_times: &mut [f64], bare_times: &mut [f64]| {
        percentile(kindler_times, share) / percentile(bare_times, share)
    };
    for (kind, times) in [
        ("bare listener", &mut bare_times),
        ("Kindler", &mut kindler_times),
    ] {
        for (name, share) in [("p10", 0.1), ("p50", 0.5), ("p95", 0.95)] {
            let time = percentile(times, share);
            figure(
                &format!("wake-up, {kind}, {name}"),
                time,
                "ms",
                Target::None,
            );
        }
    }
    // Other work on the machine slows both down; it hardly affects the fastest tenth.
    let quiet = ratio(0.1, &mut kindler_times, &mut bare_times);
    figure("wake-up, ratio at p10", quiet, "", Target::None);
    let typical = ratio(0.5, &mut kindler_times, &mut bare_times);
    figure("wake-up, ratio at p50", typical, "", Target::AtMost(1.5));
}

/// The times when each row's COMMIT was sent to the daemon, and the bare listener's
/// times in milliseconds.
async fn rounds(
    kindler: &Database,
    bare: &Database,
    listener: &mut BareListener,
) -> (Vec<(String, i64)>, Vec<f64>) {
    let (sql, bare_sql) = (kindler.connect().await, bare.connect().await);
    let (mut sent, mut bare_times) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let name = format!("wake-{round}");
        let insert = format!("INSERT INTO clusters (name, provider) VALUES ('{name}', 'k3d')");
        let at = commit(&sql, &insert).await;
        until(
            &sql,
            "SELECT actual_state = 'running' AND NOT EXISTS (SELECT FROM cluster_leases)
             FROM clusters WHERE name = $1",
            &[&name],
        )
        .await;
        let bare_at = commit(&bare_sql, &format!("INSERT INTO bare VALUES ('{name}')")).await;
        let bare_claimed_at = listener.claimed_at();
        if round >= WARM_UP {
            sent.push((name, at));
            bare_times.push((bare_claimed_at - bare_at) as f64 / 1e3);
        }
    }
    (sent, bare_times)
}

/// Inserts after a pause; returns the time before COMMIT was sent.
async fn commit(sql: &Client, insert: &str) -> i64 {
    sql.batch_execute(&format!("BEGIN; {insert}"))
        .await
        .expect("insert");
    sleep(REST).await;
    let at = micros(SystemTime::now());
    sql.batch_execute("COMMIT").await.expect("commit");
    at
}

/// The time of the daemon's first claim of each cluster, from its log.
fn claims(log: &str) -> HashMap<String, i64> {
    let mut claims = HashMap::new();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    for line in lines.filter(|line: &Value| line["message"] == "claimed") {
        let name = line["spans"][0]["cluster"].as_str();
        let at: jiff::Timestamp = line["timestamp"]
            .as_str()
            .and_then(|at| at.parse().ok())
            .expect("a time");
        claims
            .entry(name.expect("a name").to_owned())
            .or_insert(at.as_microsecond());
    }
    claims
}
