//! The database is silent, slow, or throws everybody out.

use std::time::{Duration, Instant};

use super::{converged, migrated, number, quick, report, rounds, run, spread};
use crate::kit::{Host, Proxy, Traffic, eventually};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_silent_database_is_noticed_and_blocks_nothing_for_ever() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let proxy = Proxy::before(&database).await;
    let mut daemon = quick(&proxy.url(), &host).spawn();
    daemon.ready().await;
    run(
        &sql,
        "INSERT INTO clusters (name, provider) VALUES ('before', 'k3d')",
    )
    .await;
    converged(&sql, &host).await;

    // No reset, no error: half-open.
    proxy.set(Traffic::Stalls);
    let stalled = Instant::now();
    run(
        &sql,
        "INSERT INTO clusters (name, provider) VALUES ('during', 'k3d')",
    )
    .await;
    eventually(SOON, "the silence to be noticed", || async {
        daemon.metric("kindler_listen_connected").await == Some(0.0)
    })
    .await;
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

    // Silent again, and told to end: it ends.
    proxy.set(Traffic::Stalls);
    let ending = Instant::now();
    daemon.signal(rustix::process::Signal::TERM);
    daemon.ended(SOON).await;
    assert!(
        ending.elapsed() < Duration::from_secs(20),
        "after {:?}",
        ending.elapsed()
    );
}

/// Only the listener hears nothing: no error, no reset, and all other sessions
/// work, so that nothing but its own probe can tell.
#[tokio::test]
async fn a_silent_listener_is_noticed_and_delays_no_change_beyond_a_pass() {
    const RESYNC: Duration = Duration::from_secs(2);
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let proxy = Proxy::before(&database).await;
    let daemon = quick(&proxy.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "2s")
        .spawn();
    daemon.ready().await;
    proxy.set(Traffic::ListenerStalls);
    let (silent, mut latest, mut noticed) = (Instant::now(), Duration::ZERO, None);
    for n in 0.. {
        let name = format!("c{n}");
        run(
            &sql,
            &format!("INSERT INTO clusters (name, provider) VALUES ('{name}', 'k3d')"),
        )
        .await;
        let declared = Instant::now();
        eventually(SOON, "it to be begun", || async {
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
    let noticed = noticed.expect("the silence to be noticed");
    assert!(noticed < Duration::from_secs(15), "after {noticed:?}");
    // A pass may begin up to a tenth late, and takes its time.
    assert!(latest < RESYNC + Duration::from_secs(1), "{latest:?}");
    let (status, body) = daemon.get("/readyz").await.unwrap();
    assert!(body.contains("listener"), "{status} {body}");

    proxy.set(Traffic::Flows);
    eventually(SOON, "it to listen again", || async {
        daemon.metric("kindler_listen_connected").await == Some(1.0)
    })
    .await;
    converged(&sql, &host).await;
    report(
        "only the listener silent",
        &format!(
            "noticed after {:.1} s; no change begun later than {:.1} s, with passes every 2 s",
            noticed.as_secs_f64(),
            latest.as_secs_f64()
        ),
    );
}

#[tokio::test]
async fn sessions_that_are_terminated_all_the_time_lose_nothing() {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let daemon = quick(&database.url(), &host).spawn();
    daemon.ready().await;
    let storm = Duration::from_secs(rounds(30, 600).try_into().unwrap());
    let (began, mut declared) = (Instant::now(), 0);
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while began.elapsed() < storm {
        number(&sql, terminate).await;
        declared += 1;
        run(
            &sql,
            &format!("INSERT INTO clusters (name, provider) VALUES ('storm-{declared}', 'kind')"),
        )
        .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eventually(Duration::from_secs(5), "the bell to work again", || async {
        daemon.metric("kindler_listen_connected").await == Some(1.0)
    })
    .await;
    // Whoever comes now waits neither for a pass nor for the backlog.
    let mut wakeups = Vec::new();
    for n in 0..20 {
        let name = format!("after-{n}");
        run(
            &sql,
            &format!("INSERT INTO clusters (name, provider) VALUES ('{name}', 'kind')"),
        )
        .await;
        let rung = Instant::now();
        eventually(SOON, "the next one to be begun", || async {
            let begun = "SELECT count(*) FROM clusters WHERE actual_state <> 'unknown' AND name = ";
            number(&sql, &format!("{begun} '{name}'")).await == 1
        })
        .await;
        wakeups.push(rung.elapsed());
    }
    let all = declared + i64::try_from(wakeups.len()).unwrap();
    converged(&sql, &host).await;
    assert_eq!(number(&sql, "SELECT count(*) FROM clusters").await, all);
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
        host.set_world(name, Some("healthy"));
    }
    // Clusters live on the host; the database knows none, or other ones.
    let wrong = migrated().await;
    let sql = wrong.connect().await;
    let daemon = quick(&wrong.url(), &host)
        .set("KINDLER_HEALTH_INTERVAL", "1s")
        .spawn();
    daemon.ready().await;
    run(
        &sql,
        "INSERT INTO clusters (name, provider) VALUES ('other', 'k3d')",
    )
    .await;
    converged_but_undeclared(&sql, &host).await;
    // Rows that vanish without a trace: triggers off, as a restore does it.
    run(&sql, "ALTER TABLE clusters DISABLE TRIGGER ALL; DELETE FROM clusters; ALTER TABLE clusters ENABLE TRIGGER ALL").await;
    let passes = daemon
        .metric("kindler_resync_total{controller=\"cluster\"}")
        .await
        .unwrap();
    eventually(SOON, "three more passes", || async {
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
        assert_eq!(host.world(name).as_deref(), Some("healthy"), "{name}");
    }
}

async fn converged_but_undeclared(sql: &tokio_postgres::Client, host: &Host) {
    eventually(SOON, "the declared one", || async {
        number(sql, super::UNSETTLED).await == 0
    })
    .await;
    host.assert_one_at_a_time();
}
