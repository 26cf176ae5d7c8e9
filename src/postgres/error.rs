//! What can go wrong with the embedded Postgres.
//!
//! Each message names the operation and its subject and says what a person can do about it.
//! This module only words failures; it must not decide what follows from them.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A failure of the embedded Postgres.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// A file or folder of the state folder refused an operation.
    #[error("could not {operation} {}", path.display())]
    File {
        /// What was attempted, as a verb phrase: "create", "read".
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The answer of the operating system.
        #[source]
        source: io::Error,
    },

    /// Another Kindler holds the state folder.
    #[error("another kindler already runs with the state folder {}: PID {pid}", state_dir.display())]
    AlreadyRunning {
        /// The folder both want.
        state_dir: PathBuf,
        /// The holder's process id, or a word for not knowing it.
        pid: String,
    },

    /// No server binaries of a supported version are installed.
    #[error(
        "found no Postgres server binaries of version {oldest} or newer; looked in: {looked_in}. \
         Install the package `postgresql`, or name the folder that holds `postgres` and `initdb`"
    )]
    NoBinaries {
        /// The oldest version that will do.
        oldest: u32,
        /// The folders and the versions found there, for a person.
        looked_in: String,
    },

    /// The data needs a version that is not installed.
    #[error(
        "the data in {} was made by Postgres {needed}, whose server binaries were not found \
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

    /// The data folder exists, but is none.
    #[error(
        "{} is not a Postgres data folder (no readable PG_VERSION); move it away to start anew",
        data_dir.display()
    )]
    NotADataFolder {
        /// The folder.
        data_dir: PathBuf,
    },

    /// Root may not run Postgres, and there is nobody to run it instead.
    #[error(
        "Postgres refuses to run as root, and neither the user `postgres` nor `nobody` exists; \
         create one, or run kindler as an ordinary user"
    )]
    NoAccount,

    /// The data belongs to another user than the one who runs Kindler.
    #[error(
        "{} belongs to the user {owner}, but kindler runs as {current}; \
         run it as {owner} (or as root), or choose another state folder",
        data_dir.display()
    )]
    ForeignData {
        /// The data folder.
        data_dir: PathBuf,
        /// Its owner.
        owner: String,
        /// Who runs Kindler.
        current: String,
    },

    /// The user who runs Postgres cannot reach a folder.
    #[error(
        "the user {user}, who runs Postgres for root, may not enter {}, and so cannot reach {}; \
         choose another state folder, or let that user in: chmod o+x {}",
        folder.display(), wanted.display(), folder.display()
    )]
    Unreachable {
        /// The first folder on the way that is closed.
        folder: PathBuf,
        /// What lies behind it.
        wanted: PathBuf,
        /// The user.
        user: String,
    },

    /// The folder for the socket is not ours to use.
    #[error(
        "{} should be a private folder for the database socket, but is owned by someone else; \
         remove it, or set TMPDIR to another folder",
        socket_dir.display()
    )]
    ForeignSocketFolder {
        /// The folder.
        socket_dir: PathBuf,
    },

    /// A program could not be started.
    #[error("could not run {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The answer of the operating system.
        #[source]
        source: io::Error,
    },

    /// The data folder could not be made.
    #[error("initdb could not make {} ({outcome}):\n{output}", data_dir.display())]
    Initdb {
        /// The data folder.
        data_dir: PathBuf,
        /// How it ended.
        outcome: String,
        /// The last lines it said.
        output: String,
    },

    /// The server ended before it accepted a connection.
    #[error("Postgres ended while starting ({outcome}); the end of {}:\n{tail}", log.display())]
    Died {
        /// How it ended.
        outcome: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of this start.
        tail: String,
    },

    /// The server runs, but did not accept a connection in time.
    #[error(
        "Postgres accepted no connection within {} s; the end of {}:\n{tail}",
        waited.as_secs(), log.display()
    )]
    NotReady {
        /// How long it had.
        waited: Duration,
        /// Its log.
        log: PathBuf,
        /// The last lines of this start.
        tail: String,
        /// The last refusal, if there was one.
        #[source]
        source: Option<tokio_postgres::Error>,
    },

    /// An older server on the same data does not end.
    #[error("the Postgres processes {pids} of an earlier run still use {}", data_dir.display())]
    StillRunning {
        /// The data folder.
        data_dir: PathBuf,
        /// Their process ids.
        pids: String,
    },

    /// The server was told to stop while it started.
    #[error("Postgres was told to stop before it was ready")]
    StoppedWhileStarting,

    /// The running server refused to make the database.
    #[error("could not {operation} the database {database}")]
    Database {
        /// What was attempted.
        operation: &'static str,
        /// The database.
        database: String,
        /// The server's answer.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// Gives an I/O failure its operation and subject.
pub(super) trait Subject<T> {
    /// Names what was attempted, and on which path.
    fn naming(self, operation: &'static str, path: impl Into<PathBuf>) -> Result<T, PostgresError>;
}

impl<T> Subject<T> for io::Result<T> {
    fn naming(self, operation: &'static str, path: impl Into<PathBuf>) -> Result<T, PostgresError> {
        self.map_err(|source| PostgresError::File {
            operation,
            path: path.into(),
            source,
        })
    }
}
