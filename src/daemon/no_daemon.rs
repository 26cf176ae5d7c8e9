//! Reports beside a server of the page and the API alone that no daemon works: that this server
//! is up is no sign of it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::HEARTBEAT;
use crate::findings::{Finding, FindingCode, Findings};
use crate::store::Store;

/// From the moment at which the last heartbeat is too old.
const AFTER_SILENCE: Duration = Duration::from_millis(50);

/// Looks until `shutdown`. What cannot be read is left as it was: the heartbeat reports why.
pub(super) async fn report(store: Store, findings: Findings, shutdown: CancellationToken) {
    loop {
        let mut next = Instant::now() + HEARTBEAT;
        if let Ok(fleet) = store.fleet(HEARTBEAT).await {
            let idle = fleet.idle_problem();
            let idle = idle.map(|idle| Finding::new(FindingCode::NoDaemon, idle.what, idle.next));
            findings.report("daemons", idle.into_iter().collect());
            if let Some(silent_at) = fleet.silent_at() {
                next = next.min(Instant::from_std(silent_at) + AFTER_SILENCE);
            }
        }
        let slept = shutdown.run_until_cancelled(sleep_until(next)).await;
        if slept.is_none() {
            return;
        }
    }
}
