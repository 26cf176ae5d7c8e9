//! Kills the process tree of a run whose guard failed: the processes with its run ID, in its process
//! group, or below its guard. This module does not decide when.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::tree;

/// How long the tree is killed before the processes that are left count as survivors.
pub(super) const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// The pause between two scans.
const SCAN_INTERVAL: Duration = Duration::from_millis(10);

/// Kills until two scans in a row find nothing, because one scan can miss a fork. Returns the
/// processes that survived for [`KILL_DEADLINE`].
pub(super) fn kill_tree(guard: Option<i32>, group: Option<i32>, run_id: &str) -> Vec<i32> {
    let deadline = Instant::now() + KILL_DEADLINE;
    let mut empty_scans = 0;
    loop {
        let mut processes = guard.map(tree::descendants_of).unwrap_or_default();
        processes.extend(tree::of_run(run_id, group));
        // The guard has the run ID too, but still has to adopt the orphans of the tree.
        processes.retain(|process| Some(process.pid) != guard);
        empty_scans = if processes.is_empty() {
            empty_scans + 1
        } else {
            0
        };
        if empty_scans == 2 {
            return Vec::new();
        }
        if Instant::now() >= deadline {
            let mut pids: Vec<i32> = processes.iter().map(|process| process.pid).collect();
            pids.sort_unstable();
            pids.dedup();
            return pids;
        }
        if let Some(group) = group.filter(|g| processes.iter().any(|p| p.group == *g)) {
            tree::kill_group(group);
        }
        for process in processes {
            process.signal(Signal::KILL);
        }
        std::thread::sleep(SCAN_INTERVAL);
    }
}
