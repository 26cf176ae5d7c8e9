//! One sandbox cluster `dev`, and what can be seen of it from outside.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use kindler::drivers::sandbox::NodeRecord;
use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::Client;

use crate::kit::{ClaimedPort, Daemon, DaemonBuilder, Database, Host, claim_port};
use crate::kit::{eventually, migrated};

/// Long enough for a busy machine; nothing waits that long when all is well.
pub const SOON: Duration = Duration::from_secs(40);

/// A database, a host, and the port of cluster `dev`.
pub struct Rig {
    pub host: Host,
    pub sql: Client,
    pub database: Database,
    pub port: ClaimedPort,
}

/// One row of `cluster_steps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub state: String,
    pub attempt: i32,
    pub version: i32,
    pub reason: String,
    pub message: String,
    /// When it last began, to the microsecond.
    pub started: Option<String>,
    /// Its next try is in the future.
    pub waits: bool,
}

/// What makes the end of a step wait, so that it stays recorded as begun.
pub struct Held(Client);

impl Rig {
    pub async fn new() -> Self {
        let database = migrated().await;
        Self {
            host: Host::new(),
            sql: database.connect().await,
            port: claim_port(),
            database,
        }
    }

    /// A daemon on the sandbox with short times, not started yet.
    pub fn builder(&self) -> DaemonBuilder {
        self.builder_on(&self.database.url())
    }

    /// The same, by way of another address of the database.
    pub fn builder_on(&self, url: &str) -> DaemonBuilder {
        Daemon::builder(url, &self.host)
            .set("KINDLER_DRIVER", "sandbox")
            .set("KINDLER_LEASE_TTL", "2s")
            .set("KINDLER_RESYNC_INTERVAL", "1s")
    }

    pub fn daemon(&self) -> Daemon {
        self.builder().spawn()
    }

    pub async fn run(&self, statement: &str) {
        if let Err(error) = self.sql.batch_execute(statement).await {
            panic!("{error:?} in: {statement}");
        }
    }

    pub async fn text(&self, query: &str) -> String {
        let row = self.sql.query_opt(query, &[]).await;
        let row = row.unwrap_or_else(|error| panic!("{error:?} in {query}"));
        row.and_then(|row| row.get(0)).unwrap_or_default()
    }

    pub async fn declare(&self) {
        let port = self.port.number;
        self.run(&format!(
            "INSERT INTO clusters (name, provider, http_port) VALUES ('dev', 'k3d', {port})"
        ))
        .await;
    }

    /// Declares `dev` and waits until a daemon made it and recorded every step.
    pub async fn made(&self) {
        self.declare().await;
        self.running().await;
    }

    /// Waits until `dev` runs as declared and every step is done.
    pub async fn running(&self) {
        eventually(SOON, "dev to run with every step done", || async {
            let done = "SELECT (SELECT count(*) FROM cluster_steps s WHERE s.uid = c.uid AND s.state = 'done' AND s.version = 1) || ' '
                || actual_state || ' ' || (observed_generation = generation) || ' ' || coalesce(status_reason, '') FROM clusters c WHERE name = 'dev'";
            let found = self.text(done).await;
            found.starts_with("5 running true ") && !found.ends_with("StepFailed")
        })
        .await;
    }

    /// Waits until the row of `dev` is gone.
    pub async fn gone(&self) {
        eventually(SOON, "the row to be gone", || async {
            self.text("SELECT count(*)::text FROM clusters").await == "0"
        })
        .await;
    }

    pub async fn delete(&self) {
        self.run("UPDATE clusters SET desired_state = 'absent' WHERE name = 'dev'")
            .await;
    }

    pub async fn stop_cluster(&self) {
        self.run("UPDATE clusters SET desired_state = 'stopped' WHERE name = 'dev'")
            .await;
    }

    /// `actual reason` of `dev`.
    pub async fn state(&self) -> String {
        self.text("SELECT actual_state || ' ' || coalesce(status_reason, '') FROM clusters WHERE name = 'dev'")
            .await
    }

    pub async fn until_state(&self, wanted: &str) {
        eventually(SOON, wanted, || async { self.state().await == wanted }).await;
    }

    /// Every recorded step of the present row of `dev`.
    pub async fn steps(&self) -> BTreeMap<String, Recorded> {
        let query =
            "SELECT s.name, state, attempt, version, coalesce(reason, ''), coalesce(message, ''),
            started_at::text, coalesce(next_try_at > clock_timestamp(), false)
            FROM cluster_steps s JOIN clusters c USING (uid) WHERE c.name = 'dev'";
        let rows = self.sql.query(query, &[]).await.unwrap();
        let read = |row: &tokio_postgres::Row| {
            let recorded = Recorded {
                state: row.get(1),
                attempt: row.get(2),
                version: row.get(3),
                reason: row.get(4),
                message: row.get(5),
                started: row.get(6),
                waits: row.get(7),
            };
            (row.get(0), recorded)
        };
        rows.iter().map(read).collect()
    }

