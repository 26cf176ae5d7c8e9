//! The database moves to another host, or rejects writes: a session that cannot write
//! is closed, and the other hosts are tried.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::faults::{report, rounds, spread};
use crate::kit::{Daemon, Database, Host, PrivateServer, Sql, TIMEOUT, eventually, kindler_output};

/// Writes must succeed again within this time after a promotion.
const RESUME: Duration = Duration::from_secs(15);

/// A primary, its standby, a database that both serve, and a URL with both hosts.
struct ServerPair {
    primary: PrivateServer,
    standby: PrivateServer,
    database: Database,
    url: String,
}

async fn pair() -> ServerPair {
    let primary = PrivateServer::create().await;
    let database = primary.database().await.migrate().await;
    let standby = primary.standby().await;
    let (name, folders) = (
        database.name(),
        [primary.socket_dir(), standby.socket_dir()],
    );
    let [first, second] = folders.map(|folder| folder.display().to_string());
    let url = format!("user=postgres dbname={name} host={first},{second}");
    ServerPair {
        primary,
        standby,
        database,
        url,
    }
}

impl ServerPair {
    /// A session on the standby, once it has replayed everything that the primary
    /// wrote.
    async fn on_standby(&self) -> Client {
        let sql = self.database.connect().await;
        let written = sql.text("SELECT pg_current_wal_lsn()::text").await;
        let standby = self.standby_session().await;
        let replayed = format!("SELECT (pg_last_wal_replay_lsn() >= '{written}')::text");
        standby.wait_text(&replayed, "true").await;
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

    /// Declares a cluster on the new primary, which must run in time; returns that
    /// time.
    async fn expect_writes(&self, sql: &Client, host: &Host, promoted: Instant) -> Duration {
        sql.declare("after").await;
        sql.wait_state("after", "present running").await;
        let took = promoted.elapsed();
        assert!(took < RESUME, "{took:?}");
        sql.desire("before", "absent").await;
        sql.wait_state("before", "gone").await;
        host.assert_one_at_a_time();
        took
    }
}

/// Repeats the promotion and reports how long it takes until writes succeed again.
async fn repeat_promotion(fault: &str, promotion: impl AsyncFn() -> Duration) {
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
async fn a_promoted_standby_is_used_and_the_old_primary_is_not() {
    repeat_promotion(
        "a promotion, the old primary stopped and demoted",
        promote_after_stop,
    )
    .await;
}

async fn promote_after_stop() -> Duration {
    let (pair, host) = (pair().await, Host::new());
    let daemon = Daemon::builder(&pair.url, &host).start().await;
    let sql = pair.database.connect().await;
    sql.declare("before").await;
    sql.wait_state("before", "present running").await;
    let standby = pair.on_standby().await;

    pair.primary.stop_immediate().await;
    pair.standby.promote().await;
    let promoted = Instant::now();
    // The old primary, which the URL names first, is read-only when it comes back.
    pair.primary.demote();
    pair.primary.start().await;
    let took = pair.expect_writes(&standby, &host, promoted).await;
    daemon.ready().await;
    assert_eq!(daemon.metric("kindler_listen_connected").await, Some(1.0));
    took
}

/// No cluster is claimed for one lifetime of a lease.
#[tokio::test]
async fn the_wait_after_a_promotion_is_shown() {
    let (pair, host) = (pair().await, Host::new());
    let daemon = Daemon::builder(&pair.url, &host)
        .set("KINDLER_LEASE_TTL", "15s")
        .start()
        .await;
    let sql = pair.database.connect().await;
    sql.declare("before").await;
    sql.wait_state("before", "present running").await;
    let finding = "kindler_finding{code=\"ClaimsDeferred\",severity=\"warning\"}";
    let standby = pair.on_standby().await;
    pair.primary.stop_immediate().await;
    pair.standby.promote().await;
    standby.declare("after").await;
    daemon.wait_metric(finding, 1.0).await;
    let url = pair.standby.url(pair.database.name());
    let (status, _) = kindler_output(&url, &host, &["status"]);
    assert!(
        status.contains("ClaimsDeferred") && status.contains("KINDLER_LEASE_TTL"),
        "{status}"
    );
    assert_eq!(standby.state("after").await, "present unknown");
    standby.wait_state("after", "present running").await;
    eventually(TIMEOUT, "the end of the finding", || async {
        daemon.metric(finding).await.unwrap_or_default() == 0.0
    })
    .await;
    let log = daemon.log();
    assert_eq!(
        log.matches("the database moved to another server").count(),
        1,
        "{log}"
    );
}

#[tokio::test]
async fn a_suspended_primary_does_not_delay_the_failover() {
    repeat_promotion("a promotion, the old primary silent", promote_after_suspend).await;
}

async fn promote_after_suspend() -> Duration {
    let (pair, host) = (pair().await, Host::new());
    let _daemon = Daemon::builder(&pair.url, &host).start().await;
    let sql = pair.database.connect().await;
    sql.declare("before").await;
    sql.wait_state("before", "present running").await;
    let standby = pair.on_standby().await;

    // The kernel still accepts connections for it, but it does not answer.
    pair.primary.suspend();
    pair.standby.promote().await;
    let took = pair.expect_writes(&standby, &host, Instant::now()).await;
    pair.primary.resume();
    took
}

/// The standby lacks the owner's claim, and the owner reaches only the old primary.
#[tokio::test]
async fn an_owner_that_a_failover_forgets_ends_first() {
    let mut resumed = Vec::new();
    for _ in 0..rounds(1, 10) {
        resumed.push(promote_without_the_last_claim().await);
    }
    report(
        "a promotion that loses a claim, the owner cut off",
        &format!(
            "with leases of 10 s; taken over after {}, 0 overlaps",
            spread(resumed)
        ),
    );
}

async fn promote_without_the_last_claim() -> Duration {
    let (pair, host) = (pair().await, Host::new());
    host.control("create", "trap '' TERM; while :; do sleep 0.1; done");
    let start = |url: String| {
        Daemon::builder(&url, &host)
            .set("KINDLER_LEASE_TTL", "10s")
            .set("KINDLER_RESYNC_INTERVAL", "1s")
            .start()
    };
    let sql = pair.database.connect().await;
    sql.declare("dev").await;
    let standby = pair.on_standby().await;
    standby.run("ALTER SYSTEM SET primary_conninfo = ''").await;
    standby.run("SELECT pg_reload_conf()").await;
    standby
        .wait_number("SELECT count(*) FROM pg_stat_wal_receiver", 0)
        .await;
    let _owner = start(pair.database.url()).await;
    host.wait_commands(1).await;
    let _successor = start(pair.url.clone()).await;
    let leases = "SELECT count(*) FROM cluster_leases";
    assert_eq!(standby.number(leases).await, 0, "the claim was replicated");
    pair.primary.stop_immediate().await;
    host.release("create");
    pair.standby.promote().await;
    let promoted = Instant::now();
    standby.wait_state("dev", "present running").await;
    host.assert_one_at_a_time();
    assert_eq!(host.started("dev"), ["create", "create"]);
    promoted.elapsed()
}

#[tokio::test]
async fn a_read_only_session_is_closed() {
    let server = PrivateServer::create().await;
    let database = server.database().await.migrate().await;
    let host = Host::new();
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    let name = database.name();
    // New sessions are read-only, and stay so when the setting is reset.
    sql.run(&format!(
        "ALTER DATABASE {name} SET default_transaction_read_only = on"
    ))
    .await;
    server.terminate_all().await;
    daemon.wait_not_ready("read-only transaction").await;
    daemon.wait_not_ready("the database takes no writes").await;

    let sql = database.connect().await;
    sql.run(&format!(
        "BEGIN READ WRITE; ALTER DATABASE {name} RESET default_transaction_read_only; COMMIT"
    ))
    .await;
    let back = Instant::now();
    let sql = database.connect().await;
    sql.declare("dev").await;
    sql.wait_state("dev", "present running").await;
    assert!(back.elapsed() < RESUME, "{:?}", back.elapsed());
    daemon.ready().await;
}
