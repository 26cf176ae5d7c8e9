//! A command ends while its result cannot be written: nothing runs a second time.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{converged, report, rounds};
use crate::kit::{Daemon, Host, Sql, TIMEOUT, eventually, migrated};

/// Two full passes more show that nothing runs again.
const PASSES: u32 = 2;

/// What keeps a result from being written, and what ends it.
#[derive(Clone, Copy)]
struct Obstacle {
    begin: &'static str,
    end: &'static str,
}

const LOCK_ROW: Obstacle = Obstacle {
    begin: "BEGIN; SELECT FROM clusters WHERE name = 'dev' FOR UPDATE",
    end: "ROLLBACK",
};
const LOCK_TABLE: Obstacle = Obstacle {
    begin: "BEGIN; LOCK TABLE clusters",
    end: "ROLLBACK",
};
const LOCK_STEPS: Obstacle = Obstacle {
    begin: "BEGIN; LOCK TABLE cluster_steps",
    end: "ROLLBACK",
};
const LOCK_LEASES: Obstacle = Obstacle {
    begin: "BEGIN; LOCK TABLE cluster_leases",
    end: "ROLLBACK",
};

/// Changes that make prepared statements outdated, or that all statements fail.
const ALTERED: [Obstacle; 5] = [
    Obstacle {
        begin: "BEGIN; ALTER TABLE clusters ALTER COLUMN status_message TYPE varchar,
            ADD COLUMN IF NOT EXISTS of_others text",
        end: "COMMIT",
    },
    Obstacle {
        begin: "BEGIN; ALTER TABLE cluster_leases ALTER COLUMN owner TYPE varchar,
            ADD COLUMN IF NOT EXISTS of_others text",
        end: "COMMIT",
    },
    Obstacle {
        begin: "ALTER TABLE cluster_leases RENAME TO aside",
        end: "ALTER TABLE aside RENAME TO cluster_leases",
    },
    Obstacle {
        begin: "ALTER TABLE cluster_leases RENAME COLUMN expires_at TO aside",
        end: "ALTER TABLE cluster_leases RENAME COLUMN aside TO expires_at",
    },
    Obstacle {
        begin: "ALTER TABLE clusters RENAME COLUMN observed_spec_hash TO aside",
        end: "ALTER TABLE clusters RENAME COLUMN aside TO observed_spec_hash",
    },
];

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

    /// Runs `change`, which starts `verb`; begins the obstacle while the command runs, keeps
    /// it for a while after its end, and waits for `done`.
    async fn blocked(
        &self,
        change: &str,
        verb: &str,
        obstacle: Obstacle,
        hold: Duration,
        done: &str,
    ) {
        let wait = "while [ ! -e \"$here/live/go\" ]; do sleep 0.02; done";
        self.host.control(verb, wait);
        let before = self.host.started("dev").len();
        self.sql.run(change).await;
        eventually(TIMEOUT, "the start of the command", || async {
            self.host.started("dev").len() == before + 1
        })
        .await;
        self.holder.run(obstacle.begin).await;
        let go = self.host.path().join("live/go");
        std::fs::write(&go, "").unwrap();
        self.host.wait_commands(0).await;
        let ended = Instant::now();
        eventually(TIMEOUT * 10, "the end of the obstacle", || async {
            ended.elapsed() > hold
        })
        .await;
        self.holder.run(obstacle.end).await;
        std::fs::remove_file(go).unwrap();
        self.host.release(verb);
        self.sql.wait_state("dev", done).await;
        self.daemon.full_passes(PASSES).await;
        self.sql.wait_state("dev", done).await;
    }

    /// The whole life of a cluster; each result meets the obstacle.
    async fn life(self, obstacle: Obstacle, hold: Duration) {
        let insert = "INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d')";
        let (running, stopped) = ("present running", "stopped stopped");
        for (change, verb, done) in [
            (insert, "create", running),
            ("UPDATE clusters SET http_port = 18999", "create", running),
            (
                "UPDATE clusters SET desired_state = 'stopped'",
                "stop",
                stopped,
            ),
            (
                "UPDATE clusters SET desired_state = 'present'",
                "start",
                running,
            ),
            ("DELETE FROM clusters", "delete", "gone"),
        ] {
            self.blocked(change, verb, obstacle, hold, done).await;
        }
        assert_eq!(
            self.host.started("dev"),
            ["create", "create", "stop", "start", "delete"],
            "{}: {}",
            obstacle.begin,
            self.daemon.log()
        );
        converged(&self.sql, &self.host).await;
    }
}

async fn no_command_runs_twice(obstacle: Obstacle, lifetimes: &[&str], hold: Duration) {
    for _ in 0..rounds(1, 3) {
        let lives = lifetimes
            .iter()
            .map(async |lifetime| ResultRig::new(lifetime).await.life(obstacle, hold).await);
        futures_util::future::join_all(lives).await;
    }
    report(
        &format!("a result that cannot be written ({})", obstacle.begin),
        &format!(
            "for {} s, {} commands, none ran twice",
            hold.as_secs(),
            rounds(1, 3) * lifetimes.len() * 5
        ),
    );
}

/// The long form is longer than a result is written again under its lease.
fn hold() -> Duration {
    Duration::from_secs(rounds(6, 70).try_into().unwrap())
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

#[tokio::test]
async fn no_command_runs_twice_while_the_leases_are_locked() {
    no_command_runs_twice(LOCK_LEASES, &["3s", "15s"], hold()).await;
}

#[tokio::test]
async fn no_command_runs_twice_while_tables_are_altered() {
    let lives = ALTERED.map(|obstacle| no_command_runs_twice(obstacle, &["3s", "15s"], hold()));
    futures_util::future::join_all(lives).await;
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
