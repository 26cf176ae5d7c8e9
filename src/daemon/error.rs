//! Errors that end a daemon, with hints.

use std::net::SocketAddr;

use crate::config::ConfigError;
use crate::core::database::DatabaseError;

/// Why the daemon cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A setting is missing or invalid.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// The HTTP address cannot be used.
    #[error(transparent)]
    Listen(#[from] crate::http::HttpListenError),
    /// Other hosts can reach the address, and no token exists.
    #[error(
        "listen {address}: other hosts can reach this address, so the API requires a token, and \
         none exists"
    )]
    NoToken {
        /// The listen address.
        address: SocketAddr,
    },
    /// The embedded Postgres failed.
    #[error("the embedded Postgres failed")]
    Postgres(#[from] crate::postgres::PostgresError),
    /// The migration failed.
    #[error(transparent)]
    Migrate(#[from] crate::store::MigrateError),
    /// The database is unavailable.
    #[error(transparent)]
    Store(#[from] DatabaseError),
    /// The operating system rejected an operation.
    #[error("{operation} failed")]
    System {
        /// The operation.
        operation: &'static str,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
}

impl DaemonError {
    /// Whether the caller must correct the settings or the database before the next
    /// start.
    pub fn is_callers(&self) -> bool {
        match self {
            Self::Setting(_) | Self::NoToken { .. } | Self::Migrate(_) | Self::Store(_) => true,
            // A used port may be free at the next start; another address is a setting.
            Self::Listen(error) => !error.is_address_in_use(),
            Self::Postgres(_) | Self::System { .. } => false,
        }
    }

    /// What to do, where the error does not say it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Setting(error) => error.hint(),
            Self::NoToken { .. } => Some(
                "create one as the owner of the tables: kindler token create NAME --scope admin (for \
                 `kindler dev`, while it runs on 127.0.0.1); or set KINDLER_LISTEN=127.0.0.1:8080",
            ),
            _ => None,
        }
    }
}
