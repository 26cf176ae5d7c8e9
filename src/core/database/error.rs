//! Why the database did not answer, or not with what was asked for.

use std::error::Error;
use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum NoConnection {
    /// The server or the network refused it.
    #[error(transparent)]
    Refused(tokio_postgres::Error),
    /// The pool has none to give.
    #[error("the pool has no connection to give")]
    Pool(#[source] PoolError),
    /// It was refused a moment ago, for this reason, and not tried again yet.
    #[error("{0}")]
    Lately(String),
}

impl From<PoolError> for NoConnection {
    fn from(error: PoolError) -> Self {
        match error {
            // The pool only wraps what the connection says.
            PoolError::Backend(error) => Self::Refused(error),
            other => Self::Pool(other),
        }
    }
}

/// Why a row cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// A column is missing or of another type.
    #[error("column {column} cannot be read")]
    Column {
        /// Its name.
        column: &'static str,
        /// What the database driver says.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A column holds a value that the type behind it refuses.
    #[error(transparent)]
    Value(Box<dyn Error + Send + Sync>),
}

impl Undecodable {
    /// A value that a type refused, with the type's own message.
    pub fn value(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Value(Box::new(error))
    }
}

/// Why a call did not answer.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No connection could be had.
    #[error("{operation}: the database cannot be reached")]
    Unreachable {
        /// What was wanted.
        operation: &'static str,
        /// Why not.
        #[source]
        source: NoConnection,
    },
    /// The session ended, or its server does not let us write any more.
    #[error("{operation}: the database cannot be reached over this session any more")]
    Lost {
        /// What was wanted.
        operation: &'static str,
        /// The session's last error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The statement failed.
    #[error("{operation}: the database answered with an error")]
    Failed {
        /// What was wanted.
        operation: &'static str,
        /// The database's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// No answer in time; whether it took effect is not known.
    #[error("{operation}: no answer from the database within {after:?}")]
    Late {
        /// What was wanted.
        operation: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The database refused the input; the text names field and limit.
    #[error("{0}")]
    Refused(String),
    /// The role may not do this.
    #[error("{operation}: the database role may not do this: {message}")]
    Denied {
        /// What was wanted.
        operation: &'static str,
        /// The database's message.
        message: String,
    },
    /// The table is not there: this database was not migrated yet.
    #[error("{operation}: this database has no Kindler tables yet: run `kindler migrate`")]
    NotMigrated {
        /// What was wanted.
        operation: &'static str,
    },
    /// The tables are of an earlier release.
    #[error(
        "{operation}: the schema is at version {found}, this release needs {needed}: \
         run `kindler migrate`"
    )]
    SchemaTooOld {
        /// What was wanted.
        operation: &'static str,
        /// The version of the database.
        found: i32,
        /// The version that this release needs.
        needed: i32,
    },
    /// A later release has migrated this database.
    #[error(
        "the schema is at version {found}, newer than this release knows ({known}): \
         use the newer release"
    )]
    SchemaTooNew {
        /// The version of the database.
        found: i32,
        /// The newest version that this release knows.
        known: i32,
    },
    /// An answer that this release cannot read.
    #[error("{operation}: the answer cannot be read")]
    Unreadable {
        /// What was wanted.
        operation: &'static str,
        /// Which part of it.
        #[source]
        source: Undecodable,
    },
}

impl DatabaseError {
    /// Whether the database is out of reach, rather than unwilling.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Late { .. } => true,
            Self::Failed { source, .. } => {
                source.is_closed() || source.code().is_none_or(is_parting)
            }
            Self::Refused(_)
            | Self::Denied { .. }
            | Self::NotMigrated { .. }
            | Self::SchemaTooOld { .. }
            | Self::SchemaTooNew { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    pub(super) fn from_statement(operation: &'static str, source: tokio_postgres::Error) -> Self {
        match source.as_db_error() {
            Some(answer) if *answer.code() == SqlState::CHECK_VIOLATION => {
                Self::Refused(answer.message().to_owned())
            }
            Some(answer) if *answer.code() == SqlState::INSUFFICIENT_PRIVILEGE => Self::Denied {
                operation,
                message: answer.message().to_owned(),
            },
            Some(answer) if *answer.code() == SqlState::UNDEFINED_TABLE => {
                Self::NotMigrated { operation }
            }
            _ => Self::Failed { operation, source },
        }
    }
}

/// Whether the server is going, gone, or not the one that writes any more: the
/// session is of no use, whatever it still answers.
pub(super) fn is_parting(code: &SqlState) -> bool {
    code.code().starts_with("57P0") || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}
