//! Why a log cannot be written or read. Plain values.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why the log of a cluster cannot be written or read.
#[derive(Debug, Error)]
pub enum LogError {
    /// The folder of the logs could not be made.
    #[error("cannot create log folder {}", path.display())]
    CreateDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The log could not be opened.
    #[error("cannot open log {}", path.display())]
    Open {
        /// The log.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The log could not be written.
    #[error("cannot write log {}", path.display())]
    Write {
        /// The log.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The full log could not be set aside.
    #[error("cannot rotate log {}", path.display())]
    Rotate {
        /// The log.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another row of the same name writes its log there by now.
    #[error("log {} belongs to another row by now", path.display())]
    Taken {
        /// The log.
        path: PathBuf,
    },
    /// The log could not be read.
    #[error("cannot read log {}", path.display())]
    Read {
        /// The log.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
