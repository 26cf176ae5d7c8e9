//! The database: the only SQL in Rust, as domain types.
//!
//! Every call has a client-side deadline besides the server's, and a
//! connection that let one pass is thrown away, because its statement may
//! still be running. Nothing here decides; guards live in the statements, so
//! that losing a claim or a fence is an answer and not an error.

mod claim;
mod database;
mod declare;
mod deletions;
mod edit;
mod feed;
mod history;
mod hosts;
mod listing;
mod migrate;
mod place;
mod pool_use;
mod queries;
mod report;
mod roles;
mod rows;
mod seed;
mod standing;
mod tokens;
mod transaction;
mod unnamed;
mod waiting;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::QueueMode;
use deadpool_postgres::{
    ClientWrapper, Hook, HookError, ManagerConfig, Object, Pool, PoolError, RecyclingMethod,
};
use scopeguard::ScopeGuard;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::cause::chain;

pub use claim::{Claim, Claimed, Written};
pub(crate) use database::session_settings;
pub use database::{Database, DatabaseUrlError};
pub use declare::{Declaration, Declared};
pub use edit::{Batch, Edit, Ordered};
pub use feed::{Changes, Live, Work};
pub use history::{AuditFilter, Audited, Revision, TaskRevision};
pub use listing::{Filter, Listed, PortUser, Suggestion};
pub use migrate::{MigrateError, Migrated, SCHEMA_VERSION, migrate};
pub use place::Unselected;
pub use pool_use::PoolUse;
pub use report::{Event, Failing, LeaseHeld, Replica, ReplicaSeen, StateCount, Unconverged};
pub use roles::{DEV_DAEMON, DEV_PAGE, make_dev_roles};
pub use rows::{HeldRow, Undecodable};
pub use standing::{Crew, Stands, Worst};
pub use tokens::{Bearer, LiveGrants, Standing, Token};
pub use waiting::{Due, Waiting};

use unnamed::typed;

