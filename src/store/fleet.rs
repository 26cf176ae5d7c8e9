//! The daemons of a database, from the view of a cluster that waits: whether one works on it,
//! and its position in the queues. Reads only; nothing is decided by it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tokio::sync::Mutex;

use crate::clusters::plan::DeletionQueue;
use crate::clusters::{Cluster, Selector, Waiting};
use crate::core::database::{DatabaseError, column};
use crate::core::workload::Workload;
use crate::findings::FindingCode;

use super::{ReplicaStatus, Store, queries};

/// How old a [`Store::recent_fleet`] may be.
const RECENT: Duration = Duration::from_secs(1);

/// The last read state of the daemons.
pub type FleetCache = Arc<Mutex<Option<(Instant, Arc<FleetView>)>>>;

/// The daemons that send heartbeats, and the deletions that their cap defers.
#[derive(Clone, Debug)]
pub struct FleetView {
    /// Newest first.
    alive: Vec<ReplicaStatus>,
    /// Cap and queue of each deferred deletion, by the name of its cluster.
    deferred: HashMap<String, (usize, DeletionQueue)>,
    /// When the last heartbeat that is known becomes too old.
    silent_at: Option<Instant>,
}

/// What is wrong, and what to do about it: for the banner of the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The cause.
    pub what: String,
    /// What a person does about it.
    pub next: String,
}

impl Store {
    /// The daemons whose last heartbeat is younger than three `heartbeat`s.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn fleet(&self, heartbeat: Duration) -> Result<FleetView, DatabaseError> {
        let mut alive = self.replicas().await?;
        alive.retain(|replica| replica.alive(heartbeat));
        let limit = (heartbeat * 3).as_secs_f64();
        let deferred = self
            .each(
                "list deferred deletions",
                &queries::LIST_DEFERRED_DELETIONS,
                &[&limit],
                |row| {
                    let (cap, position): (i64, i64) =
                        (column(row, "cap")?, column(row, "position")?);
                    let queue = DeletionQueue {
                        now: column(row, "read_at")?,
                        counted: false,
                        begun: column(row, "begun")?,
                        ahead: usize::try_from(position - 1).unwrap_or(0),
                        behind: 0,
                    };
                    Ok((
                        column(row, "name")?,
                        (usize::try_from(cap).unwrap_or(0), queue),
                    ))
                },
            )
            .await?;
        let youngest = alive.iter().map(|one| one.silent_seconds);
        let youngest = youngest.min_by(f64::total_cmp);
        let left = youngest.and_then(|age| Duration::try_from_secs_f64(limit - age).ok());
        Ok(FleetView {
            alive,
            deferred: deferred.into_iter().collect(),
            silent_at: left.map(|left| Instant::now() + left),
        })
    }

    /// As [`Store::fleet`], at most a second old; `None` if it cannot be read. Then nothing is
    /// known of the daemons, and nothing is claimed.
    pub async fn recent_fleet(&self, heartbeat: Duration) -> Option<Arc<FleetView>> {
        let mut cached = self.fleet.lock().await;
        match &*cached {
            Some((at, fleet)) if at.elapsed() < RECENT => Some(fleet.clone()),
            _ => {
                let fleet = Arc::new(self.fleet(heartbeat).await.ok()?);
                *cached = Some((Instant::now(), fleet.clone()));
                Some(fleet)
            }
        }
    }

    /// Writes the workload of a daemon, and the cap on deletions that it applies; `false` if it
    /// has no row yet.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn write_workload(
        &self,
        owner: &str,
        workload: &Workload,
        delete_cap: usize,
    ) -> Result<bool, DatabaseError> {
        let mut written = json!(workload);
        written["delete_cap"] = json!(delete_cap);
        let operation = "write the workload";
        let params = &[&owner as _, &written as _];
        let count = self.execute(operation, &queries::WRITE_WORKLOAD, params);
        Ok(count.await? > 0)
    }
}

impl FleetView {
    /// When the state of the daemons changes although nothing is written: the last heartbeat
    /// becomes too old.
    pub fn silent_at(&self) -> Option<Instant> {
        self.silent_at
    }

    /// Why no daemon works on anything, if so.
    pub fn idle(&self) -> Option<Waiting> {
        let Some(newest) = self.alive.first() else {
            return Some(Waiting::NoDaemon);
        };
        let standby = self.alive.iter().all(|replica| replica.standby);
        standby.then(|| Waiting::AllOnStandby(newest.notice.clone()))
    }

