//! The server as a session sees it, for `kindler doctor`.

use crate::core::database::{DatabaseError, column};

use super::{Store, queries};

/// What a session sees of its server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerFacts {
    /// The server's version.
    pub version: String,
    /// Whether the session uses a socket of this host.
    pub local: bool,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Whether it takes no writes.
    pub read_only: bool,
    /// The setting of the session.
    pub synchronous_commit: String,
    /// How many connections it allows to roles that are not superusers.
    pub allowed: i32,
    /// How many connections there are, as far as the role sees them.
    pub used: i32,
    /// How many standbys follow it, as far as the role sees them.
    pub standbys: i32,
    /// How many seconds the slowest standby is behind.
    pub lag: Option<f64>,
    /// The role of the session.
    pub role: String,
    /// Whether it is a superuser.
    pub superuser: bool,
    /// The roles of `sql/roles.sql` that it is a member of.
    pub roles: Vec<String>,
}

impl Store {
    /// Reads them.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn server_facts(&self) -> Result<Option<ServerFacts>, DatabaseError> {
        let read = self.each("look at the server", &queries::READ_SERVER, &[], |row| {
            Ok(ServerFacts {
                version: column(row, "version")?,
                local: column(row, "local")?,
                tls: column(row, "tls")?,
                read_only: column(row, "read_only")?,
                synchronous_commit: column(row, "synchronous_commit")?,
                allowed: column(row, "allowed")?,
                used: column(row, "used")?,
                standbys: column(row, "standbys")?,
                lag: column(row, "lag")?,
                role: column(row, "role")?,
                superuser: column(row, "superuser")?,
                roles: column(row, "roles")?,
            })
        });
        Ok(read.await?.pop())
    }
}
