//! A replica whose clock is off by an hour claims nothing too early: only the
//! database's clock decides about leases.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use super::{converged, quick};
use crate::kit::{Daemon, Host, Sql, TIMEOUT, eventually, migrated};

/// The library that shifts the clock of a process (Debian's package faketime).
fn faketime_library() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut found = found.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    found
        .find(|path| path.exists())
        .expect("libfaketime is not installed: run `sh deploy/setup.sh test`")
}

/// A daemon whose wall clock is off by `shift`, such as `+1h`; its monotonic clock is
/// right, as on a host with a wrong date.
fn daemon_with_clock(shift: &str, database_url: &str, host: &Host) -> Daemon {
    quick(database_url, host)
        .set("LD_PRELOAD", faketime_library())
        .set("FAKETIME", shift)
        .set("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .set("KINDLER_LOG_FORMAT", "json")
        .spawn()
}

/// By how many seconds the wall clock of a daemon is off, according to its log.
fn clock_offset(daemon: &Daemon) -> i64 {
    let log = daemon.log();
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let logged: jiff::Timestamp = first["timestamp"].as_str().unwrap().parse().unwrap();
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap();
    logged.as_second() - now.as_second()
}

async fn claims_nothing_early(shift: &str, seconds: i64) {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 600");
    let sql = database.connect().await;
    let owner = quick(&database.url(), &host).start().await;
    sql.declare_many("c", 3).await;
    host.wait_commands(3).await;
    let terms = "SELECT sum(term)::bigint FROM cluster_leases";
    let before = sql.number(terms).await;

    let other = daemon_with_clock(shift, &database.url(), &host);
    other.ready().await;
    let off = clock_offset(&other);
    assert!((off - seconds).abs() < 120, "its clock is off by {off} s");
    // Renewed for longer than three lease times, the leases still have the same owner.
    eventually(TIMEOUT, "three lease times", || async {
        let renewed =
            "SELECT count(*) FROM cluster_leases WHERE renewed_at > acquired_at + interval '6 s'";
        sql.number(renewed).await == 3
    })
    .await;
    assert_eq!(sql.number(terms).await, before);
    assert_eq!(
        host.journal()
            .iter()
            .filter(|entry| entry.what == "start")
            .count(),
        3
    );

    // It says that the clocks are apart, and by how much.
    let apart = r#"kindler_finding{code="ClockApart",severity="warning"}"#;
    eventually(TIMEOUT, "the difference of the clocks", || async {
        let (_, body) = other.get("/readyz").await?;
        let measured = other.metric("kindler_clock_offset_seconds").await?;
        let right = (measured + seconds as f64).abs() < 120.0;
        let shown = body.contains("ClockApart") && body.contains("timedatectl");
        (right && shown && other.metric(apart).await == Some(1.0)).then_some(())
    })
    .await;

    // What it may take over, it takes over in time.
    host.release("create");
    owner.kill();
    let killed = Instant::now();
    converged(&sql, &host).await;
    assert!(
        killed.elapsed() < Duration::from_secs(7),
        "{:?}",
        killed.elapsed()
    );
}

#[tokio::test]
async fn a_replica_an_hour_ahead_claims_nothing_early() {
    claims_nothing_early("+1h", 3600).await;
}

#[tokio::test]
async fn a_replica_an_hour_behind_claims_nothing_early() {
    claims_nothing_early("-1h", -3600).await;
}
