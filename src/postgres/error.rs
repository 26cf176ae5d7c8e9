//! Why the private Postgres server cannot be used.
//!
//! Each message names the operation and its subject, and says what a person can do about it.

use std::io;
use std::path::PathBuf;

/// A failure of the private Postgres server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// An operation on a file, a folder or a program failed.
    #[error("could not {operation} {}", path.display())]
    File {
        /// What was attempted, as a verb phrase: "create", "read", "run".
        operation: &'static str,
        /// The file, folder or program.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },

    /// Another Kindler uses the state folder.
    #[error("another kindler already runs with the state folder {}: PID {pid}", state_dir.display())]
    AlreadyRunning {
        /// The state folder.
        state_dir: PathBuf,
        /// The other process, or "unknown".
        pid: String,
    },

    /// The Postgres version that made the data is not installed.
    #[error(
        "the data in {} was made by Postgres {needed}, whose server programs were not found \
         (found: {found}). Install Postgres {needed} (on Debian and Ubuntu: the package \
         `postgresql-{needed}`), or move that folder away to start with an empty database",
        data_dir.display()
    )]
    WrongVersion {
        /// The data folder.
        data_dir: PathBuf,
        /// The version that made it.
        needed: u32,
        /// The versions that are installed, for a person.
        found: String,
    },

    /// The user who runs Postgres cannot enter a folder.
    #[error(
        "the user {user}, who runs Postgres for root, may not enter {}, and so cannot reach {}; \
         choose another state folder, or let that user in: chmod o+x {}",
        folder.display(), wanted.display(), folder.display()
    )]
    Unreachable {
        /// The first folder on the path that the user may not enter.
        folder: PathBuf,
        /// The path.
        wanted: PathBuf,
        /// The user.
        user: String,
    },

    /// The host or the state folder does not allow a server; the text says what to change.
    #[error("{0}")]
    Unusable(String),

    /// `pg_ctl` could not start the server, or not in time.
    #[error("pg_ctl could not start Postgres; the end of {}:\n{tail}", log.display())]
    NotStarted {
        /// The log of the server and of `pg_ctl`.
        log: PathBuf,
        /// The last lines of this start.
        tail: String,
    },

    /// The running server refused to make the database.
    #[error("could not find or create the database {}", super::DATABASE)]
    Database(#[source] tokio_postgres::Error),
}

/// Adds the operation and the path to an I/O error.
pub(super) trait FileContext<T> {
    /// Names what was attempted on which path.
    fn context(self, operation: &'static str, path: impl Into<PathBuf>)
    -> Result<T, PostgresError>;
}

impl<T> FileContext<T> for io::Result<T> {
    fn context(
        self,
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> Result<T, PostgresError> {
        self.map_err(|source| PostgresError::File {
            operation,
            path: path.into(),
            source,
        })
    }
}
