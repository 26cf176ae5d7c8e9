//! The statements on the clusters' tables, and their rows as domain types.
//!
//! Most texts are files in `sql/queries`. SQL elsewhere: leases, claims and steps
//! ([`crate::core`]), and the databases of the embedded server
//! ([`crate::postgres`]); `tests/suite/architecture.rs` checks it.
//!
//! This module makes no decisions. The statements check the fence, so a lost claim
//! or a lost lease is a result and not an error.

mod declare;
mod deferred;
mod deletions;
mod edit;
mod feed;
mod fleet;
mod ground;
mod history;
mod incarnation;
mod listing;
mod migrate;
mod notification_queue;
mod object;
mod objects;
mod placement;
mod ports;
mod privileges;
mod queries;
mod replica_settings;
mod report;
mod restore;
mod roles;
mod rows;
mod samples;
mod seed;
mod server;
mod spec_sql;
mod steps;
mod terms;
mod tokens;

use std::sync::Arc;

use tokio_postgres::Row;

use crate::clusters::Cluster;
use crate::core::database::{Connections, Database, DatabaseError, Param, PoolUse, Undecodable};
use crate::core::rows::{Placement, Rows};

pub use declare::{Declaration, Declared};
pub use deferred::{DeferredCount, DueCount};
pub use deletions::STOP_DELETIONS;
pub use edit::{Batch, BatchOutcome, Edit};
pub use feed::{ActiveWork, Changes, ClusterWithWork};
pub use fleet::{FleetCache, FleetView, Problem};
pub use ground::{DatabaseGround, SchemaWithTables};
pub use history::{AuditEntry, AuditFilter, Revision};
pub use incarnation::{Incarnation, Removal, TaskRevision};
pub use listing::{ClusterFilter, ClusterPage, PortUser, Suggestion};
pub use migrate::{MigrateError, Migrated, SCHEMA_VERSION, migrate, migrate_reporting};
pub use notification_queue::{NotificationQueue, QueueBlocker};
pub use object::ClusterStatus;
pub use objects::{Damage, DamageState, ObjectKind};
pub use placement::{DriverUse, Unselected, UnselectedCluster};
pub use ports::PortConflict;
pub use privileges::{DatabaseUser, LackingPrivilege};
pub use replica_settings::{ExplainedSetting, ExplainedSettings, ReplicaSettings};
pub use report::{
    Channels, Event, Failing, LeaseInfo, Replica, ReplicaStatus, StateCount, Unconverged,
};
pub use roles::{DEV_API, DEV_DAEMON, make_dev_roles};
pub use samples::{ClusterSample, FactKind, FailingSample, FleetFact, ReplicaCounts};
pub use server::ServerFacts;
pub use steps::StepCount;
pub use terms::{IssuedTerms, RAISED_BY};
pub use tokens::{Bearer, CredentialState, LiveGrants, Token};

/// The statement that suggests a cluster, for tests of its plan.
#[doc(hidden)]
pub fn suggest_statement() -> &'static str {
    &queries::SUGGEST
}

/// The error of a daemon on a schema of version `found`, if that is newer than this
/// release.
pub fn newer_schema(found: i32) -> Option<DatabaseError> {
    (found > SCHEMA_VERSION).then_some(DatabaseError::SchemaTooNew {
        found,
        known: SCHEMA_VERSION,
    })
}

/// Access to the clusters' database through a connection pool.
#[derive(Clone)]
pub struct Store {
    connections: Connections,
    /// The actor of declarations in the audit log; `None`: the session's actor.
    actor: Option<Arc<str>>,
    /// Which clusters this daemon works on.
    placement: Arc<Placement>,
    claims: Rows<Cluster>,
    /// The last read state of the daemons, for [`Store::recent_fleet`].
    fleet: FleetCache,
}

impl Store {
    /// A store on `database` with at most `connections`, none of them open yet.
    /// `actor` is written to the audit log with every change.
    pub fn new(database: &Database, connections: usize, actor: &str) -> Self {
        let connections = Connections::new(database, connections, actor);
        Self {
            claims: Rows::new(connections.clone(), Placement::default()),
            connections,
            actor: None,
            placement: Arc::default(),
            fleet: FleetCache::default(),
        }
    }

    /// The same store, with `actor` as the actor of its declarations.
    pub fn declaring_as(&self, actor: &str) -> Self {
        Self {
            actor: Some(actor.into()),
            ..self.clone()
        }
    }

    /// The connection pool.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Leases and fenced statements: claims, renewals, status writes, removals, due rows.
    pub fn claims(&self) -> &Rows<Cluster> {
        &self.claims
    }

    /// The same store, which shares the session mode of `other`: for two stores that
    /// reach one database in the same way.
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

    /// Use of the connection pool.
    pub fn pool_use(&self) -> PoolUse {
        self.connections.pool_use()
    }

    /// Checks that the database responds with the schema of this release or a newer
    /// one, and returns its version. Newer schemas only add, so reading works with
    /// them; a caller that acts must also check [`newer_schema`].
    ///
    /// # Errors
    /// [`DatabaseError`] names what is missing.
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
