//! The database moves to another host, or refuses writes: a session that
//! cannot write is of no use, and another host may be the one that can.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{SOON, insert, run, text, until};
use crate::faults::{report, rounds, spread};
use crate::kit::{Daemon, Database, Host, PrivateServer, eventually};

/// Writes must go on within this after a promotion.
const RESUME: Duration = Duration::from_secs(15);

/// A primary, its standby, a database that both serve, and their common URL.
struct Pair {
    primary: PrivateServer,
    standby: PrivateServer,
    database: Database,
    url: String,
}

async fn pair() -> Pair {
    let primary = PrivateServer::create().await;
    let database = primary.database().await.migrate().await;
    let standby = primary.standby().await;
    let (name, folders) = (
        database.name(),
        [primary.socket_dir(), standby.socket_dir()],
    );
    let [first, second] = folders.map(|folder| folder.display().to_string());
    let url = format!("user=postgres dbname={name} host={first},{second}");
    Pair {
        primary,
        standby,
        database,
        url,
    }
}

impl Pair {
    /// A session on the standby, once it has all that the primary wrote.
    async fn on_standby(&self) -> Client {
        let sql = self.database.connect().await;
        let written = text(&sql, "SELECT pg_current_wal_lsn()::text").await;
        let standby = self.standby_session().await;
        let replayed = format!("SELECT (pg_last_wal_replay_lsn() >= '{written}')::text");
        eventually(SOON, "the standby to follow", || async {
            text(&standby, &replayed).await == "true"
        })
        .await;
        standby
    }

    async fn standby_session(&self) -> Client {
        let url = self.standby.url(self.database.name());
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    /// A cluster is declared on the new primary and runs in time.
    async fn goes_on(&self, sql: &Client, host: &Host, promoted: Instant) -> Duration {
        run(sql, &insert("after")).await;
        until(sql, "after", "present running").await;
        let took = promoted.elapsed();
        assert!(took < RESUME, "{took:?}");
        run(
            sql,
            "UPDATE clusters SET desired_state = 'absent' WHERE name = 'before'",
        )
        .await;
        until(sql, "before", "gone").await;
        host.assert_one_at_a_time();
        took
    }
}

/// Promotions, one after the other, and how long each took to be found.
async fn again_and_again(fault: &str, promotion: impl AsyncFn() -> Duration) {
    let mut resumed = Vec::new();
    for _ in 0..rounds(1, 50) {
        resumed.push(promotion().await);
    }
    report(
        fault,
        &format!("writes go on after {}, 0 overlaps", spread(resumed)),
    );
}

#[tokio::test]
async fn a_promoted_standby_is_found_and_the_demoted_primary_left_alone() {
    again_and_again("a promotion, the old primary stopped and demoted", demoted).await;
}

async fn demoted() -> Duration {
    let (pair, host) = (pair().await, Host::new());
    let daemon = Daemon::builder(&pair.url, &host).spawn();
    daemon.ready().await;
    let sql = pair.database.connect().await;
    run(&sql, &insert("before")).await;
    until(&sql, "before", "present running").await;
    let standby = pair.on_standby().await;

    pair.primary.stop_immediate().await;
    pair.standby.promote().await;
    let promoted = Instant::now();
    // The old one comes back first in the URL, and only reads.
    pair.primary.demote();
    pair.primary.start().await;
    let took = pair.goes_on(&standby, &host, promoted).await;
    daemon.ready().await;
    assert_eq!(daemon.metric("kindler_listen_connected").await, Some(1.0));
    took
}

#[tokio::test]
async fn a_primary_that_falls_silent_does_not_hold_up_the_move() {
    again_and_again("a promotion, the old primary silent", silent).await;
}

async fn silent() -> Duration {
    let (pair, host) = (pair().await, Host::new());
    let daemon = Daemon::builder(&pair.url, &host).spawn();
    daemon.ready().await;
    let sql = pair.database.connect().await;
    run(&sql, &insert("before")).await;
    until(&sql, "before", "present running").await;
    let standby = pair.on_standby().await;

    // It accepts connections, as the kernel does for it, and says nothing.
    pair.primary.suspend();
    pair.standby.promote().await;
    let took = pair.goes_on(&standby, &host, Instant::now()).await;
    pair.primary.resume();
    took
}

#[tokio::test]
async fn a_session_that_may_only_read_is_thrown_away() {
    let server = PrivateServer::create().await;
    let database = server.database().await.migrate().await;
    let host = Host::new();
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    let name = database.name();
    // New sessions only read, and stay so even when the reason is gone.
    run(
        &sql,
        &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"),
    )
    .await;
    server.terminate_all().await;
    let told = eventually(SOON, "the reason", || async {
        let answer = daemon.get("/readyz").await?;
        answer.1.contains("read-only transaction").then_some(answer)
    })
    .await;
    assert_eq!(told.0, 503);
    assert!(
        told.1.contains("the database cannot be reached"),
        "{}",
        told.1
    );

    let sql = database.connect().await;
    run(
        &sql,
        &format!(
            "BEGIN READ WRITE; ALTER DATABASE {name} RESET default_transaction_read_only; COMMIT"
        ),
    )
    .await;
    let back = Instant::now();
    let sql = database.connect().await;
    run(&sql, &insert("dev")).await;
    until(&sql, "dev", "present running").await;
    assert!(back.elapsed() < RESUME, "{:?}", back.elapsed());
    daemon.ready().await;
}
