//! Why a daemon cannot start, or go on, and what to do about it.

use std::net::SocketAddr;

use crate::config::ConfigError;
use crate::core::database::DatabaseError;

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A setting is missing or wrong.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// The HTTP address is taken.
    #[error(transparent)]
    Listen(#[from] crate::http::HttpListenError),
    /// Others reach the address, and nobody has a token.
    #[error(
        "listen {address}: others reach this address, so the API asks for a token, and there is \
         none yet"
    )]
    NoToken {
        /// Where it would be served.
        address: SocketAddr,
    },
    /// The embedded Postgres.
    #[error("the private Postgres cannot be used")]
    Postgres(#[from] crate::postgres::PostgresError),
    /// It ended, and restarting it was given up.
    #[error("the private Postgres has ended for good; see {}", log.display())]
    PostgresEnded {
        /// Its log.
        log: std::path::PathBuf,
    },
    /// The schema.
    #[error(transparent)]
    Migrate(#[from] crate::store::MigrateError),
    /// The database does not serve.
    #[error(transparent)]
    Store(#[from] DatabaseError),
    /// The operating system.
    #[error("{operation} failed")]
    System {
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl DaemonError {
    /// Whether the settings are at fault, or the database is not there: what a
    /// caller must mend before trying again.
    pub fn is_callers(&self) -> bool {
        match self {
            Self::Setting(_)
            | Self::Listen(_)
            | Self::NoToken { .. }
            | Self::Migrate(_)
            | Self::Store(_) => true,
            Self::Postgres(_) | Self::PostgresEnded { .. } | Self::System { .. } => false,
        }
    }

    /// What to do about it, where the error does not say.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Setting(error) => error.hint(),
            Self::NoToken { .. } => Some(
                "make one as the tables' owner: kindler token create NAME --scope admin (for \
                 `kindler dev`, while it runs on 127.0.0.1); or set KINDLER_LISTEN=127.0.0.1:8080",
            ),
            _ => None,
        }
    }
}
