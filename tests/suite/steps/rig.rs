//! One sandbox cluster `dev`, and everything that can be observed of it from outside.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use kindler::drivers::sandbox::NodeRecord;
use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::Client;

use crate::kit::{ClaimedPort, Daemon, DaemonBuilder, Database, Host, Sql, claim_port};
use crate::kit::{eventually, migrated};

/// Long enough for a busy machine; a passing test never waits this long.
pub const STEPS_TIMEOUT: Duration = Duration::from_secs(40);

/// A database, a host, and the port of cluster `dev`.
pub struct StepsRig {
    pub host: Host,
    pub sql: Client,
    pub database: Database,
    pub port: ClaimedPort,
}

/// One row of `cluster_steps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRow {
    pub state: String,
    pub attempt: i32,
    pub version: i32,
    pub reason: String,
    pub message: String,
    /// The time of its last start, to the microsecond.
    pub started: Option<String>,
    /// Its next try is in the future.
    pub waits: bool,
}

/// Blocks the write that records the end of a step, so that the step stays recorded as
/// running.
pub struct BlockedWrite(Client);

impl StepsRig {
    pub async fn new() -> Self {
        let database = migrated().await;
        Self {
            host: Host::new(),
            sql: database.connect().await,
            port: claim_port(),
            database,
        }
    }

    /// A daemon with the sandbox driver and short times, not started yet.
    pub fn builder(&self) -> DaemonBuilder {
        self.builder_with_url(&self.database.url())
    }

    /// The same, with another URL of the database.
    pub fn builder_with_url(&self, url: &str) -> DaemonBuilder {
        Daemon::builder(url, &self.host)
            .set("KINDLER_DRIVER", "sandbox")
            .set("KINDLER_LEASE_TTL", "2s")
            .set("KINDLER_RESYNC_INTERVAL", "1s")
    }

    pub fn daemon(&self) -> Daemon {
        self.builder().spawn()
    }

    pub async fn declare(&self) {
        let port = self.port.number;
        self.sql
            .run(&format!(
                "INSERT INTO clusters (name, provider, http_port) VALUES ('dev', 'k3d', {port})"
            ))
            .await;
    }

    /// Declares `dev` and waits until a daemon has created it and recorded every step.
    pub async fn declare_and_wait(&self) {
        self.declare().await;
        self.wait_running().await;
    }

    /// Waits until `dev` runs as declared and every step is done.
    pub async fn wait_running(&self) {
        eventually(STEPS_TIMEOUT, "dev running with every step done", || async {
            let done = "SELECT (SELECT count(*) FROM cluster_steps s WHERE s.uid = c.uid AND s.state = 'done' AND s.version = 1) || ' '
                || actual_state || ' ' || (observed_generation = generation) || ' ' || coalesce(status_reason, '') FROM clusters c WHERE name = 'dev'";
            let found = self.sql.text(done).await;
            found.starts_with("5 running true ") && !found.ends_with("StepFailed")
        })
        .await;
    }

    /// Waits until the row of `dev` is removed.
    pub async fn wait_removed(&self) {
        self.sql
            .wait_text("SELECT count(*)::text FROM clusters", "0")
            .await;
    }

    /// Moves `dev` to another port; returns the old one.
    pub async fn change_port(&mut self) -> ClaimedPort {
        let old = std::mem::replace(&mut self.port, claim_port());
        let update = format!("UPDATE clusters SET http_port = {}", self.port.number);
        self.sql.run(&update).await;
        old
    }

    /// Requests a retry.
    pub async fn retry(&self) {
        self.sql
            .run("UPDATE clusters SET retry_requested_at = clock_timestamp()")
            .await;
    }

    /// The status message of `dev`.
    pub async fn message(&self) -> String {
        self.sql
            .text("SELECT status_message FROM clusters WHERE name = 'dev'")
            .await
    }

    pub async fn delete(&self) {
        self.sql.desire("dev", "absent").await;
    }

    pub async fn stop_cluster(&self) {
        self.sql.desire("dev", "stopped").await;
    }

    /// The actual state and the reason of `dev`.
    pub async fn state(&self) -> String {
        self.sql.text("SELECT actual_state || ' ' || coalesce(status_reason, '') FROM clusters WHERE name = 'dev'")
            .await
    }

    pub async fn wait_state(&self, expected: &str) {
        eventually(STEPS_TIMEOUT, expected, || async {
            self.state().await == expected
        })
        .await;
    }

