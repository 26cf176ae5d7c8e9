//! A migration beside a long transaction of another session: everything that waits for
//! the tables waits behind the migration.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::{Client, NoTls};

use super::{converged, quick, report, rounds, spread};
use crate::kit::{Database, Host, PrivateServer, Sql, TIMEOUT, eventually, kindler, migrated};

/// A session of an administrator's program.
async fn reporting(database: &Database) -> Client {
    let mut config: tokio_postgres::Config = database.url().parse().unwrap();
    let (client, connection) = config
        .application_name("reporting")
        .connect(NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// A running command that migrates, and the file with what it says.
struct Migration {
    child: Child,
    output: PathBuf,
}

impl Migration {
    fn begin(verb: &str, database: &Database, host: &Host) -> Self {
        let output = host.path().join("migrate.log");
        let mut command = kindler(&database.url(), host);
        command.arg(verb).stdout(Stdio::null());
        command.env("KINDLER_LISTEN", "127.0.0.1:0");
        command.stderr(File::create(&output).unwrap());
        let child = command.spawn().unwrap();
        Self { child, output }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }

    async fn says(&self, text: &str) {
        let giving_up = Instant::now() + TIMEOUT;
        while !self.said().contains(text) {
            assert!(
                Instant::now() < giving_up,
                "not {text}, but {}",
                self.said()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn succeeds(mut self) {
        let ended = tokio::task::spawn_blocking(move || self.child.wait().unwrap());
        assert!(ended.await.unwrap().success());
    }
}

impl Drop for Migration {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

const BEFORE: &str =
    "DELETE FROM kindler_migrations WHERE version = (SELECT max(version) FROM kindler_migrations)";

#[tokio::test]
async fn a_migration_beside_a_long_lock_costs_no_lease() {
    let (mut longest, mut written) = (Vec::new(), 0);
    for _ in 0..rounds(1, 10) {
        let (writes, wait) = migrate_beside_a_lock().await;
        longest.push(wait);
        written += writes;
    }
    report(
        "a migration beside a long lock",
        &format!(
            "{written} writes of others, the longest wait of each migration {}; no lease lost",
            spread(longest)
        ),
    );
}

#[tokio::test]
async fn ctrl_c_ends_a_dev_that_waits_to_migrate() {
    let (database, host) = (migrated().await, Host::new());
    let holder = reporting(&database).await;
    holder.run(BEFORE).await;
    holder.run("BEGIN; SELECT count(*) FROM clusters").await;
    let mut dev = Migration::begin("dev", &database, &host);
    dev.says("application reporting").await;
    kill_process(Pid::from_child(&dev.child), Signal::INT).unwrap();
    let code = eventually(Duration::from_secs(10), "the end of `kindler dev`", || {
        let ended = dev.child.try_wait().unwrap();
        async move { ended }
    });
    assert_eq!(code.await.code(), Some(0));
}

/// Returns how many writes of others there were meanwhile, and how long the longest waited.
async fn migrate_beside_a_lock() -> (u32, Duration) {
    let (database, host) = (migrated().await, Host::new());
    let hold = "while [ ! -e \"$here/live/go\" ]; do sleep 0.1; done";
    host.control("long.create", hold);
    // The shortest lease.
    let daemon = quick(&database.url(), &host).start().await;
    let (sql, holder) = (database.connect().await, reporting(&database).await);
    sql.declare("long").await;
    host.wait_commands(1).await;
    let term = "SELECT term FROM cluster_leases WHERE cluster_name = 'long'";
    let before = sql.number(term).await;
    sql.run(BEFORE).await;
    holder.run("BEGIN; SELECT count(*) FROM clusters").await;

    let migration = Migration::begin("migrate", &database, &host);
    let pid: i32 = holder
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    migration
        .says(&format!(
            "pid {pid} (user postgres, application reporting, query began 20"
        ))
        .await;
    let (began, mut longest, mut written) = (Instant::now(), Duration::ZERO, 0);
    while began.elapsed() < Duration::from_secs(7) {
        let write = Instant::now();
        sql.run("UPDATE clusters SET labels = jsonb_build_object('n', clock_timestamp()::text)")
            .await;
        longest = longest.max(write.elapsed());
        written += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert_eq!(sql.number(term).await, before, "{}", daemon.log());
    assert_eq!(host.live_commands().len(), 1);

    holder.run("COMMIT").await;
    migration.succeeds().await;
    File::create(host.path().join("live/go")).unwrap();
    sql.wait_state("long", "present running").await;
    assert_eq!(host.started("long"), ["create"], "{}", daemon.log());
    converged(&sql, &host).await;
    (written, longest)
}

#[tokio::test]
async fn a_prepared_transaction_that_blocks_is_named() {
    let server = PrivateServer::create().await;
    let (database, host) = (server.database().await.migrate().await, Host::new());
    let sql = database.connect().await;
    sql.run("ALTER SYSTEM SET max_prepared_transactions = 2")
        .await;
    server.stop_fast().await;
    server.start().await;
    let sql = database.connect().await;
    sql.run(BEFORE).await;
    sql.run("BEGIN; UPDATE clusters SET paused = true; PREPARE TRANSACTION 'move'")
        .await;
    let migration = Migration::begin("migrate", &database, &host);
    migration
        .says("prepared transaction 'move' (user postgres, transaction began 20")
        .await;
    sql.run("ROLLBACK PREPARED 'move'").await;
    migration.succeeds().await;
}
