//! Shared code of the tests: runs commands in an empty home directory and writes
//! the statuses of a reconciler through SQL.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::kit::{Database, Sql, migrated};

/// Deadline of a command on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// The output and exit code of a command.
#[derive(Debug)]
pub struct CommandResult {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl CommandResult {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is text");
        Self {
            code: output.status.code().expect("an exit code"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Panics unless it exited with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Panics unless stderr has this text.
    #[track_caller]
    pub fn stderr_has(self, text: &str) -> Self {
        assert!(self.err.contains(text), "no {text:?} in {self:#?}");
        self
    }

    /// Stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// An empty home directory, with only the settings of the test.
pub struct Home {
    folder: TempDir,
    env: Vec<(String, String)>,
}

impl Home {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("make a home");
        let state = folder.path().join("state").display().to_string();
        Self {
            folder,
            env: vec![("KINDLER_STATE_DIR".to_owned(), state)],
        }
    }

    /// Adds a variable; an empty value counts as not set.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.retain(|(other, _)| other != name);
        self.env.push((name.to_owned(), value.into()));
        self
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file in the home directory.
    pub fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        fs::write(&path, text).expect("write a file");
        path
    }

    /// The command, ready to start.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kindler"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("USER", "tester")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().expect("start kindler")
    }

    /// Runs a command to its end.
    pub async fn run(&self, args: &[&str]) -> CommandResult {
        wait_for(self.start(args)).await
    }
}

/// Waits for the end of a command.
pub async fn wait_for(child: Child) -> CommandResult {
    let output = tokio::time::timeout(SOON, child.wait_with_output());
    CommandResult::of(
        output
            .await
            .expect("kindler ends in time")
            .expect("kindler runs"),
    )
}

/// A migrated database, and a home directory with its URL.
pub struct Fleet {
    pub database: Database,
    pub home: Home,
}

impl Fleet {
    pub async fn new() -> Self {
        let database = migrated().await;
        let home = Home::new().with("KINDLER_DATABASE_URL", database.url());
        Self { database, home }
    }

    pub async fn run(&self, args: &[&str]) -> CommandResult {
        self.home.run(args).await
    }

    /// Writes a status as the reconciler would.
    pub async fn status(&self, name: &str, assignments: &str) {
        let sql = format!(
            "UPDATE clusters SET last_reconciled_at = clock_timestamp(), {assignments} \
             WHERE name = '{name}'"
        );
        self.database.run(&sql).await;
    }

    /// Writes a status in which the declared state is reached.
    pub async fn reached(&self, name: &str, actual: &str) {
        let settled = format!(
            "actual_state = '{actual}', observed_generation = generation, \
             observed_spec_hash = spec_hash, failed_attempts = 0, status_message = 'as declared'"
        );
        self.status(name, &settled).await;
    }

    /// Runs SQL with triggers disabled.
    pub async fn force(&self, sql: &str) {
        let sql = format!("SET session_replication_role = replica; {sql}");
        self.database.run(&sql).await;
    }

    /// Adds a daemon with its last heartbeat this long ago.
    pub async fn daemon(&self, host: &str, silent_seconds: u32, listening: bool) {
        let sql = format!(
            "INSERT INTO kindler_replicas (owner, host, pid, version, listen, listening, seen_at) \
             VALUES ('{host}-1', '{host}', 4711, '0.1.0', '127.0.0.1:8080', {listening}, \
                     now() - interval '{silent_seconds} s')"
        );
        self.database.run(&sql).await;
    }

    /// Puts a daemon on standby, as a newer schema does.
    pub async fn set_standby(&self, host: &str) {
        let sql = format!(
            "UPDATE kindler_replicas SET aside = true, notice = 'the schema is newer' \
             WHERE host = '{host}'"
        );
        self.database.run(&sql).await;
    }

    pub async fn desired(&self, name: &str) -> String {
        let sql = format!("SELECT desired_state FROM clusters WHERE name = '{name}'");
        self.database.value(&sql).await
    }
}
