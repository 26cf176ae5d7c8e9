//! The folder of one sandbox cluster and the record of its node.
//!
//! Its files are small, and read and written as a whole. The daemon does that by
//! [`Folder::in_time`]: a folder that does not answer must not block its workers. This module must
//! not start or signal processes; it only checks whether the recorded process runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::command::FileThread;

use super::error::SandboxError;
use super::process::ProcessIdentity;

/// The stderr of the node.
pub(super) const NODE_LOG: &str = "node.log";
const RECORD: &str = "node.json";
const STOPPED: &str = "stopped";

/// `node.json`: the process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The process of the node.
    #[serde(flatten)]
    pub process: ProcessIdentity,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// The provider of the row, for information.
    pub provider: String,
    /// The UID of the row that was last applied. None in a record of an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uuid>,
    /// The generation that was last applied.
    pub generation: i64,
    /// When the cluster was created; kept when it is stopped and started.
    pub created_at: Timestamp,
    /// An explanation for people who find the file.
    pub about: String,
}

/// The state of a cluster by its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FolderState {
    Absent,
    /// The recorded process runs.
    Running(NodeRecord),
    /// The process does not run, and is marked as stopped.
    Stopped,
    /// The process does not run, but is not marked as stopped.
    Dead(NodeRecord),
    /// There is no valid record: a create did not finish, or the record is damaged, as the text
    /// says.
    Incomplete(String),
}

/// A folder that may or may not exist.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs operations on files of the sandbox within a deadline, on the thread for them.
    pub(super) async fn in_time<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, SandboxError> + Send + 'static,
    ) -> Result<T, SandboxError> {
        let folder = self.clone();
        let done = sandbox_files().run(move || work(&folder)).await;
        done.unwrap_or_else(|late| Err(self.file_error("use sandbox folder", &self.path, late)))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads the state. What cannot be read is an error, never an absence.
    pub(super) fn state(&self) -> Result<FolderState, SandboxError> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                let source = io::ErrorKind::NotADirectory.into();
                return Err(self.file_error("read sandbox folder", &self.path, source));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(FolderState::Absent);
            }
            Err(error) => return Err(self.file_error("read sandbox folder", &self.path, error)),
        }
        let record = match self.record()? {
            Some(Ok(record)) => record,
            Some(Err(damage)) => {
                return Ok(FolderState::Incomplete(format!(
                    "its {RECORD} is damaged: {damage}"
                )));
            }
            None => return Ok(FolderState::Incomplete("its create did not finish".into())),
        };
        if record.process.runs() {
            Ok(FolderState::Running(record))
        } else if self.is_marked_stopped()? {
            Ok(FolderState::Stopped)
        } else {
            Ok(FolderState::Dead(record))
        }
    }

    /// The record, if there is one, or why it cannot be parsed.
    pub(super) fn record(
        &self,
    ) -> Result<Option<Result<NodeRecord, serde_json::Error>>, SandboxError> {
        let file = self.file(RECORD);
        // Read only what ends: a pipe in its place would block the thread.
        match regular(&file).and_then(|()| fs::read(&file)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.file_error("read", &file, error)),
        }
    }

    /// Replaces the record atomically: a reader sees the old or the new one.
    pub(super) fn write_record(&self, record: &NodeRecord) -> Result<(), SandboxError> {
        let (file, draft) = (self.file(RECORD), self.file("node.json.new"));
        let write = || {
            let mut text = serde_json::to_vec_pretty(record)?;
            text.push(b'\n');
            regular(&draft)?;
            fs::write(&draft, text)?;
            fs::rename(&draft, &file)
        };
        write().map_err(|error| self.file_error("write", &file, error))
    }

    pub(super) fn create(&self) -> Result<(), SandboxError> {
        fs::create_dir_all(&self.path)
            .map_err(|error| self.file_error("create sandbox folder", &self.path, error))
    }

    /// Removes the folder with its contents, if it exists.
    pub(super) fn remove(&self) -> Result<(), SandboxError> {
        unless_missing(fs::remove_dir_all(&self.path))
            .map_err(|error| self.file_error("remove sandbox folder", &self.path, error))
    }

    pub(super) fn mark_stopped(&self) -> Result<(), SandboxError> {
        let file = self.file(STOPPED);
        let written = regular(&file).and_then(|()| fs::write(&file, ""));
        written.map_err(|error| self.file_error("write", &file, error))
    }

    pub(super) fn unmark_stopped(&self) -> Result<(), SandboxError> {
        let file = self.file(STOPPED);
        unless_missing(fs::remove_file(&file))
            .map_err(|error| self.file_error("remove", &file, error))
    }

    fn is_marked_stopped(&self) -> Result<bool, SandboxError> {
        let file = self.file(STOPPED);
        file.try_exists()
            .map_err(|error| self.file_error("read", &file, error))
    }

    fn file_error(&self, operation: &'static str, path: &Path, source: io::Error) -> SandboxError {
        let path = path.to_owned();
        SandboxError::Files {
            operation,
            path,
            source,
        }
    }
}

/// The thread of the sandbox's files. Those of the daemon have another one: they do not wait for
/// thousands of sandbox clusters.
pub(super) fn sandbox_files() -> &'static FileThread {
    static FILES: LazyLock<FileThread> = LazyLock::new(|| FileThread::start("sandbox folder"));
    &FILES
}

/// Rejects a pipe or a device in the place of a file: opening it would block the thread.
pub(super) fn regular(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::other("not a regular file")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn unless_missing(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
