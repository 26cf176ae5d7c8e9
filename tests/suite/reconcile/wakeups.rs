//! A commit starts the work at once (event-driven), and a full pass finds changes
//! without a notification (level-triggered).

use std::time::{Duration, Instant};

use super::{rig, rig_on};
use crate::faults::{report, rounds};
use crate::kit::{Daemon, Host, Sql, TIMEOUT, eventually, migrated};

#[tokio::test]
async fn a_commit_starts_the_work_before_the_next_pass() {
    let database = migrated().await;
    let host = Host::new();
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .start()
        .await;
    let sql = database.connect().await;
    let counted = async |name: &str| {
        let sample = format!("kindler_{name}_total{{controller=\"cluster\"}}");
        daemon.metric(&sample).await.unwrap()
    };
    // The passes of the start may find a row before its notification is read.
    sql.declare("first").await;
    sql.wait_state("first", "present running").await;
    let before = counted("notifications").await;
    // Insert, spec and desired state: each starts work by its notification alone.
    for (change, end) in [
        (
            "INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d')",
            "present running",
        ),
        (
            "UPDATE clusters SET desired_state = 'stopped' WHERE name = 'dev'",
            "stopped stopped",
        ),
        (
            "UPDATE clusters SET desired_state = 'present' WHERE name = 'dev'",
            "present running",
        ),
        (
            "UPDATE clusters SET desired_state = 'absent' WHERE name = 'dev'",
            "gone",
        ),
    ] {
        sql.run(change).await;
        sql.wait_state("dev", end).await;
    }
    assert!(counted("notifications").await >= before + 4.0);
    // One pass at start, and one after LISTEN took effect.
    assert!(counted("resync").await <= 2.0);
}

/// Every place for creates is taken, and more creates wait.
#[tokio::test]
async fn slow_creates_delay_no_deletion_stop_or_check() {
    let (database, host) = (migrated().await, Host::new());
    let _daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_CONCURRENCY", "2")
        .start()
        .await;
    let sql = database.connect().await;
    for name in ["leaves", "stops", "stays"] {
        sql.declare(name).await;
        sql.wait_state(name, "present running").await;
    }
    host.control("create", "sleep 600");
    sql.declare_many("slow", 6).await;
    let creating = "SELECT count(*)::text FROM clusters WHERE actual_state = 'creating'";
    sql.wait_text(creating, "2").await;
    let began = Instant::now();
    sql.desire("leaves", "absent").await;
    sql.wait_state("leaves", "gone").await;
    sql.desire("stops", "stopped").await;
    sql.wait_state("stops", "stopped stopped").await;
    // A waiting create is withdrawn.
    sql.run(
        "UPDATE clusters SET desired_state = 'absent' WHERE actual_state = 'unknown' AND name = (
            SELECT max(name) FROM clusters WHERE actual_state = 'unknown')",
    )
    .await;
    sql.wait_text("SELECT count(*)::text FROM clusters", "7")
        .await;
    sql.run("UPDATE clusters SET last_reconciled_at = NULL WHERE name = 'stays'")
        .await;
    let checked =
        "SELECT (last_reconciled_at IS NOT NULL)::text FROM clusters WHERE name = 'stays'";
    sql.wait_text(checked, "true").await;
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(sql.text(creating).await, "2");
    // The places become free again.
    host.release("create");
    sql.run("UPDATE clusters SET desired_state = 'absent' WHERE actual_state = 'creating'")
        .await;
    let running =
        "SELECT count(*)::text FROM clusters WHERE actual_state = 'running' AND name LIKE 'slow%'";
    sql.wait_text(running, "3").await;
}

#[tokio::test]
async fn changes_without_a_notification_converge() {
    let rig = rig().await;
    rig.sql
        .run("ALTER TABLE clusters DISABLE TRIGGER USER")
        .await;
    let silent = "INSERT INTO clusters (name, provider, pf_port, http_port, https_port)
        VALUES ('silent', 'k3d', 19000, 18080, 18443)";
    rig.sql.run(silent).await;
    rig.sql.wait_state("silent", "present running").await;
    rig.sql.run("UPDATE clusters SET http_port = 18777").await;
    rig.host.wait_started("silent", &["create", "create"]).await;
    rig.sql
        .run("ALTER TABLE clusters ENABLE TRIGGER USER")
        .await;
    rig.daemon.stop().await;
    rig.sql.declare("down").await;
    rig.sql.desire("silent", "absent").await;
    assert_eq!(rig.sql.state("down").await, "present unknown");
    let _daemon = Daemon::start(&rig.database, &rig.host).await;
    rig.sql.wait_state("down", "present running").await;
    rig.sql.wait_state("silent", "gone").await;
}

