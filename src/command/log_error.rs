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
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The log could not be opened.
    #[error("cannot open log {}", path.display())]
    Open {
        /// The log.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The log could not be written.
    #[error("cannot write log {}", path.display())]
    Write {
        /// The log.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The full log could not be rotated.
    #[error("cannot rotate log {}", path.display())]
    Rotate {
        /// The log.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file system did not answer in time.
    #[error("the file system of log {} did not answer in time", path.display())]
    Late {
        /// The log.
        path: PathBuf,
    },
    /// Another row of the same name owns the log now.
    #[error("log {} now belongs to another row", path.display())]
    Taken {
        /// The log.
        path: PathBuf,
    },
    /// The log could not be read.
    #[error("cannot read log {}", path.display())]
    Read {
        /// The log.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}
