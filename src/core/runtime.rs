//! Runs several tables in one process: one listener for all, a controller for each, and
//! a periodic search for expired leases.
//!
//! A daemon that sets up its own parts uses [`Controllers`]; a small program needs only
//! [`Runtime`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use prometheus::Registry;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::controller::{Controller, ControllerSettings, Reconciler};
use super::database::{
    Connections, Database, DatabaseError, NEXT_ATTEMPT, Param, dead_client_limits, is_lock_timeout,
    limit_waits, lock_tables,
};
use super::lease::LeasePolicy;
use super::listener::{Listener, Listening, Route};
use super::metrics::CoreMetrics;
use super::object::Object;
use super::resource::{Resource, ResourceReconciler};
use super::rows::{Placement, Rows};
use super::wakeups::WakeupQueue;

/// Functions that prepare tables; see `sql/core/prepare.sql`.
const PREPARE: &str = include_str!("../../sql/core/prepare.sql");

/// How long to try to lock a table that is prepared.
const PREPARED_WITHIN: Duration = Duration::from_secs(30);

/// The time between two searches for expired leases.
const EXPIRED_EVERY: Duration = Duration::from_secs(5);
/// The limit of rows that one search wakes.
const EXPIRED_AT_ONCE: i64 = 1000;
/// Connections besides one for each worker.
const SPARE_CONNECTIONS: usize = 4;

type ControllerRun = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// Controllers that run side by side, each with its own channel and wake-up queue.
#[derive(Default)]
pub struct Controllers {
    routes: Vec<Route>,
    runs: Vec<ControllerRun>,
}

impl Controllers {
    /// Adds a controller; notifications on `channel` fill its queue `wakeups`.
    pub fn add<R: Reconciler>(
        &mut self,
        channel: String,
        wakeups: WakeupQueue,
        controller: Controller<R>,
    ) {
        self.listen(channel, wakeups);
        self.runs
            .push(Box::new(|shutdown| Box::pin(controller.run(shutdown))));
    }

    /// Adds a channel whose queue is drained outside these controllers.
    pub fn listen(&mut self, channel: String, wakeups: WakeupQueue) {
        self.routes.push(Route { channel, wakeups });
    }

    /// The channels and queues of all of them, for a listener.
    pub fn routes(&self) -> Vec<Route> {
        self.routes.clone()
    }

    /// Runs all of them until `shutdown`, and waits until each has ended.
    pub async fn run(self, shutdown: CancellationToken) {
        let runs = self.runs.into_iter().map(|run| run(shutdown.clone()));
        join_all(runs).await;
    }
}

type ExpiredSearch =
    Box<dyn Fn() -> BoxFuture<'static, Result<Vec<String>, DatabaseError>> + Send + Sync>;

/// Everything that a small program needs to reconcile its tables.
pub struct Runtime {
    database: Database,
    owner: Arc<str>,
    metrics: Arc<CoreMetrics>,
    controllers: Controllers,
    expired: Vec<(WakeupQueue, ExpiredSearch)>,
    pools: Vec<Connections>,
}

impl Runtime {
    /// Starts nothing yet. Registers the core's metrics in `registry`.
    pub fn new(database: Database, registry: &Registry) -> Self {
        let owner = format!("{}-{:016x}", std::process::id(), fastrand::u64(..));
        Self {
            database,
            owner: owner.into(),
            metrics: Arc::new(CoreMetrics::new(registry)),
            controllers: Controllers::default(),
            expired: Vec::new(),
            pools: Vec::new(),
        }
    }

    /// Runs `create`, which creates `table` if it does not exist, then prepares it to be
    /// reconciled: `key` is its unique text column; a change of the `desired` columns
    /// wakes the reconciler. Repeatable, also by several processes at once.
    ///
    /// # Errors
    /// The database's error; nothing is changed then.
    pub async fn prepare(
        &self,
        create: &str,
        table: &str,
        key: &str,
        desired: &[&str],
    ) -> Result<(), tokio_postgres::Error> {
        let mut client = self.database.connect().await?;
        let giving_up = Instant::now() + PREPARED_WITHIN;
        loop {
            let prepared = prepare(&mut client, create, table, key, desired).await;
            match prepared {
                Err(error) if is_lock_timeout(&error) && Instant::now() < giving_up => {
                    sleep(NEXT_ATTEMPT).await;
                }
                done => return done,
            }
        }
    }

