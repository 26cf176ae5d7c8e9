//! The connection to Postgres: URL, TLS, pool, and calls with deadlines.
//!
//! Every call has a client-side deadline besides the server's timeouts. A connection
//! whose call exceeds it is closed, because its statement may still run. This module
//! knows no table.

mod address;
mod encoding;
mod error;
mod hosts;
mod idle;
mod named;
mod parameters;
mod pool;
mod refusal;
mod statement;
mod tls;
mod transaction;

pub(crate) use address::session_settings;
pub use address::{Database, DatabaseUrlError};
pub use error::{DatabaseError, NoConnection, Undecodable};
pub(crate) use idle::session_limit;
#[cfg(test)]
pub(crate) use named::unmatched_names;
pub(crate) use named::{named_parameters, numbered};
pub use pool::{Connections, PoolUse};
pub(crate) use statement::typed;
pub use statement::{Param, column};
pub use tls::TlsError;
pub(crate) use transaction::begin;
