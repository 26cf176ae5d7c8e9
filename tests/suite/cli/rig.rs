//! What the tests of the command line share: running it in an empty home, and
//! playing the reconciler through SQL.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use kindler::store;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::kit::Database;

/// Far longer than a command takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is text");
        Self {
            code: output.status.code().expect("an exit code"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Panics unless it ended with this code.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Panics unless stderr has this text.
    #[track_caller]
    pub fn complains(self, words: &str) -> Self {
        assert!(self.err.contains(words), "no {words:?} in {self:#?}");
        self
    }

    /// Stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A home of its own: no settings but those that a test gives.
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

    /// The same with one more variable; an empty one counts as not set.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.retain(|(other, _)| other != name);
        self.env.push((name.to_owned(), value.into()));
        self
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file below the home.
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

    /// Runs it to its end.
    pub async fn run(&self, args: &[&str]) -> Said {
        end_of(self.start(args)).await
    }
}

/// Waits for the end of a command.
pub async fn end_of(child: Child) -> Said {
    let output = tokio::time::timeout(SOON, child.wait_with_output());
    Said::of(
        output
            .await
            .expect("kindler ends in time")
            .expect("kindler runs"),
    )
}

/// A migrated database and a home that knows it.
pub struct Fleet {
    pub database: Database,
    pub home: Home,
}

impl Fleet {
    pub async fn new() -> Self {
        let database = Database::create().await;
        let parsed = kindler::core::database::Database::parse(&database.url()).expect("a URL");
        store::migrate(&parsed).await.expect("migrate");
        let home = Home::new().with("KINDLER_DATABASE_URL", database.url());
        Self { database, home }
    }

    pub async fn run(&self, args: &[&str]) -> Said {
        self.home.run(args).await
    }

    /// Writes a status as the reconciler would.
    pub async fn status(&self, name: &str, assignments: &str) {
        let sql = format!(
            "UPDATE clusters SET last_reconciled_at = clock_timestamp(), {assignments} \
             WHERE name = '{name}'"
        );
        self.database.execute(&sql).await;
    }

    /// Writes that what is declared was reached.
    pub async fn reached(&self, name: &str, actual: &str) {
        let settled = format!(
            "actual_state = '{actual}', observed_generation = generation, \
             observed_spec_hash = spec_hash, failed_attempts = 0, status_message = 'as declared'"
        );
        self.status(name, &settled).await;
    }

    /// Changes what the triggers would refuse.
    pub async fn force(&self, sql: &str) {
        let sql = format!("SET session_replication_role = replica; {sql}");
        self.database.execute(&sql).await;
    }

    /// A daemon that was heard of so many seconds ago.
    pub async fn daemon(&self, host: &str, silent_seconds: u32, listening: bool) {
        let sql = format!(
            "INSERT INTO kindler_replicas (owner, host, pid, version, listen, listening, seen_at) \
             VALUES ('{host}-1', '{host}', 4711, '0.1.0', '127.0.0.1:8080', {listening}, \
                     now() - interval '{silent_seconds} s')"
        );
        self.database.execute(&sql).await;
    }

    /// Makes a daemon stand aside, as a later schema does.
    pub async fn stands_aside(&self, host: &str) {
        let sql = format!(
            "UPDATE kindler_replicas SET aside = true, notice = 'the schema is newer' \
             WHERE host = '{host}'"
        );
        self.database.execute(&sql).await;
    }

    pub async fn desired(&self, name: &str) -> String {
        let sql = format!("SELECT desired_state FROM clusters WHERE name = '{name}'");
        self.database.value(&sql).await
    }
}
