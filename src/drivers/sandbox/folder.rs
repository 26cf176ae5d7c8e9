//! The folder of one sandbox cluster, and what it says about its node.
//!
//! Small files, read and written whole. This module must not start or signal processes; it only
//! asks whether the recorded one runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::SandboxError;
use super::process::ProcessIdentity;

/// The node's last words are here.
pub(super) const NODE_LOG: &str = "node.log";
const RECORD: &str = "node.json";
const STOPPED: &str = "stopped";

/// `node.json`: which process is the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The node's process.
    #[serde(flatten)]
    pub process: ProcessIdentity,
    /// The port of 127.0.0.1 that it listens on.
    pub port: u16,
    /// What the row says; a sandbox cluster is of neither provider.
    pub provider: String,
    /// The identity of the row that it was last applied for. None in the record
    /// of an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uuid>,
    /// The generation that was last applied.
    pub generation: i64,
    /// When the cluster was first made; kept over stops and starts.
    pub created_at: Timestamp,
    /// For people who find the file.
    pub about: String,
}

/// What a folder shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Absent,
    /// The recorded process runs.
    Running(Record),
    /// It does not, and should not.
    Stopped,
    /// It does not, but should.
    Dead(Record),
    /// A create did not get as far as a record, or the record is damaged; the text says which.
    HalfMade(String),
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

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Looks without changing anything. What cannot be read is an error, never an absence.
    pub(super) fn look(&self) -> Result<Sight, SandboxError> {
        match fs::symlink_metadata(&self.path) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => {
                let source = io::ErrorKind::NotADirectory.into();
                return Err(self.trouble("read sandbox folder", &self.path, source));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Sight::Absent),
            Err(error) => return Err(self.trouble("read sandbox folder", &self.path, error)),
        }
        let record = match self.record()? {
            Some(Ok(record)) => record,
            Some(Err(damage)) => {
                return Ok(Sight::HalfMade(format!(
                    "its {RECORD} is damaged: {damage}"
                )));
            }
            None => return Ok(Sight::HalfMade("its create did not finish".into())),
        };
        if record.process.runs() {
            Ok(Sight::Running(record))
        } else if self.is_marked_stopped()? {
            Ok(Sight::Stopped)
        } else {
            Ok(Sight::Dead(record))
        }
    }

    /// The record, if there is one, as far as it can be understood.
    pub(super) fn record(&self) -> Result<Option<Result<Record, serde_json::Error>>, SandboxError> {
        let file = self.file(RECORD);
        // Read only what ends: a pipe in its place would block the thread.
        let read = || match fs::symlink_metadata(&file)?.is_file() {
            true => fs::read(&file),
            false => Err(io::Error::other("not a regular file")),
        };
        match read() {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.trouble("read", &file, error)),
        }
    }

    /// Replaces the record as a whole: a reader sees the one before or this one.
    pub(super) fn write_record(&self, record: &Record) -> Result<(), SandboxError> {
        let (file, draft) = (self.file(RECORD), self.file("node.json.new"));
        let write = || {
            let mut text = serde_json::to_vec_pretty(record)?;
            text.push(b'\n');
            fs::write(&draft, text)?;
            fs::rename(&draft, &file)
        };
        write().map_err(|error| self.trouble("write", &file, error))
    }

    pub(super) fn create(&self) -> Result<(), SandboxError> {
        fs::create_dir_all(&self.path)
            .map_err(|error| self.trouble("create sandbox folder", &self.path, error))
    }

    /// Removes it with all it holds. Nothing to remove is no trouble.
    pub(super) fn remove(&self) -> Result<(), SandboxError> {
        unless_missing(fs::remove_dir_all(&self.path))
            .map_err(|error| self.trouble("remove sandbox folder", &self.path, error))
    }

    pub(super) fn mark_stopped(&self) -> Result<(), SandboxError> {
        let file = self.file(STOPPED);
        fs::write(&file, "").map_err(|error| self.trouble("write", &file, error))
    }

    pub(super) fn unmark_stopped(&self) -> Result<(), SandboxError> {
        let file = self.file(STOPPED);
        unless_missing(fs::remove_file(&file)).map_err(|error| self.trouble("remove", &file, error))
    }

    fn is_marked_stopped(&self) -> Result<bool, SandboxError> {
        let file = self.file(STOPPED);
        file.try_exists()
            .map_err(|error| self.trouble("read", &file, error))
    }

    fn trouble(&self, operation: &'static str, path: &Path, source: io::Error) -> SandboxError {
        let path = path.to_owned();
        SandboxError::Files {
            operation,
            path,
            source,
        }
    }
}

fn unless_missing(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
