//! Idle wake-up: from before the COMMIT of an INSERT is sent until the
//! reconciler's first line, that is, until the daemon holds the claim; against
//! a bare listener that makes one claiming UPDATE.
//!
//! Both sides are processes of their own on databases of their own, on one
//! server that waits for the disk. Both say the same thing at the same place:
//! the time of the system's clock right after the answer to the claim arrived,
//! its commit included (the daemon in its debug line `claimed`, the bare
//! listener on its standard output). The lease row's own time would be from
//! within the claiming statement and leave out its commit. Rounds alternate,
//! and each begins when both sides have been at rest for a moment.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::bare::{self, Listener, micros};
use crate::kit::{Daemon, Database, Host, PrivateServer};
use crate::report::{Target, figure, percentile};
use crate::scene::{answer, migrated, until};

/// Rounds that count.
const ROUNDS: usize = 300;
/// Rounds before them: connections open, plans are cached.
const WARM_UP: usize = 30;
/// At rest before each commit.
const REST: Duration = Duration::from_millis(30);

/// Measures both, and shows the ratio of the medians.
pub async fn measure(server: &PrivateServer) {
    let (ours, bare) = (migrated(server).await, server.database().await);
    let host = Host::new();
    answer(&host, &["create", "probe"], true);
    let daemon = Daemon::with_defaults(&ours.url(), &host)
        .set("KINDLER_CREATE_COMMAND", host.command("create"))
        .set("KINDLER_PROBE_COMMAND", host.command("probe"))
        .set("KINDLER_LOG", "info,kindler::core::resource=debug")
        .set("KINDLER_LOG_FORMAT", "json")
        .spawn();
    daemon.ready().await;
    bare.execute(bare::SCHEMA).await;
    let mut listener = Listener::start(&bare.url());

    let (sent, mut theirs) = rounds(&ours, &bare, &mut listener).await;
    let claimed = claims(&daemon.log());
    let mut mine: Vec<f64> = sent
        .iter()
        .map(|(name, sent)| (claimed[name] - sent) as f64 / 1e3)
        .collect();
    let ratio = |share: f64, mine: &mut [f64], theirs: &mut [f64]| {
        percentile(mine, share) / percentile(theirs, share)
    };
    for (who, times) in [("bare listener", &mut theirs), ("Kindler", &mut mine)] {
        for (name, share) in [("p10", 0.1), ("p50", 0.5), ("p95", 0.95)] {
            let time = percentile(times, share);
            figure(&format!("wake-up, {who}, {name}"), time, "ms", Target::None);
        }
    }
    // Other work on the machine stretches both sides; it hardly touches the fastest tenth.
    let quiet = ratio(0.1, &mut mine, &mut theirs);
    figure("wake-up, ratio at p10", quiet, "", Target::None);
    let typical = ratio(0.5, &mut mine, &mut theirs);
    figure("wake-up, ratio at p50", typical, "", Target::AtMost(1.5));
}

/// When each row's COMMIT was sent to the daemon, and the bare listener's
/// times in milliseconds.
async fn rounds(
    ours: &Database,
    bare: &Database,
    listener: &mut Listener,
) -> (Vec<(String, i64)>, Vec<f64>) {
    let (sql, bare_sql) = (ours.connect().await, bare.connect().await);
    let (mut sent, mut theirs) = (Vec::new(), Vec::new());
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
            theirs.push((bare_claimed_at - bare_at) as f64 / 1e3);
        }
    }
    (sent, theirs)
}

/// Inserts after a rest; the time before COMMIT was sent.
async fn commit(sql: &Client, insert: &str) -> i64 {
    sql.batch_execute(&format!("BEGIN; {insert}"))
        .await
        .expect("insert");
    sleep(REST).await;
    let at = micros(SystemTime::now());
    sql.batch_execute("COMMIT").await.expect("commit");
    at
}

/// When the daemon held which claim first, from its log.
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
