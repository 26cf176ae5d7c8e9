//! What keeps one step from doing harm to many, told once and not per row: the
//! cap on deletions, and no repairs while most clusters are silent. The
//! judgements are [`crate::clusters::plan`]'s and [`crate::clusters::health`]'s; this gathers what
//! they judge by and remembers what was told, and must not decide.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::{info, warn};

use crate::clusters::health::{ENOUGH, HealthPolicy, Outbreak, Spread};
use crate::clusters::observation::Observation;
use crate::clusters::plan::{
    Decision, DeletionQueue, Status, hold_deletion, hold_repair, is_repair,
};
use crate::clusters::{Actual, Cluster, Desired};
use crate::core::database::DatabaseError;
use crate::core::rows::{Leased, Written};
use crate::core::steps::StepChange;
use crate::core::work::Cut;

use super::pass::Pass;
use super::{ClusterReconciler, moment};

/// What is known of many clusters at once, and what was told of it.
#[derive(Debug)]
pub struct Caution {
    outbreak: Mutex<Outbreak>,
    repairs_held: AtomicBool,
    deletions_held: AtomicBool,
}

impl Caution {
    /// Nothing is known yet.
    pub fn new(policy: &HealthPolicy) -> Self {
        Self {
            outbreak: Mutex::new(Outbreak::new(policy)),
            repairs_held: AtomicBool::new(false),
            deletions_held: AtomicBool::new(false),
        }
    }

    /// From now on the cluster's silence is our own work.
    pub(super) fn works_on(&self, name: &str) {
        self.outbreak().forget(name);
    }

    fn outbreak(&self) -> MutexGuard<'_, Outbreak> {
        self.outbreak.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, cluster: &Cluster, observed: &Observation) {
        let mut outbreak = self.outbreak();
        outbreak.note(cluster.name.as_str(), Instant::now(), observed);
    }

    /// The clusters that need no second look; `None` if they are enough.
    fn too_few(&self) -> Option<Vec<String>> {
        let outbreak = self.outbreak();
        let fresh = outbreak.fresh(Instant::now());
        (fresh.len() < ENOUGH).then(|| fresh.into_iter().map(str::to_owned).collect())
    }

    /// Tells the log when most clusters fall silent, and when they answer.
    fn spread(&self) -> Option<Spread> {
        let spread = self.outbreak().spread(Instant::now());
        let was = self.repairs_held.swap(spread.is_some(), Ordering::Relaxed);
        match spread {
            Some(Spread { probed, silent }) if !was => warn!(
                probed,
                silent,
                "most clusters are silent: nothing is repaired until most answer again; \
                 is the container runtime down?"
            ),
            None if was => info!("most clusters answer again: repairs go on"),
            Some(_) | None => {}
        }
        spread
    }

    /// Tells the log when deletions begin to wait, and when none waits any
    /// more.
    fn deletion_settled(&self, status: &Status, cap: usize, queue: &DeletionQueue) {
        let waits = status.actual != Actual::Deleting;
        let over = !waits && queue.ahead + queue.behind == 0;
        if waits && !self.deletions_held.swap(true, Ordering::Relaxed) {
            warn!(
                cap,
                waiting = queue.ahead + queue.behind + 1,
                "deletions wait: more are wanted than KINDLER_DELETE_CAP lets begin within a minute"
            );
        } else if over && self.deletions_held.swap(false, Ordering::Relaxed) {
            info!("no deletion waits any more");
        }
    }
}

impl ClusterReconciler {
    /// Commits the intent of a deletion, or that it is deferred.
    pub(super) async fn begin_deletion(
        &self,
        pass: &Pass<'_>,
        row: &Leased<Cluster>,
        intent: Status,
        steps: &[StepChange],
    ) -> Result<Written<Cluster>, DatabaseError> {
        let cap = self.policy.delete_cap;
        let decide = |queue: &DeletionQueue| {
            let status = hold_deletion(&row.object, intent.clone(), cap, queue);
            self.caution.deletion_settled(&status, cap, queue);
            status
        };
        let (store, lease) = (&self.store, pass.work.lease());
        let written = if cap == 0 {
            store
                .begin_uncapped_deletion(lease, row, steps, &intent)
                .await?
        } else {
            store.begin_deletion(lease, row, steps, decide).await?
        };
        if matches!(&written, Written::Yes(row) if row.object.actual == Actual::Deleting) {
            pass.work.recorded(steps);
        }
        Ok(written)
    }

    /// Lets a repair go on only if it is the cluster that is ill, and not the
    /// host. Where too few others were looked at lately, they are now.
    pub(super) async fn weigh_repair(
        &self,
        pass: &Pass<'_>,
        row: &Leased<Cluster>,
        observed: &Observation,
        decision: Decision,
    ) -> Result<Result<Decision, Cut>, DatabaseError> {
        let cluster = &row.object;
        let runs = cluster.desired == Desired::Present && cluster.actual == Actual::Running;
        let evidence = runs && !cluster.hands_off();
        if evidence {
            self.caution.note(cluster, observed);
        }
        if is_repair(cluster, &decision, moment(row))
            && let Some(known) = self.caution.too_few()
        {
            if let Err(cut) = self.observe_others(pass, cluster, known).await? {
                return Ok(Err(cut));
            }
            if evidence {
                // Looking at the others may have taken longer than a look counts.
                self.caution.note(cluster, observed);
            }
        }
        let spread = self.caution.spread();
        Ok(Ok(hold_repair(
            cluster,
            decision,
            spread,
            &self.policy,
            moment(row),
        )))
    }

    async fn observe_others(
        &self,
        pass: &Pass<'_>,
        cluster: &Cluster,
        mut known: Vec<String>,
    ) -> Result<Result<(), Cut>, DatabaseError> {
        known.push(cluster.name.as_str().to_owned());
        let others = self.store.peers(&known, ENOUGH).await?;
        let seen = match pass.look_at_others(&*self.driver, &others).await {
            Ok(seen) => seen,
            Err(cut) => return Ok(Err(cut)),
        };
        for (other, observed) in others.iter().zip(&seen) {
            self.caution.note(other, observed);
        }
        Ok(Ok(()))
    }
}
