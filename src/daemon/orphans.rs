//! Commands that a killed daemon and its killed guards left to themselves are
//! ended before anybody may take their clusters over.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::command::{Orphans, OrphansEnded};
use crate::config::HEARTBEAT;

/// Looks three times in a lease, so that nobody has taken the cluster over by
/// then, and no less often than the heart beats.
pub(super) async fn end_all(mut orphans: Orphans, lease: Duration, shutdown: CancellationToken) {
    let mut ticks = interval(HEARTBEAT.min(lease / 3));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        orphans = look(orphans).await;
    }
}

/// One look, on a thread that may block.
pub(super) async fn look(mut orphans: Orphans) -> Orphans {
    let looked = tokio::task::spawn_blocking(move || (orphans.end(), orphans));
    let Ok((OrphansEnded { found, survivors }, orphans)) = looked.await else {
        return Orphans::default();
    };
    if found > 0 {
        warn!(
            processes = found,
            "ended commands that a killed daemon left behind"
        );
    }
    if !survivors.is_empty() {
        error!(pids = ?survivors, "commands of a killed daemon cannot be ended");
    }
    orphans
}
