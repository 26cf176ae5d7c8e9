//! Errors of the sandbox driver.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

use crate::clusters::plan::Action;
use crate::duration::compact;

/// Each variant names the operation and its subject. A retry may succeed for all of them.
#[derive(Debug, Error)]
pub(super) enum SandboxError {
    #[error("cannot {operation} {}", path.display())]
    Files {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("http_port {port} is already in use by {holder}")]
    PortTaken { port: u16, holder: String },
    #[error("cannot start sandbox node {}", program.display())]
    NodeStart {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the sandbox node did not start ({status}): {message}")]
    NodeEnded { status: ExitStatus, message: String },
    #[error("the sandbox node was not ready within {}", compact(*.0))]
    NodeTimeout(Duration),
    #[error("the sandbox node was started, but {0}")]
    NotAnswering(String),
    #[error("process {pid} of the sandbox node does not end")]
    NotKilled { pid: i32 },
    #[error("a process of the sandbox node still uses the removed folder {}", path.display())]
    FolderInUse { path: PathBuf },
    #[error("there is no sandbox cluster to start")]
    NothingToStart,
    #[error("the sandbox failed on purpose: {0}")]
    OnPurpose(&'static str),
    /// `setting`: that of the deadline, with its value.
    #[error("the sandbox {} was stopped at its deadline ({setting})", action.as_str())]
    Late { action: Action, setting: String },
}

impl SandboxError {
    pub(super) fn files(operation: &'static str, path: PathBuf, source: io::Error) -> Self {
        Self::Files {
            operation,
            path,
            source,
        }
    }
}
