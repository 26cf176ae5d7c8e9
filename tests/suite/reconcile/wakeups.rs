//! Event-driven and level-triggered: a commit starts the work at once, and
//! what nobody rang for is found too.

use std::time::{Duration, Instant};

use super::{SOON, insert, migrated, run, scene, scene_on, state, until};
use crate::faults::{report, rounds};
use crate::kit::{Daemon, Host, eventually};

#[tokio::test]
async fn a_commit_starts_the_work_long_before_the_next_pass() {
    let database = migrated().await;
    let host = Host::new();
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .spawn();
    daemon.ready().await;
    let sql = database.connect().await;
    // Insert, spec, desire: from anyone, each by its ring alone.
    for (change, end) in [
        (insert("dev"), "present running"),
        (
            "UPDATE clusters SET desired_state = 'stopped'".into(),
            "stopped stopped",
        ),
        (
            "UPDATE clusters SET desired_state = 'present'".into(),
            "present running",
        ),
        (
            "UPDATE clusters SET desired_state = 'absent'".into(),
            "gone",
        ),
    ] {
        run(&sql, &change).await;
        until(&sql, "dev", end).await;
    }
    let counted = async |name: &str| {
        let sample = format!("kindler_{name}_total{{controller=\"cluster\"}}");
        daemon.metric(&sample).await.unwrap()
    };
    assert!(counted("notifications").await >= 4.0);
    // The one at start, and the one after LISTEN took effect.
    assert!(counted("resync").await <= 2.0);
}

#[tokio::test]
async fn changes_with_triggers_off_and_while_the_daemon_is_down_converge() {
    let scene = scene().await;
    scene.run("ALTER TABLE clusters DISABLE TRIGGER USER").await;
    scene.run(&insert("silent")).await;
    scene.until("silent", "present running").await;
    scene.run("UPDATE clusters SET http_port = 18777").await;
    eventually(SOON, "the silent change of spec", || async {
        scene.host.started("silent") == ["create", "create"]
    })
    .await;
    scene.run("ALTER TABLE clusters ENABLE TRIGGER USER").await;
    scene.daemon.stop().await;
    run(&scene.sql, &insert("down")).await;
    run(
        &scene.sql,
        "UPDATE clusters SET desired_state = 'absent' WHERE name = 'silent'",
    )
    .await;
    assert_eq!(state(&scene.sql, "down").await, "present unknown");
    let _daemon = Daemon::start(&scene.database, &scene.host).await;
    until(&scene.sql, "down", "present running").await;
    until(&scene.sql, "silent", "gone").await;
}

#[tokio::test]
async fn hostile_rings_are_harmless() {
    let scene = scene().await;
    scene.run(&insert("dev")).await;
    scene.until("dev", "present running").await;
    let before = scene
        .text("SELECT count(*)::text FROM cluster_events")
        .await;
    let names = [
        "",
        "nobody",
        "'; DROP TABLE clusters; --",
        "../../etc/passwd",
        "DEV",
        "dev",
    ];
    for name in names {
        scene
            .sql
            .execute("SELECT pg_notify(kindler_channel('wake'), $1)", &[&name])
            .await
            .unwrap();
    }
    let long = "x".repeat(7999);
    scene
        .sql
        .execute("SELECT pg_notify(kindler_channel('wake'), $1)", &[&long])
        .await
        .unwrap();
    scene.run(&insert("after")).await;
    scene.until("after", "present running").await;
    assert_eq!(scene.host.started("dev"), ["create"]);
    let books =
        "SELECT count(*)::text FROM cluster_events WHERE cluster_name = 'dev' AND kind <> 'health'";
    assert!(scene.text(books).await <= before);
}

#[tokio::test]
async fn a_bulk_change_neither_floods_nor_starves() {
    let host = Host::new();
    host.script("create", "exit 0");
    host.script("probe", "exit 0");
    let scene = scene_on(host).await;
    scene
        .run("INSERT INTO clusters (name, provider) SELECT 'bulk-' || n, 'kind' FROM generate_series(1, 10000) n")
        .await;
    // Somebody comes with one cluster while ten thousand wait.
    scene.run(&insert("single")).await;
    let began = Instant::now();
    scene.until("single", "present running").await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "starved for {:?}",
        began.elapsed()
    );
    let done = "SELECT count(*)::text FROM clusters WHERE actual_state = 'running'";
    let some = scene.text(done).await.parse::<u32>().unwrap();
    assert!(
        some < 9000,
        "the bulk was done before the single one was asked for"
    );
    let status = std::fs::read_to_string(format!("/proc/{}/status", scene.daemon.pid())).unwrap();
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
    // Looks stand in no journal.
    host.control("probe", r#"echo >> "$here/looks""#);
    let looks = || std::fs::metadata(host.path().join("looks")).map_or(0, |looks| looks.len());
    let daemon = Daemon::builder(&database.url(), &host)
        // Longer than the long form: no check is due.
        .set("KINDLER_HEALTH_INTERVAL", "24h")
        .set("KINDLER_RESYNC_INTERVAL", "1s")
        .spawn();
    daemon.ready().await;
    let sql = database.connect().await;
    for name in ["a", "b", "c"] {
        run(&sql, &insert(name)).await;
    }
    for name in ["a", "b", "c"] {
        until(&sql, name, "present running").await;
    }
    let passes = async || {
        daemon
            .metric("kindler_resync_total{controller=\"cluster\"}")
            .await
            .unwrap()
    };
    let journal = host.journal().len();
    // The terms count the claims, also those that came to nothing.
    let rows = "SELECT concat_ws(' ', string_agg(xmin::text, ' ' ORDER BY name), (SELECT count(*) FROM cluster_events),
        (SELECT count(*) FROM cluster_leases), (SELECT count(*) FROM cluster_revisions),
        (SELECT count(*) FROM cluster_deletions), (SELECT last_value FROM cluster_lease_terms)) FROM clusters";
    // A turn that has just ended releases its lease after its last write.
    eventually(SOON, "the leases to be released", || async {
        super::text(&sql, "SELECT count(*)::text FROM cluster_leases").await == "0"
    })
    .await;
    let (before, since) = (super::text(&sql, rows).await, passes().await);
    let looked = looks();
    assert!(looked > 0);
    // As many passes as the defaults make in five minutes; the long form: an hour.
    let more = rounds(10, 3600);
    let long = SOON + Duration::from_secs(2 * more as u64);
    eventually(long, "more passes", || async {
        passes().await >= since + more as f64
    })
    .await;
    assert_eq!(super::text(&sql, rows).await, before);
    assert_eq!((host.journal().len(), looks()), (journal, looked));
    report(
        "idle",
        &format!("{more} full passes, 0 commands, 0 rows written"),
    );
}