    pub async fn wait_stopped(&self) {
        eventually(STEPS_TIMEOUT, "dev stopped", || async {
            self.state().await.starts_with("stopped ")
        })
        .await;
    }

    /// Every recorded step of the current row of `dev`.
    pub async fn steps(&self) -> BTreeMap<String, StepRow> {
        let query =
            "SELECT s.name, state, attempt, version, coalesce(reason, ''), coalesce(message, ''),
            started_at::text, coalesce(next_try_at > clock_timestamp(), false)
            FROM cluster_steps s JOIN clusters c USING (uid) WHERE c.name = 'dev'";
        let rows = self.sql.query(query, &[]).await.unwrap();
        let read = |row: &tokio_postgres::Row| {
            let recorded = StepRow {
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

    pub async fn wait_step(&self, name: &str, state: &str) -> StepRow {
        eventually(
            STEPS_TIMEOUT,
            &format!("step {name} to be {state}"),
            || async {
                let found = self.steps().await.remove(name);
                found.filter(|step| step.state == state)
            },
        )
        .await
    }

    /// The step and the reason of each step event of `dev`, oldest first.
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

    /// Puts a folder in the place of `about.txt`, which even root cannot overwrite or
    /// remove as a file.
    pub fn obstruct_about(&self) {
        let _ = fs::remove_file(self.about());
        fs::create_dir(self.about()).unwrap();
        fs::write(self.about().join("in-the-way"), "").unwrap();
    }

    pub fn claim(&self) -> PathBuf {
        self.sandbox()
            .join(".ports")
            .join(self.port.number.to_string())
    }

    /// The inode of a path, if it exists.
    pub fn inode(path: &std::path::Path) -> Option<u64> {
        fs::symlink_metadata(path).ok().map(|found| found.ino())
    }

    pub fn record(&self) -> NodeRecord {
        serde_json::from_slice(&fs::read(self.folder().join("node.json")).unwrap()).unwrap()
    }

    /// The node processes of this host, from the process table.
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

    /// Panics unless `dev` has exactly one node: the one in its record, on its port.
    pub fn assert_one_node(&self) {
        let record = self.record();
        assert_eq!(self.nodes(), [record.process.pid]);
        assert_eq!(record.port, self.port.number);
        assert!(fs::symlink_metadata(self.claim()).is_ok());
        assert!(self.about().is_file());
    }

    /// Panics if anything of `dev` is left.
    pub async fn assert_nothing_left(&self) {
        // A killed node may still wait to be reaped by its parent.
        eventually(STEPS_TIMEOUT, "the end of the node", || async {
            self.nodes().is_empty()
        })
        .await;
        assert!(!self.folder().exists());
        assert!(fs::symlink_metadata(self.claim()).is_err());
        let left = "SELECT count(*)::text FROM cluster_steps";
        assert_eq!(self.sql.text(left).await, "0");
    }

    pub fn kill_node(&self) {
        let pid = Pid::from_raw(self.record().process.pid).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }

    /// From now on the write that records this end of a step is blocked, and so is the
    /// deletion of the step's record.
    pub async fn block_step_end(&self, step: &str, end: &str) -> BlockedWrite {
        self.sql
            .run(&format!(
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
        BlockedWrite(holder)
    }

    /// Waits until the write is blocked.
    pub async fn wait_blocked(&self) {
        eventually(STEPS_TIMEOUT, "the blocked write", || async {
            self.sql
                .text(&format!("SELECT count(*)::text {WAITING}"))
                .await
                != "0"
        })
        .await;
    }

    /// Ends the blocked write without effect, as if it had never arrived, and blocks no
    /// other.
    pub async fn cancel_blocked(&self, blocked: BlockedWrite) {
        self.sql
            .run(&format!("SELECT pg_terminate_backend(pid) {WAITING}"))
            .await;
        eventually(STEPS_TIMEOUT, "the end of the blocked write", || async {
            self.sql
                .text(&format!("SELECT count(*)::text {WAITING}"))
                .await
                == "0"
        })
        .await;
        self.sql.run(
            "DROP TRIGGER hold_end ON cluster_steps; DROP TRIGGER hold_removal ON cluster_steps",
        )
        .await;
        drop(blocked);
    }
}

impl BlockedWrite {
    /// Unblocks the write.
    pub async fn release(self) {
        let unlock = "SELECT pg_advisory_unlock_all()";
        self.0.batch_execute(unlock).await.unwrap();
    }
}

/// Sessions of this database that [`StepsRig::block_step_end`] blocks.
const WAITING: &str = "FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
