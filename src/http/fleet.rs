//! Reading the fleet for a scrape, within a bound: however the database
//! behaves, `/metrics` answers. One reading at a time, shared by all who scrape
//! meanwhile, so that scrapes neither pile up nor take the reconciler's
//! connections.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

use crate::config::HEARTBEAT;
use crate::event::Reason;
use crate::metrics::{ClusterSeries, FailingCluster, Fleet};
use crate::store::{Stands, Store, StoreError, Worst};

/// How long a scrape waits for the database.
const WITHIN: Duration = Duration::from_millis(1500);
/// What the database said longer ago says nothing of now.
const FRESH: Duration = Duration::from_secs(5);
/// So many of what fails are told one by one; more are in the counts.
const WORST_SHOWN: i64 = 200;

/// What a scrape learns.
#[derive(Debug)]
pub(super) struct Seen {
    /// Whether the database answered.
    pub(super) answers: bool,
    /// The fleet's families; none if they could not be read in time.
    pub(super) text: Option<Arc<String>>,
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

#[derive(Clone)]
struct Reading {
    began: Instant,
    /// The first statement got its answer.
    answered: Arc<AtomicBool>,
    /// Closed without a value when it failed.
    text: watch::Receiver<Option<Arc<String>>>,
}

impl Reading {
    fn is_over(&self) -> bool {
        self.text.has_changed().is_err() || self.text.borrow().is_some()
    }
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
    pub(super) fn pool_use(&self) -> crate::store::PoolUse {
        self.store.pool_use()
    }

    /// Reads, or waits with those who read already.
    pub(super) async fn read(&self) -> Seen {
        let mut reading = self.join();
        let read = timeout(WITHIN, reading.text.wait_for(Option::is_some)).await;
        let text = match read {
            Ok(Ok(text)) => text.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        let answered = reading.answered.load(Ordering::Relaxed);
        Seen {
            answers: answered && reading.began.elapsed() < FRESH,
            text,
        }
    }

    fn join(&self) -> Reading {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = under_way.as_ref().filter(|reading| !reading.is_over()) {
            return reading.clone();
        }
        let (done, text) = watch::channel(None);
        let answered = Arc::new(AtomicBool::new(false));
        let reading = Reading {
            began: Instant::now(),
            answered: answered.clone(),
            text,
        };
        let reader = self.clone();
        // Not dropped when a scrape gives up: the store's own deadlines end it,
        // and throw away a connection that still owes an answer.
        tokio::spawn(async move {
            match reader.fleet(&answered).await {
                Ok(fleet) => {
                    let text = tokio::task::spawn_blocking(move || fleet.render()).await;
                    done.send_replace(text.ok().map(Arc::new));
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    debug!(error, "the fleet could not be read for a scrape");
                }
            }
        });
        *under_way = Some(reading.clone());
        reading
    }

    async fn fleet(&self, answered: &AtomicBool) -> Result<Fleet, StoreError> {
        let states = self.store.counts().await?;
        answered.store(true, Ordering::Relaxed);
        let waiting = self.store.waiting().await?;
        let held = |reason: Reason| {
            let of = waiting.iter().find(|held| held.reason == reason.as_str());
            of.map_or(0, |held| held.clusters)
        };
        let crew = self.store.crew(HEARTBEAT * 3).await?;
        let failing = self.store.worst(WORST_SHOWN).await?;
        let clusters = match self.per_cluster {
            true => Some(self.store.standings().await?),
            false => None,
        };
        Ok(Fleet {
            replicas: (crew.reconciling, crew.aside),
            notification_queue_usage: crew.queue_usage,
            deletions_held: held(Reason::DeletionHeld),
            repairs_held: held(Reason::RepairHeld),
            states: states
                .into_iter()
                .filter_map(|state| {
                    let desired = state.desired_state.parse().ok()?;
                    Some((desired, state.actual_state.parse().ok()?, state.clusters))
                })
                .collect(),
            failing: failing.into_iter().map(failing_cluster).collect(),
            clusters: clusters.map(|all| all.into_iter().map(series).collect()),
        })
    }
}

fn failing_cluster(worst: Worst) -> FailingCluster {
    FailingCluster {
        name: worst.name,
        reason: worst.reason,
        failures: i64::from(worst.failed_attempts),
        next_retry_seconds: worst.next_attempt,
    }
}

fn series(stands: Stands) -> ClusterSeries {
    ClusterSeries {
        name: stands.name,
        provider: stands.provider,
        standing: stands.standing,
        paused: stands.paused,
        created_seconds: stands.created,
        declared_seconds: stands.declared,
        reconciled_seconds: stands.reconciled,
    }
}
