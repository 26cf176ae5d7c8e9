//! A replica whose clock is an hour off takes nothing from anybody too early:
//! who owns what is judged by the database's clock alone.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use super::{converged, migrated, number, quick, run};
use crate::kit::{Daemon, Host, eventually};

const SOON: Duration = Duration::from_secs(20);

/// The library that shifts the clock of a process (Debian's package faketime).
fn shifter() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut found = found.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    found
        .find(|path| path.exists())
        .expect("libfaketime is not installed: run `sh deploy/setup.sh test`")
}

/// A daemon whose calendar is off by `shift`, as in `+1h`; its monotonic clock
/// is not, as on a host whose calendar is wrong.
fn off_by(shift: &str, database_url: &str, host: &Host) -> Daemon {
    quick(database_url, host)
        .set("LD_PRELOAD", shifter())
        .set("FAKETIME", shift)
        .set("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .set("KINDLER_LOG_FORMAT", "json")
        .spawn()
}

/// By how much the calendar of a daemon is off, in seconds, as its log tells.
fn calendar_off(daemon: &Daemon) -> i64 {
    let log = daemon.log();
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let told: jiff::Timestamp = first["timestamp"].as_str().unwrap().parse().unwrap();
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap();
    told.as_second() - now.as_second()
}

async fn nothing_is_taken_early_by_one_that_is_off_by(shift: &str, seconds: i64) {
    let (database, host) = (migrated().await, Host::new());
    host.control("create", "sleep 600");
    let sql = database.connect().await;
    let owner = quick(&database.url(), &host).spawn();
    owner.ready().await;
    run(&sql, "INSERT INTO clusters (name, provider) SELECT 'c' || n, 'kind' FROM generate_series(1, 3) n").await;
    eventually(SOON, "the commands", || async {
        host.live_commands().len() == 3
    })
    .await;
    let terms = "SELECT sum(term)::bigint FROM cluster_leases";
    let before = number(&sql, terms).await;

    let other = off_by(shift, &database.url(), &host);
    other.ready().await;
    let off = calendar_off(&other);
    assert!(
        (off - seconds).abs() < 120,
        "its calendar is off by {off} s"
    );
    // Renewed beyond three lives of a lease, it is still the owner's.
    eventually(SOON, "three leases to pass", || async {
        let renewed =
            "SELECT count(*) FROM cluster_leases WHERE renewed_at > acquired_at + interval '6 s'";
        number(&sql, renewed).await == 3
    })
    .await;
    assert_eq!(number(&sql, terms).await, before);
    assert_eq!(
        host.journal()
            .iter()
            .filter(|entry| entry.what == "start")
            .count(),
        3
    );

    // And what it should take over it takes over in time.
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
async fn a_replica_that_is_an_hour_ahead_takes_nothing_early() {
    nothing_is_taken_early_by_one_that_is_off_by("+1h", 3600).await;
}

#[tokio::test]
async fn a_replica_that_is_an_hour_behind_takes_nothing_early() {
    nothing_is_taken_early_by_one_that_is_off_by("-1h", -3600).await;
}
