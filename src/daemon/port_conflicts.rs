//! Reports ports of the host that several clusters declare: only one of them can run.

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config::HEARTBEAT;
use crate::findings::{Finding, FindingCode, Findings};
use crate::store::{PortConflict, Store};

/// Searches until `shutdown`. What cannot be read is left as it was: the heartbeat reports why.
pub(super) async fn report(store: Store, findings: Findings, shutdown: CancellationToken) {
    let mut ticks = interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Ok(conflicts) = store.port_conflicts(None, 1).await {
            findings.report("ports", conflicts.iter().map(finding).collect());
        }
    }
}

fn finding(conflict: &PortConflict) -> Finding {
    let others = match conflict.total - 1 {
        ..=0 => String::new(),
        1 => " (and 1 more port in conflict)".to_owned(),
        more => format!(" (and {more} more ports in conflict)"),
    };
    let what = format!("{}{others}: both cannot run on one host", conflict.what());
    let next = format!("give it a free port: {};", conflict.mend());
    Finding::new(FindingCode::PortsShared, what, next)
}
