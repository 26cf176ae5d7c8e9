//! The database stalls, stalls only the listener, or terminates all sessions.

use std::time::{Duration, Instant};

use super::{converged, quick, report, rounds, spread};
use crate::kit::{Host, Proxy, Sql, TIMEOUT, Traffic, eventually, migrated};

#[tokio::test]
async fn a_stalled_database_is_noticed_and_blocks_no_shutdown() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let proxy = Proxy::to(&database).await;
    let mut daemon = quick(&proxy.url(), &host).start().await;
    sql.declare("before").await;
    converged(&sql, &host).await;

    // No reset, no error: a half-open connection.
    proxy.set(Traffic::Stalls);
    let stalled = Instant::now();
    sql.declare("during").await;
    daemon.wait_metric("kindler_listen_connected", 0.0).await;
    assert!(
        stalled.elapsed() < Duration::from_secs(15),
        "after {:?}",
        stalled.elapsed()
    );
    assert_eq!(daemon.get("/readyz").await.unwrap().0, 503);

    proxy.set(Traffic::Flows);
    let flowing = Instant::now();
    converged(&sql, &host).await;
    assert!(
        flowing.elapsed() < Duration::from_secs(15),
        "after {:?}",
        flowing.elapsed()
    );

    // It also shuts down while the database stalls.
    proxy.set(Traffic::Stalls);
    let ending = Instant::now();
    daemon.signal(rustix::process::Signal::TERM);
    daemon.ended(TIMEOUT).await;
    assert!(
        ending.elapsed() < Duration::from_secs(20),
        "after {:?}",
        ending.elapsed()
    );
}

/// Only the listener stalls, without an error or reset, and all other sessions work:
/// only its own probe can notice.
#[tokio::test]
async fn a_stalled_listener_is_noticed_and_passes_find_changes() {
    const RESYNC: Duration = Duration::from_secs(2);
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let proxy = Proxy::to(&database).await;
    let daemon = quick(&proxy.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "2s")
        .start()
        .await;
    proxy.set(Traffic::ListenerStalls);
    let (silent, mut latest, mut noticed) = (Instant::now(), Duration::ZERO, None);
    for n in 0.. {
        let name = format!("c{n}");
        sql.declare(&name).await;
        let declared = Instant::now();
        eventually(TIMEOUT, "the start of the work", || async {
            !host.started(&name).is_empty()
        })
        .await;
        latest = latest.max(declared.elapsed());
        if daemon.metric("kindler_listen_connected").await == Some(0.0) {
            noticed.get_or_insert(silent.elapsed());
        }
        if silent.elapsed() > Duration::from_secs(16) {
            break;
        }
    }
    let noticed = noticed.expect("the listener noticed as stalled");
    assert!(noticed < Duration::from_secs(15), "after {noticed:?}");
    // A pass may begin up to a tenth later, and takes some time.
    let log = daemon.log();
    assert!(
        latest < RESYNC + Duration::from_secs(1),
        "{latest:?}\n{log}"
    );
    let (status, body) = daemon.get("/readyz").await.unwrap();
    assert!(body.contains("listener"), "{status} {body}");

    proxy.set(Traffic::Flows);
    daemon.wait_metric("kindler_listen_connected", 1.0).await;
    converged(&sql, &host).await;
    report(
        "only the listener stalled",
        &format!(
            "noticed after {:.1} s; no change begun later than {:.1} s, with passes every 2 s",
            noticed.as_secs_f64(),
            latest.as_secs_f64()
        ),
    );
}

#[tokio::test]
async fn sessions_terminated_all_the_time_lose_nothing() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let daemon = quick(&database.url(), &host).start().await;
    let storm = Duration::from_secs(rounds(30, 600).try_into().unwrap());
    let (began, mut declared) = (Instant::now(), 0);
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while began.elapsed() < storm {
        sql.number(terminate).await;
        declared += 1;
        sql.declare(&format!("storm-{declared}")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eventually(Duration::from_secs(5), "the listener connected", || async {
        daemon.metric("kindler_listen_connected").await == Some(1.0)
    })
    .await;
    // From here on a new row waits neither for a pass nor for the backlog.
    let mut wakeups = Vec::new();
    for n in 0..20 {
        let name = format!("after-{n}");
        sql.declare(&name).await;
        let declared_at = Instant::now();
        eventually(TIMEOUT, "the start of the work on the next row", || async {
            let begun = "SELECT count(*) FROM clusters WHERE actual_state <> 'unknown' AND name = ";
            sql.number(&format!("{begun} '{name}'")).await == 1
        })
        .await;
        wakeups.push(declared_at.elapsed());
    }
    let all = declared + i64::try_from(wakeups.len()).unwrap();
    converged(&sql, &host).await;
    assert_eq!(sql.number("SELECT count(*) FROM clusters").await, all);
    let slowest = *wakeups.iter().max().unwrap();
    assert!(slowest < Duration::from_secs(1), "after {slowest:?}");
    report(
        "sessions terminated 10 times a second",
        &format!(
            "{declared} rows declared in {} s, 0 lost; wake-ups afterwards {}",
            storm.as_secs(),
            spread(wakeups)
        ),
    );
}

#[tokio::test]
async fn a_wrong_or_emptied_database_deletes_nothing() {
    let host = Host::new();
    for name in ["a", "b", "c"] {
        host.set_cluster(name, Some("healthy"));
    }
    // Clusters run on the host; the database has no row or other rows.
    let wrong = migrated().await;
    let sql = wrong.connect().await;
    let daemon = quick(&wrong.url(), &host)
        .set("KINDLER_HEALTH_INTERVAL", "1s")
        .start()
        .await;
    sql.declare("other").await;
    converged_but_undeclared(&sql, &host).await;
    // The rows are deleted with triggers disabled, as a restore does it.
    sql.run("ALTER TABLE clusters DISABLE TRIGGER ALL; DELETE FROM clusters; ALTER TABLE clusters ENABLE TRIGGER ALL").await;
    let passes = daemon
        .metric("kindler_resync_total{controller=\"cluster\"}")
        .await
        .unwrap();
    eventually(TIMEOUT, "three more passes", || async {
        daemon
            .metric("kindler_resync_total{controller=\"cluster\"}")
            .await
            .unwrap()
            >= passes + 3.0
    })
    .await;
    assert!(
        !host.journal().iter().any(|entry| entry.verb == "delete"),
        "{:#?}",
        host.journal()
    );
    for name in ["a", "b", "c", "other"] {
        assert_eq!(host.cluster(name).as_deref(), Some("healthy"), "{name}");
    }
}

async fn converged_but_undeclared(sql: &tokio_postgres::Client, host: &Host) {
    sql.wait_number(super::UNSETTLED, 0).await;
    host.assert_one_at_a_time();
}
