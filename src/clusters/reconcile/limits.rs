//! The safety limits: the cap on deletions, and no repairs during an outage of the host.
//! [`crate::clusters::plan`] and [`crate::clusters::health`] decide; this module collects
//! their input and logs each deferral once instead of per row. It must not decide.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::{info, warn};

use crate::clusters::health::{
    HealthPolicy, HostHealth, HostOutage, MIN_PROBED, MassVanishing, Vanished,
};
use crate::clusters::observation::Observation;
use crate::clusters::plan::{
    Decision, DeletionQueue, Status, defer_deletion, defer_recreation, defer_repair, is_repair,
};
use crate::clusters::{Actual, Cluster, Desired};
use crate::core::database::DatabaseError;
use crate::core::rows::{Leased, Written};
use crate::core::steps::StepChange;
use crate::core::work::CancelReason;
use crate::duration;
use crate::findings::{Finding, FindingCode};

use super::context::ReconcileContext;
use super::{ClusterReconciler, moment};

/// How many others are observed before a cluster that vanished is created again.
const OTHERS_OF_A_VANISHED: usize = 8;

/// The input of the safety limits, and which deferrals are logged.
#[derive(Debug)]
pub struct SafetyLimits {
    host: Mutex<HostHealth>,
    vanished: Mutex<Vanished>,
    recreations_deferred: AtomicBool,
    repairs_deferred: AtomicBool,
    deletions_deferred: AtomicBool,
}

impl SafetyLimits {
    /// Without observations and deferrals.
    pub fn new(policy: &HealthPolicy) -> Self {
        Self {
            host: Mutex::new(HostHealth::new(policy)),
            vanished: Mutex::default(),
            recreations_deferred: AtomicBool::new(false),
            repairs_deferred: AtomicBool::new(false),
            deletions_deferred: AtomicBool::new(false),
        }
    }

    /// Removes the observation of a cluster, because an action on it starts.
    pub(super) fn action_starts(&self, name: &str) {
        self.host().remove(name);
        self.vanished().remove(name);
    }

    fn vanished(&self) -> MutexGuard<'_, Vanished> {
        self.vanished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The event that defers the recreation of this cluster. Logs its start and its end.
    fn mass_vanishing(&self, name: &str) -> Option<MassVanishing> {
        let (event, lasts) = {
            let vanished = self.vanished();
            (vanished.defers(name), vanished.event().is_some())
        };
        let logged = &self.recreations_deferred;
        match &event {
            Some(event) if !logged.swap(true, Ordering::Relaxed) => warn!(
                known = event.known,
                absent = event.absent.join(", "),
                "most clusters vanished at about the same time: none is created again until the \
                 container engine shows them, or a person requests it"
            ),
            None if !lasts && logged.swap(false, Ordering::Relaxed) => {
                info!("no recreation is deferred any more");
            }
            _ => {}
        }
        event
    }

    /// The findings while recreations or repairs are suspended.
    pub fn findings(&self) -> Vec<Finding> {
        let recreations = self.vanished().event().map(|event| {
            Finding::new(
                FindingCode::RecreationsSuspended,
                format!(
                    "{} of {} clusters vanished at about the same time ({}), so none is created again",
                    event.absent.len(),
                    event.known,
                    event.absent.join(", ")
                ),
                "check that the container engine is the right one and has its data; \
                 `kindler retry NAME` creates one cluster again now",
            )
        });
        recreations.into_iter().chain(self.finding()).collect()
    }

    fn host(&self) -> MutexGuard<'_, HostHealth> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, cluster: &Cluster, observed: &Observation) {
        let (name, now) = (cluster.name.as_str(), Instant::now());
        self.host().add(name, now, observed);
        self.vanished().add(name, now, observed);
    }

    /// How many other clusters to observe before a repair, and which are known.
    fn others(&self) -> (usize, Vec<String>) {
        let (host, now) = (self.host(), Instant::now());
        let known = host.recent(now).into_iter().map(str::to_owned).collect();
        (host.others_to_observe(now), known)
    }

    /// The outage of the host that defers a decision, which may be the repair of this
    /// cluster. Logs the start and the end of a suspension.
    fn outage(&self, name: &str, repair: bool) -> Option<HostOutage> {
        let (outage, recovered, suspended) = {
            let (mut host, now) = (self.host(), Instant::now());
            let outage = if repair {
                host.defers(name, now)
            } else {
                // Few clusters that cannot be observed are no outage of their own.
                host.outage(now)
                    .filter(|outage| outage.probed >= MIN_PROBED)
            };
            let recovered = host.end_if_most_answer(now);
            (outage, recovered, host.suspended(now).is_some())
        };
        let logged = &self.repairs_deferred;
        if let Some(outage) = &outage {
            if !logged.swap(true, Ordering::Relaxed) {
                warn!(
                    probed = outage.probed,
                    unresponsive = outage.unresponsive,
                    because = outage.words,
                    tried_in = duration::compact(outage.tried_in),
                    "most clusters do not answer: repairs are deferred until most answer again; \
                     is the container runtime down?"
                );
            }
        } else if repair && suspended {
            warn!("most clusters do not answer: this repair is tried nevertheless");
        } else if recovered && logged.swap(false, Ordering::Relaxed) {
            info!("most clusters answer again: repairs resume");
        }
        outage
    }

    /// A repair has ended. After one that succeeded the host is not at fault.
    pub(super) fn repair_ended(&self, name: &str, healthy: bool) {
        let mut host = self.host();
        if !healthy {
            host.not_repaired();
            return;
        }
        host.repaired(name, Instant::now());
        if self.repairs_deferred.swap(false, Ordering::Relaxed) {
            info!("a repair has succeeded: repairs resume");
        }
    }

    /// The finding while repairs are suspended.
    fn finding(&self) -> Option<Finding> {
        let (host, now) = (self.host(), Instant::now());
        // Of clusters that cannot be observed no repair is deferred, only their status.
        let logged = self.repairs_deferred.load(Ordering::Relaxed);
        let unobserved = || {
            let outage = host.outage(now).filter(|_| logged);
            outage.filter(|outage| outage.probed >= MIN_PROBED)
        };
        let outage = host.suspended(now).or_else(unobserved)?;
        Some(Finding::new(
            FindingCode::RepairsSuspended,
            format!(
                "{} of {} clusters do not answer ({}), so repairs are suspended; one is tried {}",
                outage.unresponsive,
                outage.probed,
                outage.words,
                outage.tried()
            ),
            "check the container runtime, the network and the disk of this host; \
             `kindler retry NAME` repairs one cluster now",
        ))
    }

    /// Logs when deletions are deferred, and when none is any more.
    fn log_deletion(&self, status: &Status, cap: usize, queue: &DeletionQueue) {
        let deferred = status.actual != Actual::Deleting;
        let none_left = !deferred && queue.ahead + queue.behind == 0;
        if deferred && !self.deletions_deferred.swap(true, Ordering::Relaxed) {
            warn!(
                cap,
                waiting = queue.ahead + queue.behind + 1,
                to_stop_them = crate::store::STOP_DELETIONS,
                "deletions are deferred: KINDLER_DELETE_CAP limits how many start within a minute"
            );
        } else if none_left && self.deletions_deferred.swap(false, Ordering::Relaxed) {
            info!("no deletion is deferred any more");
        }
    }
}

