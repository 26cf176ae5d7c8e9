//! A pool of connections with a deadline for each call. While the server fails, it makes
//! one attempt to connect per second, and it never reuses a dead connection.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::QueueMode;
use deadpool_postgres::{
    ClientWrapper, Hook, HookError, ManagerConfig, Object, Pool, RecyclingMethod,
};
use futures_util::TryStreamExt;
use scopeguard::ScopeGuard;
use tokio::time::timeout;
use tokio_postgres::{CancelToken, Row, RowStream};

use crate::cause::chain;

use super::address::Database;
use super::error::{ends_session, has_outdated_plan};
use super::idle::IdleConnections;
use super::lock_waits::naming_blockers;
use super::session::SessionSettings;
use super::tls::Tls;
use super::{DatabaseError, NoConnection, Param, Undecodable, typed};

/// How long one call may take before its connection is closed.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// A connection that was idle for longer may be dead, and is probed before it is used. The
/// connection used last is used first, and the heartbeat uses it every 5 s, so the first
/// wake-up of an idle daemon needs no round trip for a probe.
const PROBE_AFTER: Duration = Duration::from_secs(10);

/// The pause after a refused connection: during an outage there is one attempt in this
/// time, however many calls wait.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// How long the request to end a statement may take.
const CANCEL_WITHIN: Duration = Duration::from_secs(5);

/// How long an idle connection may take to answer the probe.
const RECYCLE_WITHIN: Duration = Duration::from_secs(2);

