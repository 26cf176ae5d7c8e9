//! Reads the fleet for a scrape, with a deadline: `/metrics` responds whatever
//! the database does. Concurrent scrapes share one reading, so that they neither
//! pile up nor exhaust the reconciler's connections.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

use crate::clusters::event::Reason;
use crate::config::HEARTBEAT;
use crate::core::database::DatabaseError;
use crate::metrics::{Fleet, render_clusters};
use crate::store::{StateCount, Store};

/// How long a scrape waits for the database.
const WITHIN: Duration = Duration::from_millis(1500);
/// An older answer does not show that the database is up now.
const FRESH: Duration = Duration::from_secs(5);
/// Maximum number of failing clusters with a metric of their own.
const WORST_SHOWN: i64 = 200;

/// The results of a reading so far.
#[derive(Clone, Debug, Default)]
pub(super) struct FleetSnapshot {
    /// Whether the database answered.
    pub(super) answers: bool,
    /// The metrics of the fleet; `None` if they were not read in time.
    pub(super) fleet: Option<Arc<String>>,
    /// The metrics of each cluster; `None` if disabled or not read in time.
    pub(super) clusters: Option<Arc<String>>,
    /// Whether all metrics were read.
    pub(super) complete: bool,
    /// Without an answer: whether the database answered the last reading with an error.
    pub(super) refuses: bool,
}

/// Reads the fleet; cheap to clone.
#[derive(Clone)]
pub struct FleetReader {
    // inputs
    store: Store,
    per_cluster: bool,
    // internal state
    current: Arc<Mutex<Option<FleetReading>>>,
    /// Whether the last reading ended with an error of a database that answers. A reading that
    /// waits for a lock ends after the scrape that began it.
    refuses: Arc<AtomicBool>,
}

/// A reading in progress; it closes its channel at the end.
#[derive(Clone)]
struct FleetReading {
    began: Instant,
    seen: watch::Receiver<FleetSnapshot>,
}

impl FleetReader {
    /// A reader of the metrics of each cluster, or of counts and failures only.
    pub fn new(store: Store, per_cluster: bool) -> Self {
        Self {
            store,
            per_cluster,
            current: Arc::default(),
            refuses: Arc::default(),
        }
    }

    /// Usage of the connection pool.
    pub(super) fn pool_use(&self) -> crate::core::database::PoolUse {
        self.store.pool_use()
    }

    /// Starts a reading or joins the current one; returns what it has at the
    /// deadline.
    pub(super) async fn read(&self) -> FleetSnapshot {
        let mut reading = self.join();
        let ended = async { while reading.seen.changed().await.is_ok() {} };
        let _ = timeout(WITHIN, ended).await;
        self.drop_ended();
        let mut seen = reading.seen.borrow().clone();
        seen.answers &= reading.began.elapsed() < FRESH;
        seen.refuses = !seen.answers && self.refuses.load(Ordering::Relaxed);
        seen
    }

    fn join(&self) -> FleetReading {
        let mut current = self.lock();
        let running = current.as_ref();
        if let Some(running) = running.filter(|reading| reading.seen.has_changed().is_ok()) {
            return running.clone();
        }
        let (results, seen) = watch::channel(FleetSnapshot::default());
        let reading = FleetReading {
            began: Instant::now(),
            seen,
        };
        let reader = self.clone();
        // A scrape that gives up does not cancel it: the deadlines of the store
        // end it, and discard a connection with an answer outstanding.
        tokio::spawn(async move {
            let collected = reader.collect(&results).await;
            let refused = collected
                .as_ref()
                .err()
                .is_some_and(|error| !error.is_outage());
            reader.refuses.store(refused, Ordering::Relaxed);
            if let Err(error) = collected {
                let error = &error as &dyn std::error::Error;
                debug!(error, "cannot read the fleet for a scrape");
            }
        });
        *current = Some(reading.clone());
        reading
    }

    /// Frees the results of the last reading, which can be megabytes.
    fn drop_ended(&self) {
        self.lock()
            .take_if(|reading| reading.seen.has_changed().is_err());
    }

    fn lock(&self) -> MutexGuard<'_, Option<FleetReading>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the results one by one, the cheap ones first.
    async fn collect(&self, results: &watch::Sender<FleetSnapshot>) -> Result<(), DatabaseError> {
        let states = self.store.counts().await?;
        results.send_modify(|seen| seen.answers = true);
        let fleet = self.fleet(states).await?.render();
        results.send_modify(|seen| seen.fleet = Some(Arc::new(fleet)));
        if self.per_cluster {
            let clusters = self.store.cluster_samples().await?;
            let text = tokio::task::spawn_blocking(move || Arc::new(render_clusters(&clusters)));
            let text = text.await.ok();
            results.send_modify(|seen| seen.clusters = text);
        }
        results.send_modify(|seen| seen.complete = !self.per_cluster || seen.clusters.is_some());
        Ok(())
    }

    async fn fleet(&self, states: Vec<StateCount>) -> Result<Fleet, DatabaseError> {
        let waiting = self.store.deferred_counts().await?;
        let deferred = |reason: Reason| {
            let of = waiting.iter().find(|one| one.reason == reason.as_str());
            of.map_or(0, |one| one.clusters)
        };
        let replicas = self.store.replica_counts(HEARTBEAT * 3).await?;
        let queue = self.store.notification_queue().await?;
        let unselected = self.store.unselected(HEARTBEAT * 3, None, 1).await?;
        let failing = self.store.failing_samples(WORST_SHOWN).await?;
        let steps = self.store.step_counts().await?.into_iter();
        let facts = self.store.facts(HEARTBEAT * 3).await?;
        Ok(Fleet {
            replicas: (replicas.reconciling, replicas.standby),
            notification_queue: queue,
            deletions_deferred: deferred(Reason::DeletionHeld),
            repairs_deferred: deferred(Reason::RepairHeld),
            unselected: unselected.total,
            states: states
                .into_iter()
                .filter_map(|state| {
                    let desired = state.desired_state.parse().ok()?;
                    Some((desired, state.actual_state.parse().ok()?, state.clusters))
                })
                .collect(),
            failing,
            // A later release may have more states.
            steps: steps
                .filter_map(|of| Some((of.driver, of.step, of.state.parse().ok()?, of.clusters)))
                .collect(),
            shows_pauses: !self.per_cluster,
            facts,
        })
    }
}