    pub async fn until_step(&self, name: &str, state: &str) -> Recorded {
        eventually(SOON, &format!("step {name} to be {state}"), || async {
            let found = self.steps().await.remove(name);
            found.filter(|step| step.state == state)
        })
        .await
    }

    /// `step reason` of every event of a step of `dev`, oldest first.
    pub async fn step_events(&self) -> Vec<String> {
        let query = "SELECT split_part(split_part(message, ':', 1), ' ', 2) || ' ' || reason FROM cluster_events
                     WHERE kind = 'step' AND cluster_name = 'dev' ORDER BY id";
        let rows = self.sql.query(query, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub fn sandbox(&self) -> PathBuf {
        self.host.state_dir().join("sandbox")
    }

    pub fn folder(&self) -> PathBuf {
        self.sandbox().join("dev")
    }

    pub fn about(&self) -> PathBuf {
        self.folder().join("about.txt")
    }

    pub fn claim(&self) -> PathBuf {
        self.sandbox()
            .join(".ports")
            .join(self.port.number.to_string())
    }

    /// The inode of a path, if it is there.
    pub fn inode(path: &std::path::Path) -> Option<u64> {
        fs::symlink_metadata(path).ok().map(|found| found.ino())
    }

    pub fn record(&self) -> NodeRecord {
        serde_json::from_slice(&fs::read(self.folder().join("node.json")).unwrap()).unwrap()
    }

    /// The node processes of this host, by the process table.
    pub fn nodes(&self) -> Vec<i32> {
        let home = self.sandbox();
        let mine = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let args: Vec<_> = line.split(|byte| *byte == 0).collect();
            let dir = args.iter().skip_while(|arg| **arg != b"--dir").nth(1);
            args.get(1).is_some_and(|arg| *arg == b"sandbox-node")
                && dir.is_some_and(|dir| dir.starts_with(home.as_os_str().as_encoded_bytes()))
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(mine).collect()
    }

    /// Panics unless `dev` is one node that its folder names, on its port.
    pub fn assert_one_node(&self) {
        let record = self.record();
        assert_eq!(self.nodes(), [record.process.pid]);
        assert_eq!(record.port, self.port.number);
        assert!(fs::symlink_metadata(self.claim()).is_ok());
        assert!(self.about().is_file());
    }

    /// Panics if anything of `dev` is left.
    pub async fn assert_nothing_left(&self) {
        // A node that was killed may wait for its parent to collect it.
        eventually(SOON, "the node to be gone", || async {
            self.nodes().is_empty()
        })
        .await;
        assert!(!self.folder().exists());
        assert!(fs::symlink_metadata(self.claim()).is_err());
        let left = "SELECT count(*)::text FROM cluster_steps";
        assert_eq!(self.text(left).await, "0");
    }

    pub fn kill_node(&self) {
        let pid = Pid::from_raw(self.record().process.pid).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }

    /// From now on the write that records this end of a step waits; so does the
    /// removal of its record.
    pub async fn hold_end(&self, step: &str, end: &str) -> Held {
        self.run(&format!(
            "CREATE OR REPLACE FUNCTION hold_end() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN coalesce(NEW, OLD); END $$;
             CREATE TRIGGER hold_end BEFORE INSERT OR UPDATE ON cluster_steps FOR EACH ROW
                 WHEN (NEW.name = '{step}' AND NEW.state = '{end}') EXECUTE FUNCTION hold_end();
             CREATE TRIGGER hold_removal BEFORE DELETE ON cluster_steps FOR EACH ROW
                 WHEN (OLD.name = '{step}' AND OLD.state = 'removing') EXECUTE FUNCTION hold_end();"
        ))
        .await;
        let holder = self.database.connect().await;
        holder
            .batch_execute("SELECT pg_advisory_lock(4711)")
            .await
            .unwrap();
        Held(holder)
    }

    /// Waits until the held write waits.
    pub async fn until_held(&self) {
        eventually(SOON, "the end of the step to wait", || async {
            self.text(&format!("SELECT count(*)::text {WAITING}")).await != "0"
        })
        .await;
    }

    /// Ends the held write without effect, as if it had never arrived, and holds
    /// no other.
    pub async fn drop_held(&self, held: Held) {
        self.run(&format!("SELECT pg_terminate_backend(pid) {WAITING}"))
            .await;
        eventually(SOON, "the held write to be gone", || async {
            self.text(&format!("SELECT count(*)::text {WAITING}")).await == "0"
        })
        .await;
        self.run(
            "DROP TRIGGER hold_end ON cluster_steps; DROP TRIGGER hold_removal ON cluster_steps",
        )
        .await;
        drop(held);
    }
}

impl Held {
    /// Lets the held write go on.
    pub async fn release(self) {
        let unlock = "SELECT pg_advisory_unlock_all()";
        self.0.batch_execute(unlock).await.unwrap();
    }
}

/// Sessions of this database that wait for what [`Rig::hold_end`] holds.
const WAITING: &str = "FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
