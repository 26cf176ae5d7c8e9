//! Errors of database calls.

use std::error::Error;
use std::time::Duration;

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::WrongType;

use super::refusal::advice;
use super::tls::Tls;
use crate::cause::chain;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum NoConnection {
    /// The server or the network refused it.
    #[error(transparent)]
    Refused(tokio_postgres::Error),
    /// The same; most likely a setting has to be changed.
    #[error("{advice}")]
    Advised {
        /// The setting, and how to change it.
        advice: &'static str,
        /// The error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The pool has no free connection.
    #[error("the pool has no free connection")]
    Pool(#[source] PoolError),
    /// The last attempt failed a moment ago, for this reason; no new attempt was made.
    #[error("{0}")]
    Recent(String),
}

impl NoConnection {
    /// The same, with the setting that a person can change, if there is one.
    pub(super) fn advised(self, tls: &Tls) -> Self {
        match self {
            Self::Refused(source) => match advice(tls, &source) {
                Some(advice) => Self::Advised { advice, source },
                None => Self::Refused(source),
            },
            other => other,
        }
    }
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
    /// The same, and a statement changes the value to one that can be read.
    #[error("{}; to mend it: {statement}", chain(why))]
    Mendable {
        /// Why it cannot be read.
        why: Box<Undecodable>,
        /// The statement.
        statement: String,
    },
}

impl Undecodable {
    /// A value that a type rejected, with the type's error.
    pub fn value(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Value(Box::new(error))
    }

    /// Whether the column is missing or has another type, which no change of its value mends.
    pub fn is_of_the_table(&self) -> bool {
        let Self::Column { source, .. } = self else {
            return false;
        };
        source
            .source()
            .is_none_or(|source| source.is::<WrongType>())
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
    /// All connections of the pool are in use.
    #[error("{operation}: all database connections of this process were in use for {after:?}")]
    NoneFree {
        /// The operation.
        operation: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The server is read-only: a standby, or set to read only.
    #[error("{operation}: the database takes no writes: it is a standby, or set to read only")]
    ReadOnly {
        /// The operation.
        operation: &'static str,
        /// The database's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The session ended.
    #[error("{operation}: the database cannot be reached over this session any more")]
    Lost {
        /// The operation.
        operation: &'static str,
        /// The last error of the session.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The statement can succeed later: a lock was not free, the statement took too long, or
    /// the server lacks memory or disk space.
    #[error("{operation}: the database cannot do it now: {why}")]
    Busy {
        /// The operation.
        operation: &'static str,
        /// The database's message.
        why: String,
    },
    /// The database refuses the statement: a constraint, a trigger, a missing relation of
    /// others. It fails again until a person changes something.
    #[error("{operation}: the database refuses it: {why}")]
    Refused {
        /// The operation.
        operation: &'static str,
        /// The database's message, its SQLSTATE, and the function that raised it.
        why: String,
        /// Whether a rule about data refuses it, as opposed to a defect.
        by_rule: bool,
    },
    /// The encoding of the database cannot hold a character of the text.
    #[error("{operation}: the encoding of the database cannot hold a character: {why}")]
    Unencodable {
        /// The operation.
        operation: &'static str,
        /// The database's message.
        why: String,
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
            _ => false,
        }
    }

    /// Whether the same would happen to every other call now.
    pub fn is_outage(&self) -> bool {
        self.is_unreachable() || matches!(self, Self::NoneFree { .. } | Self::ReadOnly { .. })
    }

    /// Whether the database is there, or will be, and the caller should try again.
    pub fn is_temporary(&self) -> bool {
        self.is_outage() || matches!(self, Self::Busy { .. })
    }

    /// Whether the same call may succeed later, without a change of its input or of the
    /// schema: an outage, a lock, a timeout, a lack of resources.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Failed { source, .. } => source.code().is_none_or(passes),
            other => other.is_temporary(),
        }
    }

    /// Whether the database refuses this statement, and will refuse it again until a person
    /// changes something.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Rejected(_)
            | Self::Denied { .. }
            | Self::Refused { .. }
            | Self::Unencodable { .. } => true,
            Self::Unreachable { .. }
            | Self::NoneFree { .. }
            | Self::ReadOnly { .. }
            | Self::Lost { .. }
            | Self::Busy { .. }
            | Self::Failed { .. }
            | Self::Late { .. }
            | Self::NotMigrated { .. }
            | Self::SchemaTooOld { .. }
            | Self::SchemaTooNew { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    pub(super) fn from_statement(operation: &'static str, source: tokio_postgres::Error) -> Self {
        let Some(answer) = source.as_db_error() else {
            return Self::Failed { operation, source };
        };
        let (code, message) = (answer.code(), answer.message().to_owned());
        let why = message.clone();
        match *code {
            SqlState::CHECK_VIOLATION => Self::Rejected(message),
            SqlState::INSUFFICIENT_PRIVILEGE => Self::Denied { operation, message },
            // Inside of a function the missing relation is that of the function.
            SqlState::UNDEFINED_TABLE if answer.where_().is_none() => {
                Self::NotMigrated { operation }
            }
            SqlState::UNTRANSLATABLE_CHARACTER | SqlState::CHARACTER_NOT_IN_REPERTOIRE => {
                Self::Unencodable { operation, why }
            }
            _ if is_busy(code) => Self::Busy { operation, why },
            _ if passes(code) => Self::Failed { operation, source },
            _ => Self::Refused {
                operation,
                why: described(answer),
                by_rule: is_rule(code),
            },
        }
    }

    /// The same, with the sessions that it waited for.
    pub(super) fn blocked_by(mut self, blockers: Option<String>) -> Self {
        if let (Self::Busy { why, .. }, Some(blockers)) = (&mut self, blockers) {
            *why = format!(
                "{why}: blocked by {blockers}; to end a session: SELECT pg_terminate_backend(PID)"
            );
        }
        self
    }

    pub(super) fn from_connecting(operation: &'static str, source: NoConnection) -> Self {
        match source {
            NoConnection::Pool(PoolError::Timeout(TimeoutType::Wait)) => Self::NoneFree {
                operation,
                after: super::pool::CALL_DEADLINE,
            },
            NoConnection::Refused(source) if refuses_writes(&source) => {
                Self::ReadOnly { operation, source }
            }
            source => Self::Unreachable { operation, source },
        }
    }

    pub(super) fn from_ended_session(
        operation: &'static str,
        source: tokio_postgres::Error,
    ) -> Self {
        if source.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
            Self::ReadOnly { operation, source }
        } else {
            Self::Lost { operation, source }
        }
    }
}

/// Whether what an SQLSTATE reports can pass by itself: locks, deadlocks, cancelled
/// statements, missing resources.
fn is_busy(code: &SqlState) -> bool {
    let (class, code) = (&code.code()[..2], code.code());
    matches!(class, "40" | "53" | "57" | "58") || matches!(code, "55P03" | "55006")
}

/// Whether an SQLSTATE is that of a rule about data: a constraint, a trigger, a value.
fn is_rule(code: &SqlState) -> bool {
    matches!(&code.code()[..2], "22" | "23" | "27" | "44" | "P0")
}

/// The message with what a person needs to find its origin.
fn described(answer: &DbError) -> String {
    let mut origin = vec![answer.code().code()];
    // The innermost call.
    origin.extend(answer.where_().and_then(|text| text.lines().next()));
    format!("{} ({})", answer.message(), origin.join(", "))
}

/// Whether a connection was not used because the server is read-only and the URL requires
/// one that accepts writes. The client library has no other sign of it.
fn refuses_writes(error: &tokio_postgres::Error) -> bool {
    let source = error.source();
    source.is_some_and(|source| source.to_string() == "database does not allow writes")
}

/// Whether an error says nothing about the statement: what is busy, the connection, the
/// transaction, the state of an object, the server itself.
fn passes(code: &SqlState) -> bool {
    is_busy(code) || matches!(&code.code()[..2], "08" | "25" | "55" | "XX")
}

/// Whether an error makes a session unusable: the server is shutting down, or it became
/// read-only.
pub(super) fn ends_session(code: &SqlState) -> bool {
    code.code().starts_with("57P0") || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}

/// Whether what the session knows of the schema, or of its prepared statements, is out of
/// date: a column has another type since, or another client of a shared session removed
/// the statement. The server rejected the statement; another session can run it.
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
