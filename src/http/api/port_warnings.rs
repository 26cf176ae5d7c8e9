//! Warnings about ports of the host that another cluster declares, too. The declaration
//! stands: the clusters may run on different hosts.

use crate::clusters::ClusterName;
use crate::store::PortConflict;

use super::Api;

/// The largest number of warnings in one answer.
const MAX_WARNINGS: i64 = 50;

/// The conflicts of these clusters, which were just written. A search that fails warns of
/// nothing: the declaration was made, and the daemon reports conflicts, too.
pub(super) async fn conflicts_of(api: &Api, names: &[ClusterName]) -> Vec<PortConflict> {
    if names.is_empty() {
        return Vec::new();
    }
    let found = api.store.port_conflicts(Some(names), MAX_WARNINGS).await;
    found.unwrap_or_default()
}

/// The warnings of one cluster.
pub(super) fn warnings(conflicts: &[PortConflict], name: &ClusterName) -> Vec<String> {
    let of_cluster = conflicts.iter().filter(|one| one.name == name.as_str());
    of_cluster
        .map(|one| format!("{}: both cannot run on one host", one.what()))
        .collect()
}
