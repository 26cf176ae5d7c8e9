//! The connection to Postgres: URL, TLS, pool, and calls with deadlines.
//!
//! Every call has a client-side deadline besides the server's timeouts. A connection
//! whose call exceeds it is closed, because its statement may still run. This module
//! knows no table.

mod address;
mod backend;
mod encoding;
mod error;
mod hosts;
mod idle;
mod lock_waits;
mod named;
mod parameters;
mod pool;
mod refusal;
mod session;
mod statement;
mod table_locks;
mod tls;
mod transaction;

pub use address::{Database, DatabaseUrlError};
pub use error::{DatabaseError, NoConnection, Undecodable};
#[cfg(test)]
pub(crate) use named::unmatched_names;
pub(crate) use named::{named_parameters, numbered};
pub use pool::{Connections, PoolUse};
pub(crate) use session::{
    SessionSettings, dead_client_limits, hands_sessions_around, listen, unlisten,
};
pub(crate) use statement::typed;
pub use statement::{Param, column};
pub use table_locks::Blocker;
pub(crate) use table_locks::{NEXT_ATTEMPT, blockers, is_lock_timeout, limit_waits, lock_tables};
pub use tls::TlsError;
pub(crate) use transaction::rows_in;
