//! Reading the fleet for a scrape, within a bound: however the database
//! behaves, `/metrics` answers. One reading at a time, shared by all who scrape
//! meanwhile, so that scrapes neither pile up nor take the reconciler's
//! connections.

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
/// What the database said longer ago says nothing of now.
const FRESH: Duration = Duration::from_secs(5);
/// So many of what fails are told one by one; more are in the counts.
const WORST_SHOWN: i64 = 200;

/// What is known so far of a reading.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Whether the database answered.
    pub(super) answers: bool,
    /// The families of the fleet as a whole; none if they could not be read in
    /// time.
    pub(super) fleet: Option<Arc<String>>,
    /// The families of each cluster; none if that is turned off, or late.
    pub(super) clusters: Option<Arc<String>>,
    /// Whether nothing is missing.
    pub(super) complete: bool,
}

/// Reads the fleet; cheap to clone.
#[derive(Clone)]
pub struct FleetReader {
    // inputs
    store: Store,
    per_cluster: bool,
    // internal state
    under_way: Arc<Mutex<Option<Reading>>>,
}

/// A reading under way; the channel is closed when it is over.
#[derive(Clone)]
struct Reading {
    began: Instant,
    seen: watch::Receiver<Seen>,
}

impl FleetReader {
    /// One that tells of each cluster, or of counts and failures only.
    pub fn new(store: Store, per_cluster: bool) -> Self {
        Self {
            store,
            per_cluster,
            under_way: Arc::default(),
        }
    }

    /// How full the pool is that it reads with.
    pub(super) fn pool_use(&self) -> crate::core::database::PoolUse {
        self.store.pool_use()
    }

    /// Reads, or waits with those who read already; after a while with what
    /// came until then.
    pub(super) async fn read(&self) -> Seen {
        let mut reading = self.join();
        let over = async { while reading.seen.changed().await.is_ok() {} };
        let _ = timeout(WITHIN, over).await;
        self.forget_what_is_over();
        let mut seen = reading.seen.borrow().clone();
        seen.answers &= reading.began.elapsed() < FRESH;
        seen
    }

    fn join(&self) -> Reading {
        let mut under_way = self.lock();
        let going = under_way.as_ref();
        if let Some(going) = going.filter(|reading| reading.seen.has_changed().is_ok()) {
            return going.clone();
        }
        let (told, seen) = watch::channel(Seen::default());
        let reading = Reading {
            began: Instant::now(),
            seen,
        };
        let reader = self.clone();
        // Not dropped when a scrape gives up: the store's own deadlines end it,
        // and throw away a connection that still owes an answer.
        tokio::spawn(async move {
            if let Err(error) = reader.tell(&told).await {
                let error = &error as &dyn std::error::Error;
                debug!(error, "the fleet could not be read for a scrape");
            }
        });
        *under_way = Some(reading.clone());
        reading
    }

    /// Megabytes are not kept from one scrape to the next.
    fn forget_what_is_over(&self) {
        self.lock()
            .take_if(|reading| reading.seen.has_changed().is_err());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reading>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what is read, the cheap before the dear.
    async fn tell(&self, told: &watch::Sender<Seen>) -> Result<(), DatabaseError> {
        let states = self.store.counts().await?;
        told.send_modify(|seen| seen.answers = true);
        let fleet = self.fleet(states).await?.render();
        told.send_modify(|seen| seen.fleet = Some(Arc::new(fleet)));
        if self.per_cluster {
            let clusters = self.store.cluster_samples().await?;
            let text = tokio::task::spawn_blocking(move || Arc::new(render_clusters(&clusters)));
            let text = text.await.ok();
            told.send_modify(|seen| seen.clusters = text);
        }
        told.send_modify(|seen| seen.complete = !self.per_cluster || seen.clusters.is_some());
        Ok(())
    }

    async fn fleet(&self, states: Vec<StateCount>) -> Result<Fleet, DatabaseError> {
        let waiting = self.store.deferred_counts().await?;
        let held = |reason: Reason| {
            let of = waiting.iter().find(|held| held.reason == reason.as_str());
            of.map_or(0, |held| held.clusters)
        };
        let replicas = self.store.replica_counts(HEARTBEAT * 3).await?;
        let unselected = self.store.unselected(HEARTBEAT * 3, None, 1).await?;
        let failing = self.store.failing_samples(WORST_SHOWN).await?;
        let steps = self.store.step_counts().await?.into_iter();
        Ok(Fleet {
            replicas: (replicas.reconciling, replicas.standby),
            notification_queue_usage: replicas.queue_usage,
            deletions_held: held(Reason::DeletionHeld),
            repairs_held: held(Reason::RepairHeld),
            unselected: unselected.total,
            states: states
                .into_iter()
                .filter_map(|state| {
                    let desired = state.desired_state.parse().ok()?;
                    Some((desired, state.actual_state.parse().ok()?, state.clusters))
                })
                .collect(),
            failing,
            // A later release may know more states.
            steps: steps
                .filter_map(|of| Some((of.driver, of.step, of.state.parse().ok()?, of.clusters)))
                .collect(),
            shows_pauses: !self.per_cluster,
        })
    }
}
