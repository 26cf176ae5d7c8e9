//! Sessions that are not used: closed by the daemon, not by the server.

use std::time::{Duration, Instant};

use kindler::core::database::Database as Url;
use kindler::store::Store;

use super::{quick, report, rounds};
use crate::kit::{Host, PrivateServer, Sql, TIMEOUT, eventually, migrated};

/// The administrator limits idle sessions to a second. Without a health check or a full
/// pass most sessions, and that of the listener, would be idle for longer.
#[tokio::test]
async fn an_idle_session_timeout_ends_no_session() {
    let server = PrivateServer::create().await;
    let database = server.database().await.migrate().await;
    let (sql, host) = (database.connect().await, Host::new());
    if sql
        .number("SELECT current_setting('server_version_num')::int8")
        .await
        < 140_000
    {
        eprintln!("skipped: this server has no idle_session_timeout");
        return;
    }
    let limit = "ALTER ROLE postgres SET idle_session_timeout = '1s'";
    sql.run(limit).await;
    sql.run("SET idle_session_timeout = 0").await;
    let daemon = quick(&database.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .start()
        .await;
    let began = Instant::now();
    let mut declared = 0;
    // Longer than several limits of one second.
    let watched = Duration::from_secs(rounds(6, 120).try_into().unwrap());
    while began.elapsed() < watched {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        declared += 1;
        let name = format!("c{declared}");
        sql.declare(&name).await;
        sql.wait_state(&name, "present running").await;
    }
    let log = daemon.log();
    let complaints = ["listener is not connected", "could not run", "unavailable"];
    for complaint in complaints {
        assert!(!log.contains(complaint), "{log}");
    }
    let ended = "terminating connection due to idle-session timeout";
    assert!(!server.log().contains(ended), "{}", server.log());
    report(
        "idle sessions limited to 1 s",
        &format!(
            "{} s with {declared} changes, no session ended by the server",
            watched.as_secs()
        ),
    );
}

#[tokio::test]
async fn connections_of_a_burst_are_closed() {
    let database = migrated().await;
    let sql = database.connect().await;
    let store = Store::new(&Url::parse(&database.url()).unwrap(), 6, "kindler");
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.check().await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(store.pool_use().open > 1);
    eventually(
        Duration::from_secs(100),
        "the idle connections closed",
        || async { store.pool_use().open == 0 },
    )
    .await;
    let open = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'kindler'";
    sql.wait_number(open, 0).await;
    // The pool works on.
    tokio::time::timeout(TIMEOUT, store.check())
        .await
        .unwrap()
        .unwrap();
}
