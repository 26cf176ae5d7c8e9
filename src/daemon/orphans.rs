//! Commands that nobody tends any more, because their daemon and their guards were killed or
//! stand still, are ended before anybody may take their clusters over.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::command::{Orphans, OrphansEnded};
use crate::config::HEARTBEAT;

/// Between two looks while something is waited for at the start.
const START_TICK: Duration = Duration::from_millis(100);

/// Looks three times in a lease, and no less often than the heart beats. What stands still is
/// ended at the second look: before three quarters of a lease have passed, which is the least
/// that was left of it.
pub(super) async fn end_all(lease: Duration, mut orphans: Orphans, shutdown: CancellationToken) {
    let mut ticks = interval(HEARTBEAT.min(lease / 3));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        (orphans, _) = look(lease, orphans).await;
    }
}

/// Looks until nobody is left whom a later look would end: their leases may be over already, and
/// what is claimed next may be theirs. One look where there is nobody, else some seconds.
pub(super) async fn end_before_the_start(lease: Duration, shutdown: &CancellationToken) -> Orphans {
    let (mut orphans, mut pending) = look(lease, forgetful(lease)).await;
    while pending > 0
        && shutdown
            .run_until_cancelled(sleep(START_TICK))
            .await
            .is_some()
    {
        (orphans, pending) = look(lease, orphans).await;
    }
    orphans
}

fn forgetful(lease: Duration) -> Orphans {
    Orphans::new(lease / 4)
}

/// One look, on a thread that may block; and how many runs wait for another.
async fn look(lease: Duration, mut orphans: Orphans) -> (Orphans, usize) {
    let looked = tokio::task::spawn_blocking(move || (orphans.end(), orphans));
    let Ok((ended, orphans)) = looked.await else {
        return (forgetful(lease), 0);
    };
    let OrphansEnded {
        found,
        survivors,
        pending,
    } = ended;
    if found > 0 {
        warn!(
            processes = found,
            "ended commands that a killed or stopped daemon left behind"
        );
    }
    if !survivors.is_empty() {
        error!(pids = ?survivors, "commands of a killed or stopped daemon cannot be ended");
    }
    (orphans, pending)
}
