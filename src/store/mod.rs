//! The clusters' tables as domain types: with the core, the only SQL in Rust.
//!
//! Nothing here decides; guards live in the statements, so that losing a claim
//! or a fence is an answer and not an error.

mod declare;
mod deletions;
mod edit;
mod feed;
mod history;
mod incarnation;
mod listing;
mod migrate;
mod object;
mod place;
mod queries;
mod report;
mod roles;
mod rows;
mod seed;
mod spec_sql;
mod standing;
mod steps;
mod tokens;
mod waiting;

use std::sync::Arc;

use tokio_postgres::Row;

use crate::clusters::Cluster;
use crate::core::database::{Connections, Database, DatabaseError, Param, PoolUse, Undecodable};
use crate::core::rows::{Placement, Rows};

pub use declare::{Declaration, Declared};
pub use edit::{Batch, Edit, Ordered};
pub use feed::{Changes, Live, Work};
pub use history::{AuditFilter, Audited, Revision};
pub use incarnation::{Incarnation, Removal, TaskRevision};
pub use listing::{Filter, Listed, PortUser, Suggestion};
pub use migrate::{MigrateError, Migrated, SCHEMA_VERSION, migrate};
pub use object::ClusterStatus;
pub use place::Unselected;
pub use report::{Event, Failing, LeaseHeld, Replica, ReplicaSeen, StateCount, Unconverged};
pub use roles::{DEV_DAEMON, DEV_PAGE, make_dev_roles};
pub use standing::{Crew, Stands, Worst};
pub use steps::StepCount;
pub use tokens::{Bearer, LiveGrants, Standing, Token};
pub use waiting::{Due, Waiting};

/// The statements that find free ports and suggest a cluster, for tests of their plans.
#[doc(hidden)]
pub fn free_port_statements() -> [&'static str; 2] {
    [&queries::FIND_PORTS, &queries::SUGGEST]
}

/// The error of acting on a schema of this version, if a later release made it.
pub fn newer_schema(found: i32) -> Option<DatabaseError> {
    (found > SCHEMA_VERSION).then_some(DatabaseError::SchemaTooNew {
        found,
        known: SCHEMA_VERSION,
    })
}

/// The database of the clusters, through a pool.
#[derive(Clone)]
pub struct Store {
    connections: Connections,
    /// The actor that the audit log names for what is declared, if it is not
    /// the session's.
    declarer: Option<Arc<str>>,
    /// Which clusters this daemon works on.
    placement: Arc<Placement>,
    claims: Rows<Cluster>,
}

impl Store {
    /// A store on `database` with at most `connections`, none opened yet.
    /// `actor` is written to the audit log with every change made through it.
    pub fn new(database: &Database, connections: usize, actor: &str) -> Self {
        let connections = Connections::new(database, connections, actor);
        Self {
            claims: Rows::new(connections.clone(), Placement::default()),
            connections,
            declarer: None,
            placement: Arc::default(),
        }
    }

    /// The same store, for whose declarations the audit log names `declarer`.
    pub fn declaring_as(&self, declarer: &str) -> Self {
        Self {
            declarer: Some(declarer.into()),
            ..self.clone()
        }
    }

    /// The connections that it works with.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The clusters under leases: claims, renewals, writes, removals, what is due.
    pub fn claims(&self) -> &Rows<Cluster> {
        &self.claims
    }

    /// The same store, whose sessions count as proven when those of `other`
    /// are: for two that reach one database in the same way.
    #[must_use]
    pub fn with_session_mode_of(mut self, other: &Self) -> Self {
        self.connections = self.connections.with_session_mode_of(&other.connections);
        self.claims = Rows::new(self.connections.clone(), (*self.placement).clone());
        self
    }

    /// See [`Connections::set_own_sessions`].
    pub fn set_own_sessions(&self, proven: bool) {
        self.connections.set_own_sessions(proven);
    }

    /// How full the pool is.
    pub fn pool_use(&self) -> PoolUse {
        self.connections.pool_use()
    }

    /// Whether the database answers, and with the schema of this release or a
    /// later one; its version. Later ones only add, so reading goes on; whoever
    /// acts must ask [`newer_schema`] too.
    ///
    /// # Errors
    /// [`DatabaseError`] says what is missing.
    pub async fn check(&self) -> Result<i32, DatabaseError> {
        let operation = "check the schema";
        let row = self
            .rows(
                operation,
                "SELECT coalesce(max(version), 0) AS version FROM kindler_migrations",
                &[],
            )
            .await?;
        match row.first().map(|row| row.get::<_, i32>(0)).unwrap_or(0) {
            0 => Err(DatabaseError::NotMigrated { operation }),
            found if found < SCHEMA_VERSION => Err(DatabaseError::SchemaTooOld {
                operation,
                found,
                needed: SCHEMA_VERSION,
            }),
            version => Ok(version),
        }
    }

    async fn rows(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, DatabaseError> {
        self.connections.rows(operation, sql, params).await
    }

    async fn execute(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<u64, DatabaseError> {
        self.connections.execute(operation, sql, params).await
    }

    async fn each<T>(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
        decode: impl Fn(&Row) -> Result<T, Undecodable>,
    ) -> Result<Vec<T>, DatabaseError> {
        self.connections.each(operation, sql, params, decode).await
    }
}