    /// Why no daemon works on anything, if so, and what to do about it.
    pub fn idle_problem(&self) -> Option<Problem> {
        Some(match self.idle()? {
            Waiting::NoDaemon => Problem {
                what: "no daemon is running: nothing is created, checked, repaired or deleted"
                    .to_owned(),
                next: "start `kindler serve` on the host of the clusters".to_owned(),
            },
            idle => Problem {
                what: idle.to_string(),
                next: "start the release that the schema belongs to (docs/OPERATIONS.md, Rollback)"
                    .to_owned(),
            },
        })
    }

    /// What a cluster that is not as declared waits for. `None`: for nothing that is known here,
    /// or an action runs.
    pub fn waiting(&self, cluster: &Cluster) -> Option<Waiting> {
        if cluster.settled() {
            return None;
        }
        if let Some(idle) = self.idle() {
            return Some(idle);
        }
        let name = cluster.name.as_str();
        let takers: Vec<&ReplicaStatus> = self
            .alive
            .iter()
            .filter(|one| takes(one, cluster))
            .collect();
        if takers.is_empty() {
            return (!cluster.observe_only()).then_some(Waiting::Unselected);
        }
        let works = |one: &&ReplicaStatus| one.workload.running.iter().any(|key| key == name);
        if cluster.actual.is_transitional() && takers.iter().any(works) {
            return None;
        }
        if let Some((cap, queue)) = self.deferred.get(name) {
            let begins_in = queue.begins_at(*cap).duration_since(queue.now);
            return Some(Waiting::Deferred {
                cap: *cap,
                position: queue.ahead + 1,
                begins_in: Duration::try_from(begins_in).unwrap_or_default(),
            });
        }
        let due = cluster
            .next_attempt_at
            .is_none_or(|at| at <= Timestamp::now());
        if !due || takers.iter().any(works) {
            return None;
        }
        let queued = takers.iter().map(|one| queued(&one.workload, name));
        // The best of its queues; with a free worker it waits in none.
        let queued: Option<Vec<_>> = queued.collect();
        queued?
            .into_iter()
            .min_by_key(|(position, _)| position.unwrap_or(usize::MAX))
            .map(|(position, (busy, workers))| Waiting::Queued {
                busy,
                workers,
                position,
            })
    }

    /// What is wrong with the daemons and around them, most important first.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match self.idle_problem() {
            Some(idle) => problems.push(idle),
            None => problems.extend(self.alive.iter().filter(|one| one.standby).map(|one| {
                let why = one
                    .notice
                    .as_deref()
                    .unwrap_or("its release is older than the schema");
                Problem {
                    what: format!("{} is on standby: {why}", one.host),
                    next: "start the release that the schema belongs to there".to_owned(),
                }
            })),
        }
        for one in &self.alive {
            let found = one.findings.iter();
            // Said above already.
            let found = found.filter(|found| found.code != FindingCode::ReplicaOnStandby);
            problems.extend(found.map(|found| Problem {
                what: format!("{}: {}", one.host, found.what),
                next: found.next.clone(),
            }));
        }
        problems
    }

    /// The refused writes of a cluster, if a daemon reports some.
    pub fn refusal(&self, name: &str) -> Option<&crate::core::refusals::RefusedWrite> {
        self.alive.iter().find_map(|replica| replica.refusal(name))
    }
}

/// Position and busy workers of a key that waits for a worker: its position among those that wait
/// for the same workers. `None` if one is free for it.
fn queued(work: &Workload, name: &str) -> Option<(Option<usize>, (usize, usize))> {
    let at = work.next.iter().position(|key| key == name);
    let long = at.filter(|at| *at < work.long);
    let (busy, all) = match long {
        Some(_) => (work.taken, work.places),
        None => (work.busy, work.workers),
    };
    let before = at.map(|at| if long.is_some() { at } else { at - work.long });
    (all > 0 && busy >= all).then(|| (before.map(|before| before + 1), (busy, all)))
}

/// Whether a daemon works on a cluster, as `kindler_takes` decides it.
fn takes(replica: &ReplicaStatus, cluster: &Cluster) -> bool {
    if replica.standby {
        return false;
    }
    match (&replica.selector, &cluster.placed_by) {
        (None, _) => true,
        (Some(own), Some(placed)) => own == placed,
        (Some(own), None) => {
            let selects = |selector: Selector| selector.matches(&cluster.labels);
            own.parse().is_ok_and(selects)
        }
    }
}
