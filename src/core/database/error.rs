//! Errors of database calls.

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
    /// The pool has no free connection.
    #[error("the pool has no free connection")]
    Pool(#[source] PoolError),
    /// The last attempt failed a moment ago, for this reason; no new attempt was made.
    #[error("{0}")]
    Recent(String),
}

impl From<PoolError> for NoConnection {
    fn from(error: PoolError) -> Self {
        match error {
            // The pool only wraps the error of the connection.
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
        /// The error of the client library.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A column contains a value that its type rejects.
    #[error(transparent)]
    Value(Box<dyn Error + Send + Sync>),
}

impl Undecodable {
    /// A value that a type rejected, with the type's error.
    pub fn value(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Value(Box::new(error))
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// There is no connection.
    #[error("{operation}: the database cannot be reached")]
    Unreachable {
        /// The operation.
        operation: &'static str,
        /// Why there is none.
        #[source]
        source: NoConnection,
    },
    /// The session ended, or its server became read-only.
    #[error("{operation}: the database cannot be reached over this session any more")]
    Lost {
        /// The operation.
        operation: &'static str,
        /// The last error of the session.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The statement failed.
    #[error("{operation}: the database answered with an error")]
    Failed {
        /// The operation.
        operation: &'static str,
        /// The database's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// No answer within the deadline; it may or may not have taken effect.
    #[error("{operation}: no answer from the database within {after:?}")]
    Late {
        /// The operation.
        operation: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The database rejected the input; the text names the field and its limit.
    #[error("{0}")]
    Rejected(String),
    /// The role has no privilege for this.
    #[error("{operation}: the database role may not do this: {message}")]
    Denied {
        /// The operation.
        operation: &'static str,
        /// The database's message.
        message: String,
    },
    /// The table does not exist: this database is not migrated.
    #[error("{operation}: this database has no Kindler tables yet: run `kindler migrate`")]
    NotMigrated {
        /// The operation.
        operation: &'static str,
    },
    /// The schema is of an earlier release.
    #[error(
        "{operation}: the schema is at version {found}, this release needs {needed}: \
         run `kindler migrate`"
    )]
    SchemaTooOld {
        /// The operation.
        operation: &'static str,
        /// The version of the database.
        found: i32,
        /// The version that this release needs.
        needed: i32,
    },
    /// The schema is of a later release.
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
    /// This release cannot read the answer.
    #[error("{operation}: the answer cannot be read")]
    Unreadable {
        /// The operation.
        operation: &'static str,
        /// The part that it cannot read.
        #[source]
        source: Undecodable,
    },
}

impl DatabaseError {
    /// Whether the database could not be reached, as opposed to rejecting the call.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Late { .. } => true,
            Self::Failed { source, .. } => {
                source.is_closed() || source.code().is_none_or(ends_session)
            }
            Self::Rejected(_)
            | Self::Denied { .. }
            | Self::NotMigrated { .. }
            | Self::SchemaTooOld { .. }
            | Self::SchemaTooNew { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// Whether the same call may succeed later, without a change of its input or of the
    /// schema: an outage, a lock, a timeout, a lack of resources.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Late { .. } => true,
            Self::Failed { source, .. } => source.code().is_none_or(passes),
            Self::Rejected(_)
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
                Self::Rejected(answer.message().to_owned())
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

/// Whether an error says nothing about the statement: connection, transaction, resources,
/// locks, an operator, the system, the server itself.
fn passes(code: &SqlState) -> bool {
    let classes = ["08", "25", "40", "53", "55", "57", "58", "XX"];
    classes.iter().any(|class| code.code().starts_with(class))
}

/// Whether an error makes a session unusable: the server is shutting down, or it became
/// read-only.
pub(super) fn ends_session(code: &SqlState) -> bool {
    code.code().starts_with("57P0") || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}

/// Whether what the session knows of the schema, or of its prepared statements, is out of
/// date: a column has another type since, or another client of a shared session removed
/// the statement. The server refused the statement; another session can run it.
pub(super) fn has_outdated_plan(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|answer| {
        let code = answer.code();
        // The code alone means any feature that is not supported.
        let revalidated = answer.routine() == Some("RevalidateCachedQuery");
        *code == SqlState::FEATURE_NOT_SUPPORTED && revalidated
            || *code == SqlState::INVALID_SQL_STATEMENT_NAME
            || *code == SqlState::DUPLICATE_PSTATEMENT
    })
}