/// How long one call may take before its connection is given up.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// A connection that was unused for longer may have died without a word, and is
/// asked before it is lent. The one used last is lent first, and the heartbeat
/// uses it every 5 s: so a wake-up of an idle daemon finds one that is known to
/// live, and pays no round trip to learn so.
const ASK_AFTER: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum NoConnection {
    /// The server or the network refused it.
    #[error(transparent)]
    Refused(tokio_postgres::Error),
    /// The pool has none to give.
    #[error("the pool has no connection to give")]
    Pool(#[source] PoolError),
    /// It was refused a moment ago, for this reason, and not asked again yet.
    #[error("{0}")]
    Lately(String),
}

impl From<PoolError> for NoConnection {
    fn from(error: PoolError) -> Self {
        match error {
            // The pool only frames what the connection says.
            PoolError::Backend(error) => Self::Refused(error),
            other => Self::Pool(other),
        }
    }
}

/// Before a server that refused a connection is asked for another: however many
/// calls wait, an outage sees one attempt in this time.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long an idle connection may take to answer before it is used: it has
/// nothing to do but that.
const RECYCLE_WITHIN: Duration = Duration::from_secs(2);

/// Why a call did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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
        /// What the session said last.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The statement failed.
    #[error("{operation}: the database answered with an error")]
    Failed {
        /// What was wanted.
        operation: &'static str,
        /// The database's word.
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
    #[error("{operation}: the database role may not do this: {told}")]
    Denied {
        /// What was wanted.
        operation: &'static str,
        /// The database's word.
        told: String,
    },
    /// The table is not there: nobody migrated this database yet.
    #[error("{operation}: this database has no Kindler tables yet: run `kindler migrate`")]
    NotMigrated {
        /// What was wanted.
        operation: &'static str,
    },
    /// The tables are of an earlier release.
    #[error(
        "{operation}: the schema is at version {found}, this release needs {SCHEMA_VERSION}: \
         run `kindler migrate`"
    )]
    SchemaTooOld {
        /// What was wanted.
        operation: &'static str,
        /// What stands in the database.
        found: i32,
    },
    /// A later release has migrated this database.
    #[error(
        "the schema is at version {found}, newer than this release knows ({SCHEMA_VERSION}): \
         use the newer release"
    )]
    SchemaTooNew {
        /// What stands in the database.
        found: i32,
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

impl StoreError {
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

    fn from_statement(operation: &'static str, source: tokio_postgres::Error) -> Self {
        match source.as_db_error() {
            Some(told) if *told.code() == SqlState::CHECK_VIOLATION => {
                Self::Refused(told.message().to_owned())
            }
            Some(told) if *told.code() == SqlState::INSUFFICIENT_PRIVILEGE => Self::Denied {
                operation,
                told: told.message().to_owned(),
            },
            Some(told) if *told.code() == SqlState::UNDEFINED_TABLE => {
                Self::NotMigrated { operation }
            }
            _ => Self::Failed { operation, source },
        }
    }
}

/// The error of acting on a schema of this version, if a later release made it.
pub fn newer_schema(found: i32) -> Option<StoreError> {
    (found > SCHEMA_VERSION).then_some(StoreError::SchemaTooNew { found })
}

/// Whether the server is going, gone, or not the one that writes any more: the
/// session is of no use, whatever it still answers.
fn is_parting(code: &SqlState) -> bool {
    code.code().starts_with("57P0") || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}

/// Throws away a connection that was unused for long and does not answer.
fn alive() -> Hook {
    Hook::async_fn(|client, metrics| {
        Box::pin(async move {
            if metrics.last_used() < ASK_AFTER {
                return Ok(());
            }
            let asked = timeout(RECYCLE_WITHIN, client.simple_query(""));
            match asked.await {
                Ok(answer) => answer.map(drop).map_err(HookError::Backend),
                Err(_) => Err(HookError::message("no answer")),
            }
        })
    })
}

/// The database of the clusters, through a pool.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    /// Whether a session is known to stay ours from one statement to the next,
    /// so that statements may be prepared in it.
    own_sessions: Arc<AtomicBool>,
    /// Whom the books name for what is declared, if not the session's actor.
    declarer: Option<Arc<str>>,
    /// For which clusters this daemon works; none: for all.
    selects: Option<Arc<place::Place>>,
    /// When a connection was last refused, and why.
    refused: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Store {
    /// A store on `database` with at most `connections`, none opened yet.
    /// `actor` goes into the books with every change made through it.
    pub fn new(database: &Database, connections: usize, actor: &str) -> Self {
        // Looks whether it was closed; `alive` below asks where that is not enough.
        let manager = database.manager(ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        });
        let settings = session_settings(actor);
        let pool = Pool::builder(manager)
            .max_size(connections.max(1))
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .wait_timeout(Some(CALL_DEADLINE))
            .create_timeout(Some(database.connect_within()))
            .queue_mode(QueueMode::Lifo)
            .pre_recycle(alive())
            .post_create(Hook::async_fn(move |client, _| {
                let settings = settings.clone();
                Box::pin(async move {
                    client
                        .batch_execute(&settings)
                        .await
                        .map_err(HookError::Backend)
                })
            }))
            .build()
            .expect("a runtime is given, and nothing else can be missing");
        Self {
            pool,
            own_sessions: Arc::default(),
            declarer: None,
            selects: None,
            refused: Arc::default(),
        }
    }

    /// The same store, on whose declarations the books name `declarer`.
    pub fn declaring_as(&self, declarer: &str) -> Self {
        Self {
            declarer: Some(declarer.into()),
            ..self.clone()
        }
    }

    /// Whether the database answers, and with the schema of this release or a
    /// later one; its version. Later ones only add, so reading goes on; whoever
    /// acts must ask [`newer_schema`] too.
    ///
    /// # Errors
    /// [`StoreError`] says what is missing.
    pub async fn check(&self) -> Result<i32, StoreError> {
        let operation = "check the schema";
        let row = self
            .rows(
                operation,
                "SELECT coalesce(max(version), 0) AS version FROM kindler_migrations",
                &[],
            )
            .await?;
        match row.first().map(|row| row.get::<_, i32>(0)).unwrap_or(0) {
            0 => Err(StoreError::NotMigrated { operation }),
            found if found < SCHEMA_VERSION => Err(StoreError::SchemaTooOld { operation, found }),
            version => Ok(version),
        }
    }

    /// Says whether sessions are proven to stay ours, which a notification to
    /// oneself proves; until then, and behind a transaction pooler, no
    /// statement is prepared, because it might be somebody else's by the time
    /// it runs. Prepared ones save planning at every call.
    pub fn set_own_sessions(&self, proven: bool) {
        self.own_sessions.store(proven, Ordering::Relaxed);
    }

    /// The same store, which believes of its sessions what is proven of those of
    /// `other`: for two that lead to one database in the same way.
    #[must_use]
    pub fn believing(mut self, other: &Self) -> Self {
        self.own_sessions = other.own_sessions.clone();
        self
    }

    fn has_own_sessions(&self) -> bool {
        self.own_sessions.load(Ordering::Relaxed)
    }

    /// Runs one statement and returns its rows.
    async fn rows(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        self.call(operation, async |client| {
            if self.has_own_sessions() {
                let statement = client.prepare_cached(sql).await?;
                client.query(&statement, params).await
            } else {
                client.query_typed(sql, &typed(params)).await
            }
        })
        .await
    }

    /// Runs one statement and returns how many rows it touched.
    async fn execute(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, StoreError> {
        self.call(operation, async |client| {
            if self.has_own_sessions() {
                let statement = client.prepare_cached(sql).await?;
                client.execute(&statement, params).await
            } else {
                client.execute_typed(sql, &typed(params)).await
            }
        })
        .await
    }

    /// Lends a connection to `work`, with a deadline. A connection that let it
    /// pass is not used again, nor one whose call was cancelled: its statement
    /// may still run. Nor is one whose server is going or became read-only; and
    /// what happened to one, cancelling apart, is expected of the idle ones too.
    async fn call<T>(
        &self,
        operation: &'static str,
        work: impl AsyncFnOnce(&mut ClientWrapper) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StoreError> {
        let late = StoreError::Late {
            operation,
            after: CALL_DEADLINE,
        };
        let client = match timeout(CALL_DEADLINE, self.connection()).await {
            Ok(Ok(client)) => client,
            Ok(Err(source)) => return Err(StoreError::Unreachable { operation, source }),
            Err(_) => return Err(late),
        };
        let mut lent = scopeguard::guard(client, |client| drop(Object::take(client)));
        let answer = timeout(CALL_DEADLINE, work(&mut lent)).await;
        let useless = match &answer {
            Ok(Ok(_)) => false,
            Ok(Err(source)) => source.is_closed() || source.code().is_some_and(is_parting),
            Err(_) => true,
        };
        if useless {
            drop(lent);
            self.pool.retain(|_, _| false);
        } else {
            drop(ScopeGuard::into_inner(lent));
        }
        match answer {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(source)) if useless => Err(StoreError::Lost { operation, source }),
            Ok(Err(source)) => Err(StoreError::from_statement(operation, source)),
            Err(_) => Err(late),
        }
    }

    /// An idle connection that answers, else a new one: when an idle one gives
    /// no answer, the others will not either.
    async fn connection(&self) -> Result<Object, NoConnection> {
        if let Some(why) = self.refused_lately() {
            return Err(NoConnection::Lately(why));
        }
        // Where none is idle all the time is for connecting: the first of
        // several hosts may be the one that says nothing.
        let got = if self.pool.status().available == 0 {
            self.pool.get().await
        } else if let Ok(got) = timeout(RECYCLE_WITHIN, self.pool.get()).await {
            got
        } else {
            self.pool.retain(|_, _| false);
            self.pool.get().await
        };
        let got = got.map_err(NoConnection::from);
        *self.refused() = match &got {
            Err(why @ NoConnection::Refused(_)) => Some((Instant::now(), chain(why))),
            _ => None,
        };
        got
    }

    /// Why the last connection was refused, if that was a moment ago and none
    /// is idle. Once the moment is over, the first to ask here is the one that
    /// asks the server.
    fn refused_lately(&self) -> Option<String> {
        if self.pool.status().available > 0 {
            return None;
        }
        let mut refused = self.refused();
        let (at, why) = refused.as_mut()?;
        if at.elapsed() < ASK_AGAIN {
            return Some(why.clone());
        }
        *at = Instant::now();
        None
    }

    fn refused(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
