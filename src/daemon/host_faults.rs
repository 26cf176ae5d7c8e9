//! Reports what is wrong with this host: its container engine, its tools, its disk.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config::HEARTBEAT;
use crate::drivers::{Driver, HostFault};
use crate::findings::{Finding, FindingCode, Findings};

/// Checks until `shutdown`. An engine that hangs delays only this.
pub(super) async fn report(
    driver: Arc<dyn Driver>,
    findings: Findings,
    shutdown: CancellationToken,
) {
    let mut ticks = interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Some(faults) = shutdown.run_until_cancelled(driver.host_faults()).await {
            findings.report("host", found(&faults));
        }
    }
}

/// One finding for all that blocks actions, and one for the rest.
fn found(faults: &[HostFault]) -> Vec<Finding> {
    let of = |code, blocks| {
        let faults = faults.iter().filter(move |fault| fault.blocks == blocks);
        let (what, next): (Vec<&str>, Vec<&str>) = faults
            .map(|fault| (fault.what.as_str(), fault.next.as_str()))
            .unzip();
        (!what.is_empty()).then(|| Finding::new(code, what.join("; "), next.join("; ")))
    };
    let unusable = of(FindingCode::HostUnusable, true);
    unusable
        .into_iter()
        .chain(of(FindingCode::HostLimited, false))
        .collect()
}