    /// Adds a resource; [`Runtime::run`] reconciles its rows.
    ///
    /// # Errors
    /// [`DatabaseError`] if the database cannot be reached.
    pub async fn add<R: Resource>(
        &mut self,
        resource: R,
        settings: ControllerSettings,
        lease: LeasePolicy,
    ) -> Result<(), DatabaseError> {
        let limit = settings.concurrency + SPARE_CONNECTIONS;
        let connections = Connections::new(&self.database, limit, resource.name());
        let channel = channel(&connections, R::Object::TABLE.name).await?;
        let rows: Rows<R::Object> = Rows::new(connections.clone(), Placement::default());
        let (wakeups, metrics) = (
            WakeupQueue::default(),
            self.metrics.controller(resource.name()),
        );
        let reconciler = ResourceReconciler {
            resource,
            rows: rows.clone(),
            owner: self.owner.clone(),
            lease,
            metrics: metrics.clone(),
        };
        let controller = Controller::new(Arc::new(reconciler), settings, wakeups.clone(), metrics);
        let (queue, refusals) = (wakeups.clone(), controller.refusals());
        let search: ExpiredSearch = Box::new(move || {
            let (rows, refusals) = (rows.clone(), refusals.clone());
            Box::pin(async move {
                let mut expired = rows.expired(EXPIRED_AT_ONCE).await?;
                expired.retain(|key| refusals.until(key).is_none());
                Ok(expired)
            })
        });
        self.expired.push((queue, search));
        self.controllers.add(channel, wakeups, controller);
        self.pools.push(connections);
        Ok(())
    }

    /// Reconciles until `shutdown`, then lets running reconciles finish.
    pub async fn run(self, shutdown: CancellationToken) {
        let (state, mut listening) = watch::channel(Listening::No("starting".into()));
        let listener = Listener::new(self.database, self.controllers.routes(), state);
        let listener = tokio::spawn(listener.run(shutdown.clone()));
        let pools = self.pools;
        let sessions = tokio::spawn(async move {
            // The listener's notification to itself arrived: there is no transaction pooler.
            while listening.changed().await.is_ok() {
                let own = *listening.borrow_and_update() == Listening::Yes;
                pools.iter().for_each(|pool| pool.set_own_sessions(own));
            }
        });
        let searching = tokio::spawn(search_expired(self.expired, self.metrics, shutdown.clone()));
        self.controllers.run(shutdown).await;
        let _ended = tokio::join!(listener, searching, sessions);
    }
}

/// Prepares a table in one transaction, if its locks are free.
async fn prepare(
    client: &mut Client,
    create: &str,
    table: &str,
    key: &str,
    desired: &[&str],
) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction
        .batch_execute(&format!(
            "SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '60s'; {}",
            dead_client_limits()
        ))
        .await?;
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('kindler prepares tables', 0))";
    transaction.batch_execute(lock).await?;
    limit_waits(&transaction).await?;
    transaction.batch_execute(create).await?;
    lock_tables(&transaction, &[table]).await?;
    // The functions keep this path. Where it does not name pg_temp, temporary tables are
    // searched first, and could stand for the tables of functions with the owner's rights.
    let path =
        "SELECT set_config('search_path', current_setting('search_path') || ', pg_temp', true)";
    transaction.batch_execute(path).await?;
    transaction.batch_execute(PREPARE).await?;
    let sql =
        "SELECT kindler_prepare_table($1::text::regclass, $2::text::name, $3::text[]::name[])";
    let params = [
        (&table as Param<'_>, Type::TEXT),
        (&key as Param<'_>, Type::TEXT),
        (&desired as Param<'_>, Type::TEXT_ARRAY),
    ];
    transaction.execute_typed(sql, &params).await?;
    transaction.commit().await
}

async fn channel(connections: &Connections, table: &str) -> Result<String, DatabaseError> {
    let operation = "name a channel";
    let sql = "SELECT kindler_table_channel($1)";
    let found = connections.rows(operation, sql, &[&table]).await?;
    found
        .first()
        .map(|row| row.get(0))
        .ok_or(DatabaseError::NotMigrated { operation })
}

/// Wakes rows whose owner died, without waiting for the next full pass, and refreshes
/// the metrics that depend on the current time.
async fn search_expired(
    tables: Vec<(WakeupQueue, ExpiredSearch)>,
    metrics: Arc<CoreMetrics>,
    shutdown: CancellationToken,
) {
    let mut ticks = interval(EXPIRED_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        metrics.refresh();
        for (wakeups, expired) in &tables {
            match expired().await {
                Ok(keys) => keys.iter().for_each(|key| wakeups.wake(key)),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, "expired leases could not be read");
                }
            }
        }
    }
}
