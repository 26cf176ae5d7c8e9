//! A command ends while its result cannot be written: nothing runs a second time.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{converged, report, rounds};
use crate::kit::{Daemon, Host, Sql, TIMEOUT, eventually, migrated};

/// Two full passes more show that nothing runs again.
const PASSES: u32 = 2;

const LOCK_ROW: &str = "SELECT FROM clusters WHERE name = 'dev' FOR UPDATE";
const LOCK_TABLE: &str = "LOCK TABLE clusters";
const LOCK_STEPS: &str = "LOCK TABLE cluster_steps";

/// A daemon whose leases last this long, and a cluster whose commands wait for a file.
struct ResultRig {
    host: Host,
    sql: Client,
    holder: Client,
    daemon: Daemon,
    _database: crate::kit::Database,
}

impl ResultRig {
    async fn new(lifetime: &str) -> Self {
        let (database, host) = (migrated().await, Host::new());
        let (sql, holder) = (database.connect().await, database.connect().await);
        let daemon = Daemon::builder(&database.url(), &host)
            .set("KINDLER_LEASE_TTL", lifetime)
            .set("KINDLER_RESYNC_INTERVAL", "1s")
            .set("KINDLER_HEALTH_INTERVAL", "1h")
            .start()
            .await;
        Self {
            host,
            sql,
            holder,
            daemon,
            _database: database,
        }
    }

    /// Runs `change`, which starts `verb`; takes the lock while the command runs, keeps it
    /// for a while after its end, and waits for `done`.
    async fn blocked(&self, change: &str, verb: &str, lock: &str, hold: Duration, done: &str) {
        let wait = "while [ ! -e \"$here/live/go\" ]; do sleep 0.02; done";
        self.host.control(verb, wait);
        let before = self.host.started("dev").len();
        self.sql.run(change).await;
        eventually(TIMEOUT, "the start of the command", || async {
            self.host.started("dev").len() == before + 1
        })
        .await;
        self.holder.run(&format!("BEGIN; {lock}")).await;
        let go = self.host.path().join("live/go");
        std::fs::write(&go, "").unwrap();
        self.host.wait_commands(0).await;
        let ended = Instant::now();
        eventually(TIMEOUT * 10, "the end of the lock", || async {
            ended.elapsed() > hold
        })
        .await;
        self.holder.run("ROLLBACK").await;
        std::fs::remove_file(go).unwrap();
        self.host.release(verb);
        self.sql.wait_state("dev", done).await;
        self.daemon.full_passes(PASSES).await;
        self.sql.wait_state("dev", done).await;
    }

    /// The whole life of a cluster; each result is written under a lock.
    async fn life(self, lock: &str, hold: Duration) {
        self.blocked(
            "INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d')",
            "create",
            lock,
            hold,
            "present running",
        )
        .await;
        self.blocked(
            "UPDATE clusters SET http_port = 18999",
            "create",
            lock,
            hold,
            "present running",
        )
        .await;
        self.blocked(
            "UPDATE clusters SET desired_state = 'stopped'",
            "stop",
            lock,
            hold,
            "stopped stopped",
        )
        .await;
        self.blocked(
            "UPDATE clusters SET desired_state = 'present'",
            "start",
            lock,
            hold,
            "present running",
        )
        .await;
        self.blocked("DELETE FROM clusters", "delete", lock, hold, "gone")
            .await;
        assert_eq!(
            self.host.started("dev"),
            ["create", "create", "stop", "start", "delete"],
            "{}",
            self.daemon.log()
        );
        converged(&self.sql, &self.host).await;
    }
}

async fn no_command_runs_twice(lock: &str, lifetimes: &[&str], hold: Duration) {
    for _ in 0..rounds(1, 3) {
        let lives = lifetimes
            .iter()
            .map(async |lifetime| ResultRig::new(lifetime).await.life(lock, hold).await);
        futures_util::future::join_all(lives).await;
    }
    report(
        &format!("a result that cannot be written ({lock})"),
        &format!(
            "for {} s, {} commands, none ran twice",
            hold.as_secs(),
            rounds(1, 3) * lifetimes.len() * 5
        ),
    );
}

fn hold() -> Duration {
    Duration::from_secs(rounds(6, 20).try_into().unwrap())
}

#[tokio::test]
async fn no_command_runs_twice_while_its_row_is_locked() {
    no_command_runs_twice(LOCK_ROW, &["3s", "15s"], hold()).await;
}

#[tokio::test]
async fn no_command_runs_twice_while_its_steps_are_locked() {
    no_command_runs_twice(LOCK_STEPS, &["15s"], hold()).await;
}

/// No lease can be renewed meanwhile.
#[tokio::test]
async fn no_command_runs_twice_after_a_lock_beyond_its_lease() {
    no_command_runs_twice(LOCK_TABLE, &["3s"], hold()).await;
}

/// As many results as there are workers cannot be written: other clusters are created.
async fn others_are_created_meanwhile(driver: &str, blocked: &str) {
    const WORKERS: usize = 2;
    let (database, host) = (migrated().await, Host::new());
    let (sql, holder) = (database.connect().await, database.connect().await);
    let daemon = Daemon::builder(&database.url(), &host)
        .set("KINDLER_DRIVER", driver)
        .set("KINDLER_CONCURRENCY", WORKERS.to_string())
        .set("KINDLER_LEASE_TTL", "15s")
        .set("KINDLER_HEALTH_INTERVAL", "1h")
        .start()
        .await;
    host.control(
        "create",
        "case $name in c*) while [ ! -e \"$here/live/go\" ]; do sleep 0.02; done ;; esac",
    );
    let insert = "INSERT INTO clusters (name, provider, http_port)";
    let ports = "SELECT 'c' || n, 'kind', 31000 + n FROM generate_series(1,";
    sql.run(&format!("{insert} {ports} {WORKERS}) n")).await;
    let count = format!("SELECT count(*) FROM clusters WHERE {blocked}");
    sql.wait_number(&count, WORKERS.try_into().unwrap()).await;
    holder
        .run("BEGIN; SELECT FROM clusters WHERE name LIKE 'c%' FOR UPDATE")
        .await;
    std::fs::write(host.path().join("live/go"), "").unwrap();
    let locked = Instant::now();
    for round in 0..rounds(1, 10) {
        let name = format!("other{round}");
        let port = 30_000 + round;
        sql.run(&format!("{insert} VALUES ('{name}', 'kind', {port})"))
            .await;
        sql.wait_state(&name, "present running").await;
    }
    let took = locked.elapsed();
    holder.run("ROLLBACK").await;
    sql.wait_number(
        "SELECT count(*) FROM clusters WHERE actual_state <> 'running'",
        0,
    )
    .await;
    for name in ["c1", "c2"] {
        assert!(host.started(name).len() <= 1, "{}", daemon.log());
    }
    report(
        &format!("{WORKERS} results under locks, {WORKERS} workers, driver {driver}"),
        &format!("{} others created meanwhile within {took:?}", rounds(1, 10)),
    );
}

#[tokio::test]
async fn results_under_locks_leave_workers_to_others() {
    others_are_created_meanwhile("script", "actual_state = 'creating'").await;
}

#[tokio::test]
async fn steps_under_locks_leave_workers_to_others() {
    others_are_created_meanwhile("sandbox", "actual_state = 'creating'").await;
}

/// The write goes on after its lease has ended, and is lost instead of refused.
#[tokio::test]
async fn no_command_runs_twice_after_a_lock_as_long_as_its_lease() {
    no_command_runs_twice(LOCK_TABLE, &["3s"], Duration::from_millis(2800)).await;
}