/// Closes a connection that was idle for too long, or for long and does not answer.
fn probe_idle(idle: IdleConnections) -> Hook {
    Hook::async_fn(move |client, metrics| {
        let longest = idle.longest();
        Box::pin(async move {
            if metrics.last_used() >= longest {
                return Err(HookError::message("idle for too long"));
            }
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
    /// Open connections.
    pub open: usize,
    /// Open connections that are idle.
    pub idle: usize,
    /// Calls that wait for a connection.
    pub waiting: usize,
}

/// A pool of connections to one database; cheap to clone.
#[derive(Clone)]
pub struct Connections {
    pool: Pool,
    /// Whether consecutive statements are proven to use the same session, so that
    /// statements can be prepared in it.
    own_sessions: Arc<AtomicBool>,
    sessions: Arc<SessionSettings>,
    idle: IdleConnections,
    /// To explain a refused connection.
    tls: Tls,
    /// When the last connection was refused, and why.
    refused: Arc<Mutex<Option<(Instant, String)>>>,
}

/// What to do with a connection after an error of its statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterError {
    Keep,
    /// Its transaction may still be open, because the rollback may fail too. The next
    /// caller's writes would then never be committed.
    Close,
}

/// What a statement returned and changed.
struct StatementResult {
    rows: Vec<Row>,
    affected: u64,
}

impl StatementResult {
    async fn read(stream: RowStream) -> Result<Self, tokio_postgres::Error> {
        let mut stream = pin!(stream);
        let mut rows = Vec::new();
        while let Some(row) = stream.try_next().await? {
            rows.push(row);
        }
        let affected = stream.rows_affected().unwrap_or_default();
        Ok(Self { rows, affected })
    }
}

impl Connections {
    /// A pool of at most `limit` connections to `database`; opens none yet. `actor` is
    /// written to the audit log with every change through them.
    pub fn new(database: &Database, limit: usize, actor: &str) -> Self {
        // Checks only whether it was closed; `probe_idle` does the rest.
        let manager = database.manager(ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        });
        let sessions = Arc::new(SessionSettings::new(actor));
        let (settings, idle) = (sessions.clone(), IdleConnections::default());
        let limited = idle.clone();
        let pool = Pool::builder(manager)
            .max_size(limit.max(1))
            .runtime(deadpool_postgres::Runtime::Tokio1)
            .wait_timeout(Some(CALL_DEADLINE))
            .create_timeout(Some(database.connect_within()))
            .queue_mode(QueueMode::Lifo)
            .pre_recycle(probe_idle(idle.clone()))
            .post_create(Hook::async_fn(move |client, _| {
                let (settings, limited) = (settings.clone(), limited.clone());
                Box::pin(async move {
                    let limit = settings.begin_session(client).await;
                    limited.set_limit(limit.map_err(HookError::Backend)?);
                    Ok(())
                })
            }))
            .build()
            .expect("the pool has a runtime");
        Self {
            pool,
            own_sessions: Arc::default(),
            sessions,
            idle,
            tls: database.tls().clone(),
            refused: Arc::default(),
        }
    }

    /// Sets whether consecutive statements are proven to use the same session. The
    /// listener's notification to itself proves it. Until then, and behind a transaction
    /// pooler, no statement is prepared, because it could run in another session.
    /// Prepared statements save planning at every call.
    pub fn set_own_sessions(&self, proven: bool) {
        self.own_sessions.store(proven, Ordering::Relaxed);
    }

    /// The same connections, which share the proof of `other` about sessions: for two
    /// pools with the same server and database.
    #[must_use]
    pub fn with_session_mode_of(mut self, other: &Self) -> Self {
        self.own_sessions = other.own_sessions.clone();
        self
    }

    pub(super) fn sessions(&self) -> &SessionSettings {
        &self.sessions
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
        let done = self.statement(operation, sql, params).await?;
        Ok(done.rows)
    }

    /// Runs one statement and returns the number of affected rows.
    ///
    /// # Errors
    /// [`DatabaseError`]; after [`DatabaseError::Late`] it may have taken effect.
    pub async fn execute(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<u64, DatabaseError> {
        let done = self.statement(operation, sql, params).await?;
        Ok(done.affected)
    }

    /// Runs one statement, prepared if consecutive statements are proven to use the same
    /// session. If what the session knows of the schema is out of date, the server rejected
    /// the statement and nothing happened: it runs again at once, in another session and
    /// not prepared.
    async fn statement(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<StatementResult, DatabaseError> {
        let prepared = self.own_sessions.load(Ordering::Relaxed);
        match self.once(operation, prepared, sql, params).await {
            Err(DatabaseError::Lost { source, .. }) if has_outdated_plan(&source) => {
                self.once(operation, false, sql, params).await
            }
            answer => answer,
        }
    }

    async fn once(
        &self,
        operation: &'static str,
        prepared: bool,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<StatementResult, DatabaseError> {
        self.call(operation, async |client| {
            if self.sessions.are_per_transaction() {
                let transaction = self.sessions.begin(client).await?;
                let stream = transaction.query_typed_raw(sql, typed(params)).await?;
                let done = StatementResult::read(stream).await?;
                transaction.commit().await?;
                return Ok(done);
            }
            let stream = if prepared {
                let statement = client.prepare_cached(sql).await?;
                client.query_raw(&statement, params.iter().copied()).await?
            } else {
                client.query_typed_raw(sql, typed(params)).await?
            };
            StatementResult::read(stream).await
        })
        .await
    }

    /// Runs one statement and reads each row with `decode`.
    ///
    /// # Errors
    /// [`DatabaseError`], also if a row cannot be read.
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

    /// Runs `work` on a connection, with a deadline. Closes the connection if the deadline
    /// passes or the call is cancelled, because its statement may still run, and if its
    /// server shuts down, became read-only, or changed its schema. In all these cases but
    /// cancellation it also closes the idle connections.
    pub(crate) async fn call<T>(
        &self,
        operation: &'static str,
        work: impl AsyncFnOnce(&mut ClientWrapper) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DatabaseError> {
        self.call_with(operation, AfterError::Keep, work).await
    }

    /// As [`Connections::call`]; `after` says what to do with the connection after an error
    /// of a statement.
    pub(super) async fn call_with<T>(
        &self,
        operation: &'static str,
        after: AfterError,
        work: impl AsyncFnOnce(&mut ClientWrapper) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DatabaseError> {
        let late = DatabaseError::Late {
            operation,
            after: CALL_DEADLINE,
        };
        let client = match timeout(CALL_DEADLINE, self.connection()).await {
            Ok(Ok(client)) => client,
            Ok(Err(source)) => return Err(DatabaseError::from_connecting(operation, source)),
            Err(_) => return Err(late),
        };
        let mut lent = scopeguard::guard(client, |client| drop(Object::take(client)));
        let session = (!self.sessions.are_per_transaction()).then(|| lent.cancel_token());
        let working = timeout(CALL_DEADLINE, work(&mut lent));
        let (answer, blockers) = naming_blockers(&self.pool, session, working).await;
        if answer.is_err() {
            self.cancel(lent.cancel_token());
        }
        let unusable = match &answer {
            Ok(Ok(_)) => false,
            Ok(Err(source)) => {
                source.is_closed()
                    || source.code().is_some_and(ends_session)
                    || has_outdated_plan(source)
            }
            Err(_) => true,
        };
        if unusable {
            drop(lent);
            self.pool.retain(|_, _| false);
        } else if matches!(answer, Ok(Ok(_)))
            || after == AfterError::Keep && !self.sessions.are_per_transaction()
        {
            drop(ScopeGuard::into_inner(lent));
        } else {
            drop(lent);
        }
        match answer {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(source)) if unusable => {
                Err(DatabaseError::from_ended_session(operation, source))
            }
            Ok(Err(source)) => {
                Err(DatabaseError::from_statement(operation, source).blocked_by(blockers))
            }
            Err(_) => Err(late),
        }
    }

    /// Asks the server to end a statement that is late. A commit that waits for a synchronous
    /// standby has no limit of time, and would keep its session until the standby answers.
    fn cancel(&self, statement: CancelToken) {
        let tls = self.tls.connector();
        tokio::spawn(timeout(CANCEL_WITHIN, async move {
            // An error is most likely that of the statement: the server does not answer.
            let _ = statement.cancel_query(tls).await;
        }));
    }

    /// An idle connection that answers, or else a new one. If one idle connection does not
    /// answer, all idle ones are closed.
    async fn connection(&self) -> Result<Object, NoConnection> {
        if let Some(why) = self.refused_recently() {
            return Err(NoConnection::Recent(why));
        }
        // Without an idle connection all the time is for connecting: the first of several
        // hosts may not answer.
        let got = if self.pool.status().available == 0 {
            self.pool.get().await
        } else if let Ok(got) = timeout(RECYCLE_WITHIN, self.pool.get()).await {
            got
        } else {
            self.pool.retain(|_, _| false);
            self.pool.get().await
        };
        let got = got.map_err(|error| NoConnection::from(error).advised(&self.tls));
        self.idle.search(&self.pool);
        *self.refused() = match &got {
            Err(why @ (NoConnection::Refused(_) | NoConnection::Advised { .. })) => {
                Some((Instant::now(), chain(why)))
            }
            _ => None,
        };
        got
    }

    /// Why the last connection was refused, if that was less than [`RECONNECT_PAUSE`] ago
    /// and no connection is idle. After the pause, the first caller tries to connect.
    fn refused_recently(&self) -> Option<String> {
        if self.pool.status().available > 0 {
            return None;
        }
        let mut refused = self.refused();
        let (at, why) = refused.as_mut()?;
        if at.elapsed() < RECONNECT_PAUSE {
            return Some(why.clone());
        }
        *at = Instant::now();
        None
    }

    fn refused(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