impl ClusterReconciler {
    /// Commits the intent of a deletion, or that it is deferred.
    pub(super) async fn begin_deletion(
        &self,
        context: &ReconcileContext<'_>,
        row: &Leased<Cluster>,
        intent: Status,
        steps: &[StepChange],
    ) -> Result<Written<Cluster>, DatabaseError> {
        let cap = self.policy.delete_cap;
        let decide = |queue: &DeletionQueue| {
            let status = defer_deletion(&row.object, intent.clone(), cap, queue);
            self.limits.log_deletion(&status, cap, queue);
            status
        };
        let interrupted = self.interrupted_changes(context, &row.object);
        let (store, lease) = (&self.store, context.work.lease());
        let written = if cap == 0 {
            store
                .begin_uncapped_deletion(lease, row, steps, &intent)
                .await?
        } else {
            store
                .begin_deletion(lease, row, (steps, &interrupted), decide)
                .await?
        };
        if matches!(&written, Written::Yes(row) if row.object.actual == Actual::Deleting) {
            context.work.recorded(steps);
        }
        Ok(written)
    }

    /// Defers a repair during an outage of the host. If too few clusters were observed
    /// recently to detect one, or mostly suspects, observes others first.
    pub(super) async fn limit_repair(
        &self,
        context: &ReconcileContext<'_>,
        row: &Leased<Cluster>,
        observed: &Observation,
        decision: Decision,
    ) -> Result<Result<Decision, CancelReason>, DatabaseError> {
        let cluster = &row.object;
        let runs = cluster.desired == Desired::Present && cluster.actual == Actual::Running;
        let counts = runs && !cluster.observe_only();
        if counts {
            self.limits.add(cluster, observed);
        }
        let repair = is_repair(cluster, &decision, moment(row));
        let (mut others, mut known) = self.limits.others();
        if repair && *observed == Observation::Absent {
            // The others may have vanished since they were observed.
            (others, known) = (OTHERS_OF_A_VANISHED, Vec::new());
        }
        if repair && others > 0 && !self.policy.health.suspend_for.is_zero() {
            let others = (others, known);
            if let Err(cancelled) = self.observe_others(context, cluster, others).await? {
                return Ok(Err(cancelled));
            }
            if counts {
                // Observing the others may take longer than an observation counts.
                self.limits.add(cluster, observed);
            }
        }
        let name = cluster.name.as_str();
        if !self.policy.health.suspend_for.is_zero()
            && let Some(event) = self.limits.mass_vanishing(name)
        {
            let (policy, now) = (&self.policy, moment(row));
            return Ok(Ok(defer_recreation(cluster, decision, &event, policy, now)));
        }
        let outage = self.limits.outage(name, repair);
        Ok(Ok(defer_repair(
            cluster,
            decision,
            outage,
            &self.policy,
            moment(row),
        )))
    }

    /// Observes other clusters: so many, and none that is known.
    async fn observe_others(
        &self,
        context: &ReconcileContext<'_>,
        cluster: &Cluster,
        (limit, mut known): (usize, Vec<String>),
    ) -> Result<Result<(), CancelReason>, DatabaseError> {
        known.push(cluster.name.as_str().to_owned());
        let others = self.store.peers(&known, limit, self.driver.name()).await?;
        let observations = match context.observe_others(&*self.driver, &others).await {
            Ok(observations) => observations,
            Err(cancelled) => return Ok(Err(cancelled)),
        };
        for (other, observed) in others.iter().zip(&observations) {
            self.limits.add(other, observed);
        }
        Ok(Ok(()))
    }
}