#[tokio::test]
async fn malformed_notifications_are_harmless() {
    let rig = rig().await;
    rig.sql.declare("dev").await;
    rig.sql.wait_state("dev", "present running").await;
    let before = rig
        .sql
        .text("SELECT count(*)::text FROM cluster_events")
        .await;
    let names = [
        "",
        "unknown",
        "'; DROP TABLE clusters; --",
        "../../etc/passwd",
        "DEV",
        "dev",
    ];
    for name in names {
        rig.sql
            .execute("SELECT pg_notify(kindler_channel('wake'), $1)", &[&name])
            .await
            .unwrap();
    }
    let long = "x".repeat(7999);
    rig.sql
        .execute("SELECT pg_notify(kindler_channel('wake'), $1)", &[&long])
        .await
        .unwrap();
    rig.sql.declare("after").await;
    rig.sql.wait_state("after", "present running").await;
    assert_eq!(rig.host.started("dev"), ["create"]);
    let events =
        "SELECT count(*)::text FROM cluster_events WHERE cluster_name = 'dev' AND kind <> 'health'";
    assert!(rig.sql.text(events).await <= before);
}

#[tokio::test]
async fn a_bulk_change_does_not_delay_others_or_use_much_memory() {
    let host = Host::new();
    host.script("create", "exit 0");
    host.script("probe", "exit 0");
    let rig = rig_on(host).await;
    rig.sql.declare_many("bulk-", 10000).await;
    // One cluster is declared while ten thousand wait.
    rig.sql.declare("single").await;
    let began = Instant::now();
    rig.sql.wait_state("single", "present running").await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "delayed for {:?}",
        began.elapsed()
    );
    let done = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    let some = rig.sql.text(done).await.parse::<u32>().unwrap();
    assert!(some < 9000, "all the other clusters were finished first");
    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.daemon.pid())).unwrap();
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kilobytes: u64 = rss.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(
        kilobytes < 100_000,
        "{kilobytes} kB for ten thousand waiting rows"
    );
}

#[tokio::test]
async fn an_idle_system_writes_nothing() {
    let database = migrated().await;
    let host = Host::new();
    // The journal does not contain probes.
    host.control("probe", r#"echo >> "$here/probes""#);
    let probes = || std::fs::metadata(host.path().join("probes")).map_or(0, |probes| probes.len());
    let daemon = Daemon::builder(&database.url(), &host)
        // Longer than the long form: no check is due.
        .set("KINDLER_HEALTH_INTERVAL", "24h")
        .set("KINDLER_RESYNC_INTERVAL", "1s")
        .start()
        .await;
    let sql = database.connect().await;
    for name in ["a", "b", "c"] {
        sql.declare(name).await;
    }
    for name in ["a", "b", "c"] {
        sql.wait_state(name, "present running").await;
    }
    let passes = async || {
        let sample = "kindler_resync_total{controller=\"cluster\"}";
        daemon.metric(sample).await.unwrap()
    };
    let journal = host.journal().len();
    // The terms count all claims, also those without work.
    let rows = "SELECT concat_ws(' ', string_agg(xmin::text, ' ' ORDER BY name), (SELECT count(*) FROM cluster_events),
        (SELECT count(*) FROM cluster_leases), (SELECT count(*) FROM cluster_revisions),
        (SELECT count(*) FROM cluster_deletions), (SELECT last_value FROM cluster_lease_terms)) FROM clusters";
    // A worker releases its lease after its last write.
    sql.wait_text("SELECT count(*)::text FROM cluster_leases", "0")
        .await;
    let (before, since) = (sql.text(rows).await, passes().await);
    let probed = probes();
    assert!(probed > 0);
    // As many passes as the defaults run in five minutes; the long form: in an hour.
    let more = rounds(10, 3600);
    let long = TIMEOUT + Duration::from_secs(2 * more as u64);
    eventually(long, "more passes", || async {
        passes().await >= since + more as f64
    })
    .await;
    assert_eq!(sql.text(rows).await, before);
    assert_eq!((host.journal().len(), probes()), (journal, probed));
    report(
        "idle",
        &format!("{more} full passes, 0 commands, 0 rows written"),
    );
}
