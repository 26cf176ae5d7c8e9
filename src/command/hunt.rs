//! Ends by force a tree whose guard cannot: what bears its mark, belongs to its group, or stands
//! below its guard. This module must not decide whether.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::tree;

/// How long a tree whose guard failed is hunted before what remains counts as surviving.
pub(super) const HUNT: Duration = Duration::from_secs(5);
/// Pause between two looks of a hunt.
const HUNT_TICK: Duration = Duration::from_millis(10);

/// Kills until two looks in a row find nothing, since a fork may slip by one look. Gives back
/// what five seconds did not end.
pub(super) fn hunt_down(guard: Option<i32>, group: Option<i32>, mark: &str) -> Vec<i32> {
    let until = Instant::now() + HUNT;
    let mut empty_looks = 0;
    loop {
        let mut prey = guard.map(tree::below).unwrap_or_default();
        prey.extend(tree::marked(mark, group));
        // The guard itself bears the mark, and is still needed to keep the tree together.
        prey.retain(|member| Some(member.pid) != guard);
        empty_looks = if prey.is_empty() { empty_looks + 1 } else { 0 };
        if empty_looks == 2 {
            return Vec::new();
        }
        if Instant::now() >= until {
            let mut pids: Vec<i32> = prey.iter().map(|member| member.pid).collect();
            pids.sort_unstable();
            pids.dedup();
            return pids;
        }
        if let Some(group) = group.filter(|g| prey.iter().any(|member| member.group == *g)) {
            tree::kill_group(group);
        }
        for member in prey {
            member.signal(Signal::KILL);
        }
        std::thread::sleep(HUNT_TICK);
    }
}
