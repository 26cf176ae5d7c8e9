//! Starts a node, waits until it has said that it listens, and sees to it that it leaves no
//! zombie. This module must not decide whether a node should run.

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

use super::error::SandboxError;
use super::folder::{Folder, NODE_LOG};
use super::node::{PORT_TAKEN, READY};
use super::{SandboxSettings, port};

/// How long a node may take from its start to its word. It needs a few milliseconds; a busy
/// machine may need a thousand times that.
const COMING_UP: Duration = Duration::from_secs(15);
/// The bound on that word, in bytes.
const WORD_BYTES: u64 = 2048;

/// Starts the node of a cluster in its folder, which exists and in which nothing runs. Dropped
/// before its end, it ends the node too.
pub(super) async fn launch(
    settings: &SandboxSettings,
    cluster: &Cluster,
    folder: &Folder,
) -> Result<(), SandboxError> {
    let mut newborn = Newborn(Some(start(settings, cluster, folder)?));
    let word = timeout(COMING_UP, newborn.word()).await;
    let word = word.map_err(|_late| SandboxError::NodeSilent(COMING_UP))?;
    if word == READY {
        newborn.grow_up();
        return Ok(());
    }
    // It has closed its end, so it is on its way out.
    let status = timeout(COMING_UP, newborn.ended()).await;
    let status = status.map_err(|_late| SandboxError::NodeSilent(COMING_UP))?;
    if status.code() == Some(i32::from(PORT_TAKEN)) {
        return Err(taken(cluster.spec.http_port.get()).await);
    }
    Err(SandboxError::NodeEnded { status, said: word })
}

/// The error for a port that is taken, with its taker.
pub(super) async fn taken(port: u16) -> SandboxError {
    let holder = tokio::task::spawn_blocking(move || port::holder(port)).await;
    SandboxError::PortTaken {
        port,
        holder: holder.unwrap_or_else(|_| "another process".to_owned()),
    }
}

fn start(
    settings: &SandboxSettings,
    cluster: &Cluster,
    folder: &Folder,
) -> Result<Child, SandboxError> {
    let program = &settings.node_program;
    // The node moves to `/`, so what it is told must not depend on the place.
    let dir = std::path::absolute(folder.path()).map_err(|source| SandboxError::Files {
        operation: "find sandbox folder",
        path: folder.path().to_owned(),
        source,
    })?;
    let log = open_log(&dir)?;
    let spawned = Command::new(program)
        // Shown by ps, where the default program would be called "exe".
        .arg0("kindler")
        .arg("sandbox-node")
        .args(["--name", cluster.name.as_str()])
        .args(["--port", &cluster.spec.http_port.to_string()])
        .arg("--dir")
        .arg(&dir)
        .args(["--provider", cluster.spec.provider.as_str()])
        .args(["--uid", &cluster.uid.to_string()])
        .args(["--generation", &cluster.generation.to_string()])
        // It outlives the daemon; nothing of the daemon's secrets shall.
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
    // Begun anew with each node, so it is bounded: a node says a line or two.
    File::create(&path).map_err(|source| SandboxError::Files {
        operation: "create",
        path,
        source,
    })
}

/// A node that has not said yet that it is ready; dropped, it is ended.
struct Newborn(Option<Child>);

impl Newborn {
    /// What it says on its stdout: one line, or less when it dies.
    async fn word(&mut self) -> String {
        let mut word = Vec::new();
        if let Some(stdout) = self.0.as_mut().and_then(|child| child.stdout.take()) {
            let mut bytes = BufReader::new(stdout).take(WORD_BYTES);
            while let Ok(byte) = bytes.read_u8().await {
                if byte == b'\n' {
                    break;
                }
                word.push(byte);
            }
        }
        clean_line(&word)
    }

    async fn ended(&mut self) -> ExitStatus {
        match &mut self.0 {
            Some(child) => child.wait().await.unwrap_or_default(),
            None => ExitStatus::from_raw(0),
        }
    }

    /// It lives on by itself. While this daemon lives, it is the parent and has to collect it.
    fn grow_up(mut self) {
        if let Some(child) = self.0.take() {
            collect_later(child);
        }
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _gone = child.start_kill();
            collect_later(child);
        }
    }
}

/// A process that has ended stays a zombie until its parent asks how.
fn collect_later(mut child: Child) {
    tokio::spawn(async move {
        let ended = child.wait().await;
        tracing::debug!(?ended, "a sandbox node ended");
    });
}
