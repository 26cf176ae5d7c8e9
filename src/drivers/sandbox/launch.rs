//! Starts a node, waits until it reports that it listens, and reaps it when it ends. This module
//! must not decide whether a node should run.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::clusters::Cluster;
use crate::command::clean_line;

use super::super::port;
use super::SandboxSettings;
use super::error::SandboxError;
use super::folder::{Folder, NODE_LOG, regular};
use super::node::{PORT_TAKEN, READY};

/// How long a node may take to report that it is ready. It needs a few milliseconds, but much
/// longer on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(15);
/// The longest report, in bytes.
const REPORT_BYTES: u64 = 2048;

/// Starts the node of a cluster in its folder, which must exist and in which no node runs. If the
/// future is dropped, the node is killed.
pub(super) async fn launch(
    settings: &SandboxSettings,
    cluster: &Cluster,
    folder: &Folder,
) -> Result<(), SandboxError> {
    let mut node = StartingNode(Some(start(settings, cluster, folder).await?));
    let report = timeout(START_WITHIN, node.report()).await;
    let report = report.map_err(|_late| SandboxError::NodeTimeout(START_WITHIN))?;
    if report == READY {
        node.detach();
        return Ok(());
    }
    // It has closed its stdout, so it is about to end.
    let status = timeout(START_WITHIN, node.ended()).await;
    let status = status.map_err(|_late| SandboxError::NodeTimeout(START_WITHIN))?;
    if status.code() == Some(i32::from(PORT_TAKEN)) {
        return Err(port_taken(cluster.spec.http_port.get()).await);
    }
    let message = report;
    Err(SandboxError::NodeEnded { status, message })
}

/// The error for a port that is in use, with its user.
pub(super) async fn port_taken(port: u16) -> SandboxError {
    let holder = tokio::task::spawn_blocking(move || port::listener_name(port)).await;
    SandboxError::PortTaken {
        port,
        holder: holder.unwrap_or_else(|_| "another process".to_owned()),
    }
}

async fn start(
    settings: &SandboxSettings,
    cluster: &Cluster,
    folder: &Folder,
) -> Result<Child, SandboxError> {
    let program = &settings.node_program;
    // The node's working directory is `/`, so its arguments need absolute paths.
    let dir = std::path::absolute(folder.path()).map_err(|source| SandboxError::Files {
        operation: "find sandbox folder",
        path: folder.path().to_owned(),
        source,
    })?;
    let log_dir = dir.clone();
    let log = folder.in_time(move |_| open_log(&log_dir)).await?;
    let spawned = Command::new(program)
        // The name in ps, where the default program would be called "exe".
        .arg0("kindler")
        .arg("sandbox-node")
        .args(["--name", cluster.name.as_str()])
        .args(["--port", &cluster.spec.http_port.to_string()])
        .arg("--dir")
        .arg(&dir)
        .args(["--provider", cluster.spec.provider.as_str()])
        .args(["--uid", &cluster.uid.to_string()])
        .args(["--generation", &cluster.generation.to_string()])
        // The node outlives the daemon and must not get its secrets.
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn();
    spawned.map_err(|source| SandboxError::NodeStart {
        program: program.clone(),
        source,
    })
}

fn open_log(dir: &Path) -> Result<File, SandboxError> {
    let path = dir.join(NODE_LOG);
    // Truncated for each node, so it stays small: a node writes one or two lines.
    let created = regular(&path).and_then(|()| File::create(&path));
    created.map_err(|source| SandboxError::Files {
        operation: "create",
        path,
        source,
    })
}

/// A node that has not reported yet that it is ready. Dropping it kills the node.
struct StartingNode(Option<Child>);

impl StartingNode {
    /// The first line of its stdout, or less if it dies.
    async fn report(&mut self) -> String {
        let mut line = Vec::new();
        if let Some(stdout) = self.0.as_mut().and_then(|child| child.stdout.take()) {
            let mut bytes = BufReader::new(stdout).take(REPORT_BYTES);
            while let Ok(byte) = bytes.read_u8().await {
                if byte == b'\n' {
                    break;
                }
                line.push(byte);
            }
        }
        clean_line(&line)
    }

    async fn ended(&mut self) -> ExitStatus {
        match &mut self.0 {
            Some(child) => child.wait().await.unwrap_or_default(),
            None => ExitStatus::from_raw(0),
        }
    }

    /// Leaves the node running. This daemon is its parent and must reap it.
    fn detach(mut self) {
        if let Some(child) = self.0.take() {
            reap_later(child);
        }
    }
}

impl Drop for StartingNode {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _gone = child.start_kill();
            reap_later(child);
        }
    }
}

/// Waits for the end of a process, so that it does not stay a zombie.
fn reap_later(mut child: Child) {
    tokio::spawn(async move {
        let ended = child.wait().await;
        tracing::debug!(?ended, "a sandbox node ended");
    });
}
