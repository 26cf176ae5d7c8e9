//! A pool of connections whose calls have deadlines, and that is careful with
//! a server in trouble: one attempt to connect at a time, no dead connection
//! lent twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::QueueMode;
use deadpool_postgres::{
    ClientWrapper, Hook, HookError, ManagerConfig, Object, Pool, RecyclingMethod,
};
use scopeguard::ScopeGuard;
use tokio::time::timeout;
use tokio_postgres::Row;

use crate::cause::chain;

use super::address::{Database, session_settings};
use super::error::is_parting;
use super::{DatabaseError, NoConnection, Param, Undecodable, typed};

/// How long one call may take before its connection is given up.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// A connection that was unused for longer may have died without notice, and is
/// probed before it is lent. The one used last is lent first, and the heartbeat
/// uses it every 5 s: so a wake-up of an idle daemon finds a connection that is
/// known to live, and pays no round trip for the probe.
const PROBE_AFTER: Duration = Duration::from_secs(10);

/// Before a server that refused a connection is asked for another: however many
/// calls wait, an outage sees one attempt in this time.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);

/// How long an idle connection may take to answer before it is used: it has
/// nothing to do but that.
const RECYCLE_WITHIN: Duration = Duration::from_secs(2);

/// Throws away a connection that was unused for long and does not answer.
fn alive() -> Hook {
    Hook::async_fn(|client, metrics| {
        Box::pin(async move {
            if metrics.last_used() < PROBE_AFTER {
                return Ok(());
            }
            let probe = timeout(RECYCLE_WITHIN, client.simple_query(""));
            match probe.await {
                Ok(answer) => answer.map(drop).map_err(HookError::Backend),
                Err(_) => Err(HookError::message("no answer")),
            }
        })
    })
}

/// How full the pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// Connections that exist.
    pub open: usize,
    /// Of these, unused now.
    pub idle: usize,
    /// Calls that wait for one.
    pub waiting: usize,
}

/// A pool of connections to one database; cheap to clone.
#[derive(Clone)]
pub struct Connections {
    pool: Pool,
    /// Whether a session is proven to stay ours from one statement to the next,
    /// so that statements may be prepared in it.
    own_sessions: Arc<AtomicBool>,
    /// When a connection was last refused, and why.
    refused: Arc<Mutex<Option<(Instant, String)>>>,
}

/// What becomes of a connection whose statement was refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterRefusal {
    Keep,
    /// Its transaction may still be open: the rollback may be refused too, and
    /// what the next caller writes would never be committed.
    Close,
}

impl Connections {
    /// At most `limit` connections to `database`, none opened yet. `actor` is
    /// written to the audit log with every change made through them.
    pub fn new(database: &Database, limit: usize, actor: &str) -> Self {
        // Sees whether it was closed; `alive` probes where that is not enough.
        let manager = database.manager(ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        });
        let settings = session_settings(actor);
        let pool = Pool::builder(manager)
            .max_size(limit.max(1))
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
            refused: Arc::default(),
        }
    }

    /// Says whether sessions are proven to stay ours, which a notification that
    /// arrives on the session that sent it proves; until then, and behind a
    /// transaction pooler, no statement is prepared, because the session may be
    /// another one by the time it runs. Prepared ones save planning at every call.
    pub fn set_own_sessions(&self, proven: bool) {
        self.own_sessions.store(proven, Ordering::Relaxed);
    }

    /// The same connections, whose sessions count as proven when those of
    /// `other` are: for two pools that reach one database in the same way.
    #[must_use]
    pub fn with_session_mode_of(mut self, other: &Self) -> Self {
        self.own_sessions = other.own_sessions.clone();
        self
    }

    pub(super) fn has_own_sessions(&self) -> bool {
        self.own_sessions.load(Ordering::Relaxed)
    }

    /// How full the pool is.
    pub fn pool_use(&self) -> PoolUse {
        let status = self.pool.status();
        PoolUse {
            open: status.size,
            idle: status.available,
            waiting: status.waiting,
        }
    }

    /// Runs one statement and returns its rows.
    ///
    /// # Errors
    /// [`DatabaseError`]; after [`DatabaseError::Late`] it may have taken effect.
    pub async fn rows(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, DatabaseError> {
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
    ///
    /// # Errors
    /// [`DatabaseError`]; after [`DatabaseError::Late`] it may have taken effect.
    pub async fn execute(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<u64, DatabaseError> {
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

    /// Runs one statement and reads each of its rows with `decode`.
    ///
    /// # Errors
    /// [`DatabaseError`], also when one row cannot be read.
    pub async fn each<T>(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
        decode: impl Fn(&Row) -> Result<T, Undecodable>,
    ) -> Result<Vec<T>, DatabaseError> {
        let found = self.rows(operation, sql, params).await?;
        found
            .iter()
            .map(decode)
            .collect::<Result<_, _>>()
            .map_err(|source| DatabaseError::Unreadable { operation, source })
    }

    /// Lends a connection to `work`, with a deadline. A connection that let it
    /// pass is not used again, nor one whose call was cancelled: its statement
    /// may still run. Nor is one whose server is going or became read-only; and
    /// what happened to one, cancelling apart, is expected of the idle ones too.
    pub(crate) async fn call<T>(
        &self,
        operation: &'static str,
        work: impl AsyncFnOnce(&mut ClientWrapper) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DatabaseError> {
        self.lend(operation, AfterRefusal::Keep, work).await
    }

    /// As [`Connections::call`]; `after` says what becomes of a connection on which
    /// a statement was refused.
    pub(super) async fn lend<T>(
        &self,
        operation: &'static str,
        after: AfterRefusal,
        work: impl AsyncFnOnce(&mut ClientWrapper) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DatabaseError> {
        let late = DatabaseError::Late {
            operation,
            after: CALL_DEADLINE,
        };
        let client = match timeout(CALL_DEADLINE, self.connection()).await {
            Ok(Ok(client)) => client,
            Ok(Err(source)) => return Err(DatabaseError::Unreachable { operation, source }),
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
        } else if after == AfterRefusal::Keep || matches!(answer, Ok(Ok(_))) {
            drop(ScopeGuard::into_inner(lent));
        } else {
            drop(lent);
        }
        match answer {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(source)) if useless => Err(DatabaseError::Lost { operation, source }),
            Ok(Err(source)) => Err(DatabaseError::from_statement(operation, source)),
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
        if at.elapsed() < CONNECT_AGAIN {
            return Some(why.clone());
        }
        *at = Instant::now();
        None
    }

    fn refused(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
