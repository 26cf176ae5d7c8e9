//! Ends orphaned commands, whose daemon and guards were killed or are stopped, before
//! another owner can claim their clusters.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::command::{Orphans, OrphansEnded};
use crate::config::HEARTBEAT;

/// Interval of scans while the start waits for orphans to end.
const START_TICK: Duration = Duration::from_millis(100);

/// How long a guard may take to end its process tree after its daemon died.
const GUARD_DEADLINE: Duration = Duration::from_secs(3);

/// Scans five times per lease lifetime, at least once per heartbeat. A stopped run is ended
/// at the second scan that finds it, and one whose daemon died at the first scan after half a
/// lifetime: each within three quarters of a lease lifetime, which is the least that remains
/// of a lease that was renewed in time.
pub(super) async fn end_all(lease: Duration, mut orphans: Orphans, shutdown: CancellationToken) {
    let mut ticks = interval(HEARTBEAT.min(lease / 5));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        (orphans, _) = scan(lease, orphans).await;
    }
}

/// Scans until no orphan is left, because their leases may have expired and their clusters may
/// be claimed next. Takes one scan without orphans, else some seconds.
pub(super) async fn end_at_start(lease: Duration, shutdown: &CancellationToken) -> Orphans {
    let (mut orphans, mut pending) = scan(lease, new_scan(lease)).await;
    while pending > 0
        && shutdown
            .run_until_cancelled(sleep(START_TICK))
            .await
            .is_some()
    {
        (orphans, pending) = scan(lease, orphans).await;
    }
    orphans
}

fn new_scan(lease: Duration) -> Orphans {
    Orphans::new(lease / 10, GUARD_DEADLINE.min(lease / 2))
}

/// One scan, on a blocking thread. Also returns the number of runs that need another scan.
async fn scan(lease: Duration, mut orphans: Orphans) -> (Orphans, usize) {
    let scanned = tokio::task::spawn_blocking(move || (orphans.end(), orphans));
    let Ok((ended, orphans)) = scanned.await else {
        return (new_scan(lease), 0);
    };
    let OrphansEnded {
        found,
        survivors,
        pending,
    } = ended;
    if found > 0 {
        warn!(
            processes = found,
            "ended orphaned commands of a killed or stopped daemon"
        );
    }
    if !survivors.is_empty() {
        error!(pids = ?survivors, "orphaned commands of a killed or stopped daemon cannot be ended");
    }
    (orphans, pending)
}
