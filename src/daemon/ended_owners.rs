//! Releases the leases of owners on this host that have ended, so that they need not expire.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::command::{OwnerLocks, state_files};
use crate::config::HEARTBEAT;
use crate::core::database::DatabaseError;
use crate::core::wakeups::WakeupQueue;
use crate::store::Store;

/// How long what an owner has started outside of its guards may take to show, such as the
/// process of a sandbox cluster.
const SHOWS_WITHIN: Duration = Duration::from_secs(1);

/// Looks for ended owners at every heartbeat.
pub(super) async fn release_always(
    store: Store,
    locks: OwnerLocks,
    wakeups: WakeupQueue,
    shutdown: CancellationToken,
) {
    let mut ticks = interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if release(&store, &locks).await > 0 {
            wakeups.wake_everything();
        }
    }
}

/// Releases the leases of the owners that have ended, and returns their number.
pub(super) async fn release(store: &Store, locks: &OwnerLocks) -> u64 {
    let locks = locks.clone();
    // A folder that does not answer is a finding of its own.
    let ended = state_files().run(move || locks.ended()).await;
    let ended = ended.unwrap_or_default();
    if ended.is_empty() {
        return 0;
    }
    sleep(SHOWS_WITHIN).await;
    let mut count = 0;
    for owner in ended {
        match release_one(store, owner.owner()).await {
            Ok(leases) => {
                info!(
                    owner = owner.owner(),
                    leases, "an owner on this host has ended"
                );
                count += leases;
                state_files().run_later(move || owner.forget());
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(
                    error,
                    "leases of an owner that has ended could not be released"
                );
            }
        }
    }
    count
}

async fn release_one(store: &Store, owner: &str) -> Result<u64, DatabaseError> {
    let leases = store.claims().release_all(owner).await?;
    store.remove_replica(owner).await?;
    Ok(leases)
}
