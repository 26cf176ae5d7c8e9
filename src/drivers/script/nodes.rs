//! Reads what `kubectl get nodes` prints. It exits with 0 for nodes that are not ready and for none
//! at all. Pure and strict: what is no table is unknown.

use crate::clusters::observation::Observation;
use crate::command::{CommandLine, FinishedCommand};

/// The message of kubectl on stderr if there is no node; stdout is empty then.
const HAS_NONE: &str = "No resources found";

/// The observation of a cluster whose API server has answered.
pub(super) fn observation(line: &CommandLine, finished: &FinishedCommand) -> Observation {
    let text = String::from_utf8_lossy(&finished.stdout);
    let has_none = finished.tail.iter().any(|line| line.contains(HAS_NONE));
    if text.is_empty() && has_none {
        return Observation::unhealthy("it has no nodes");
    }
    match not_ready(&text) {
        Some(None) => Observation::HEALTHY,
        Some(Some(why)) => Observation::unhealthy(why),
        None => Observation::unknown(format!("`{line}` printed no table of nodes")),
    }
}

/// Why the nodes of a table are not all ready, if so; none if this is no table of nodes.
fn not_ready(table: &str) -> Option<Option<String>> {
    let mut rows = table.lines().map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.next()?))
    });
    rows.next()
        .flatten()
        .filter(|head| *head == ("NAME", "STATUS"))?;
    let rows = rows
        .collect::<Option<Vec<_>>>()
        .filter(|rows| !rows.is_empty())?;
    // A cordoned node is `Ready,SchedulingDisabled`.
    let mut rows = rows.into_iter();
    let failing = rows.find(|(_, status)| status.split(',').next() != Some("Ready"));
    Some(failing.map(|(name, status)| format!("node {name} is not ready: {status}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "NAME                STATUS   ROLES           AGE   VERSION\n";
    const READY: &str = "k3d-dev-server-0    Ready    control-plane   11d   v1.33.6+k3s1\n";

    fn of(rows: &str) -> Option<Option<String>> {
        not_ready(&format!("{HEADER}{rows}"))
    }

    #[test]
    fn every_node_of_the_table_must_be_ready() {
        let cordoned = "k3d-dev-agent-0     Ready,SchedulingDisabled   <none>   11d   v1.33.6\n";
        assert_eq!(of(READY), Some(None));
        assert_eq!(of(&format!("{READY}{cordoned}")), Some(None));
        for status in ["NotReady", "NotReady,SchedulingDisabled", "Unknown"] {
            let row = format!("k3d-dev-agent-1     {status}   <none>   11d   v1.33.6+k3s1\n");
            let why = format!("node k3d-dev-agent-1 is not ready: {status}");
            assert_eq!(of(&format!("{READY}{row}")), Some(Some(why)));
        }
    }

    #[test]
    fn what_is_no_table_of_nodes_is_unknown() {
        for text in ["", "\n", HEADER, READY, "ok\n", "NAME\nx Ready\n"] {
            assert_eq!(not_ready(text), None, "{text:?}");
        }
        assert_eq!(of("k3d-dev-ser"), None);
    }
}
