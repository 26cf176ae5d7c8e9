//! Writes the workload of this daemon into its row in `kindler_replicas`, so that a waiting
//! cluster can say for what it waits.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::config::HEARTBEAT;
use crate::core::workload::Workload;
use crate::store::Store;

/// The shortest time between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// Writes each change until `shutdown`.
pub(super) async fn report(
    store: Store,
    owner: String,
    delete_cap: usize,
    mut workload: watch::Receiver<Workload>,
    shutdown: CancellationToken,
) {
    let writing = async {
        loop {
            let now = workload.borrow_and_update().clone();
            let pause = match store.write_workload(&owner, &now, delete_cap).await {
                Ok(true) if workload.changed().await.is_ok() => WRITE_EVERY,
                // The controller has ended.
                Ok(true) => return,
                // The first heartbeat writes the row.
                Ok(false) => WRITE_EVERY,
                Err(error) => {
                    let error = crate::cause::chain(&error);
                    debug!(error, "the workload cannot be written; retrying");
                    HEARTBEAT
                }
            };
            sleep(pause).await;
        }
    };
    shutdown.run_until_cancelled(writing).await;
}
