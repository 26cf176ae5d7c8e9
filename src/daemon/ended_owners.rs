//! Releases the leases of owners on this host that have ended, so that they need not expire.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::identity;
use crate::command::{EndedOwner, OwnerLocks, daemons_of_left_runs};
use crate::config::HEARTBEAT;
use crate::core::database::DatabaseError;
use crate::core::wakeups::WakeupQueue;
use crate::store::Store;

/// How long what an owner has started outside of its guards may take to show, such as the
/// process of a sandbox cluster.
const SHOWS_WITHIN: Duration = Duration::from_secs(1);

/// When a statement that a killed owner has sent has ended: a claim may be committed after the
/// first release. The limit of a statement on the server is 5 s.
const STATEMENTS_END_WITHIN: Duration = Duration::from_secs(10);

/// The owners on this host that have ended.
pub(super) struct EndedOwners {
    store: Store,
    locks: OwnerLocks,
    /// Their leases were released once, at that time.
    released: Vec<(Instant, EndedOwner)>,
}

/// Looks for ended owners at every heartbeat.
pub(super) async fn release_always(
    mut owners: EndedOwners,
    wakeups: WakeupQueue,
    shutdown: CancellationToken,
) {
    let mut ticks = interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let leases = owners.release().await + owners.release_again().await;
        if leases > 0 {
            wakeups.wake_everything();
        }
    }
}

impl EndedOwners {
    pub(super) fn new(store: Store, locks: OwnerLocks) -> Self {
        Self {
            store,
            locks,
            released: Vec::new(),
        }
    }

    /// Releases the leases of the owners that have ended, and returns their number.
    pub(super) async fn release(&mut self) -> u64 {
        let ended = self.locks.ended();
        if ended.is_empty() {
            return 0;
        }
        sleep(SHOWS_WITHIN).await;
        // A command that has closed what it inherited holds no lock.
        let Ok(working) = tokio::task::spawn_blocking(daemons_of_left_runs).await else {
            return 0;
        };
        let mut count = 0;
        for owner in ended {
            if identity::pid_of(owner.owner()).is_some_and(|pid| working.contains(&pid)) {
                warn!(
                    owner = owner.owner(),
                    "an owner on this host has ended, but a command of it runs"
                );
                continue;
            }
            if let Some(leases) = self.release_leases(&owner).await {
                info!(
                    owner = owner.owner(),
                    leases, "an owner on this host has ended"
                );
                count += leases;
                self.released.push((Instant::now(), owner));
            }
        }
        count
    }

    /// Releases what statements in flight have claimed since, and forgets their owners.
    pub(super) async fn release_again(&mut self) -> u64 {
        let (mut count, mut later) = (0, Vec::new());
        for (at, owner) in std::mem::take(&mut self.released) {
            if at.elapsed() < STATEMENTS_END_WITHIN {
                later.push((at, owner));
                continue;
            }
            match self.release_leases(&owner).await {
                Some(leases) => {
                    count += leases;
                    owner.forget();
                }
                None => later.push((at, owner)),
            }
        }
        self.released = later;
        count
    }

    /// Waits until the statements of the released owners have ended, and forgets the owners.
    pub(super) async fn finish(mut self) {
        if let Some((last, _)) = self.released.last() {
            sleep(STATEMENTS_END_WITHIN.saturating_sub(last.elapsed())).await;
            self.release_again().await;
        }
    }

    async fn release_leases(&self, owner: &EndedOwner) -> Option<u64> {
        let released = self.try_release(owner.owner()).await;
        released
            .inspect_err(|error| {
                let error = error as &dyn std::error::Error;
                warn!(
                    error,
                    "leases of an owner that has ended could not be released"
                );
            })
            .ok()
    }

    async fn try_release(&self, owner: &str) -> Result<u64, DatabaseError> {
        let leases = self.store.claims().release_all(owner).await?;
        self.store.remove_replica(owner).await?;
        Ok(leases)
    }
}
