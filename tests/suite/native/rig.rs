//! A daemon with the native driver, and the engine as its tests see it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use crate::kit::{
    ClaimedPort, Daemon, DaemonBuilder, Database, Host, Sql, TIMEOUT, claim_port, eventually,
    migrated,
};

/// The folder of the stand-ins, or of the real tools.
pub fn tools() -> String {
    let stand_ins = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine/bin");
    std::env::var("KINDLER_TEST_TOOLS").unwrap_or_else(|_| stand_ins.to_owned())
}

pub struct NativeRig {
    pub database: Database,
    pub host: Host,
    /// Unique to the test, because all tests share the engine.
    pub name: String,
    http: ClaimedPort,
    https: ClaimedPort,
}

/// What a row showed last, for the output of a test that fails.
#[derive(Default)]
struct LastShown(Mutex<String>);

impl Drop for LastShown {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("it shows: {}", self.0.lock().unwrap());
        }
    }
}

pub fn engine() -> String {
    std::env::var("KINDLER_TEST_ENGINE").expect("make test-engine starts an engine")
}

/// The output of the `docker` command; what fails prints nothing.
pub fn docker(args: &[&str]) -> String {
    let output = Command::new("docker")
        .env("DOCKER_HOST", engine())
        .args(args)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs a tool by hand, as a person would.
pub fn tool(name: &str, args: &[&str]) {
    let path = format!("{}/{name}", tools());
    let ended = Command::new(path)
        .env("DOCKER_HOST", engine())
        .args(args)
        .status()
        .unwrap();
    assert!(ended.success(), "{name} {args:?}");
}

impl NativeRig {
    pub async fn new(name: &str) -> Self {
        Self {
            database: migrated().await,
            host: Host::new(),
            name: name.to_owned(),
            http: claim_port(),
            https: claim_port(),
        }
    }

    /// A daemon with the native driver, not started yet.
    pub fn builder(&self) -> DaemonBuilder {
        let path = std::env::var("PATH").unwrap();
        Daemon::builder(&self.database.url(), &self.host)
            .set("KINDLER_DRIVER", "native")
            .set("KINDLER_NODE_CPUS", "1.5")
            .set("KINDLER_NODE_MEMORY", "600m")
            .set("KINDLER_IMAGES", "kindler-preload:1")
            .set("DOCKER_HOST", engine())
            .set("PATH", format!("{}:{path}", tools()))
    }

    pub async fn start(&self) -> Daemon {
        self.builder().start().await
    }

    /// Declares the cluster.
    pub async fn declare(&self, provider: &str) {
        let (name, http, https) = (&self.name, self.http.number, self.https.number);
        let insert = format!(
            "INSERT INTO clusters (name, provider, http_port, https_port)
             VALUES ('{name}', '{provider}', {http}, {https})"
        );
        self.database.run(&insert).await;
    }

    pub fn http(&self) -> u16 {
        self.http.number
    }

    pub fn https(&self) -> u16 {
        self.https.number
    }

    pub async fn desire(&self, desired: &str) {
        let name = &self.name;
        let update =
            format!("UPDATE clusters SET desired_state = '{desired}' WHERE name = '{name}'");
        self.database.run(&update).await;
    }

    /// State, reason and message of the row.
    pub async fn shown(&self) -> String {
        let columns =
            "concat_ws(' | ', actual_state, status_reason, status_message, reconcile_error)";
        let query = format!(
            "SELECT {columns} FROM clusters WHERE name = '{}'",
            self.name
        );
        self.database.text(&query).await
    }

    /// Waits until what the row shows contains this.
    pub async fn wait_shown(&self, wanted: &str) {
        let what = format!("{} shows {wanted}", self.name);
        let last = LastShown::default();
        eventually(TIMEOUT, &what, || async {
            let shown = self.shown().await;
            let is_shown = shown.contains(wanted);
            *last.0.lock().unwrap() = shown;
            is_shown.then_some(())
        })
        .await;
    }

    pub async fn wait_running(&self) {
        self.wait_shown("running | ").await;
    }

    /// Waits until the row is gone.
    pub async fn wait_removed(&self) {
        let query = format!("SELECT count(*) FROM clusters WHERE name = '{}'", self.name);
        eventually(TIMEOUT, "the row removed", || async {
            self.database.number(&query).await == 0
        })
        .await;
    }

    /// The containers of the cluster with their states, sorted.
    pub fn containers(&self) -> Vec<String> {
        let filter = format!("name={}", self.name);
        let format = "{{.Names}} {{.State}}";
        let listed = docker(&["ps", "-a", "--filter", &filter, "--format", format]);
        let mut listed: Vec<String> = listed.lines().map(str::to_owned).collect();
        listed.sort();
        listed
    }

    /// Waits until a step has this state, and returns its message.
    pub async fn wait_step(&self, step: &str, state: &str) -> String {
        let query = format!(
            "SELECT coalesce(max(s.message), '') FROM cluster_steps s JOIN clusters c USING (uid)
             WHERE c.name = '{}' AND s.name = '{step}' AND s.state = '{state}'",
            self.name
        );
        let what = format!("step {step} of {} {state}", self.name);
        eventually(TIMEOUT, &what, || async {
            let message = self.database.text(&query).await;
            (!message.is_empty()).then_some(message)
        })
        .await
    }

    /// Starts a check of the cluster at once.
    pub async fn check(&self) {
        let update = format!(
            "UPDATE clusters SET retry_requested_at = clock_timestamp() WHERE name = '{}'",
            self.name
        );
        self.database.run(&update).await;
    }

    /// The output of a shell text in a container.
    pub fn shell(&self, container: &str, text: &str) -> String {
        docker(&["exec", container, "/bin/sh", "-c", text])
    }

    /// The name of the server's container.
    pub fn server(&self) -> String {
        format!("k3d-{}-server-0", self.name)
    }

    /// The folder in which the driver records the cluster.
    pub fn folder(&self) -> PathBuf {
        self.host.state_dir().join("native").join(&self.name)
    }
}
