//! Why the embedded Postgres server cannot be used, and what a person can do about it.

use std::io;
use std::path::Path;

/// A failure of the embedded Postgres server. The texts name what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// Another Kindler uses the state folder.
    #[error("{0}")]
    AlreadyRunning(String),
    /// The Postgres version that made the data is not installed.
    #[error("{0}")]
    WrongVersion(String),
    /// The user who runs Postgres may not enter a folder.
    #[error("{0}")]
    Unreachable(String),
    /// A file, folder, program or account is missing or cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// The server did not start, or not in time.
    #[error("{0}")]
    NotStarted(String),
}

/// Adds the operation, as a verb, and the path to an I/O error.
pub(super) fn failed(operation: &str, path: &Path) -> impl FnOnce(io::Error) -> PostgresError {
    let attempt = format!("could not {operation} {}", path.display());
    move |error| PostgresError::Unusable(format!("{attempt}: {error}"))
}
