//! Finds the processes of a command in `/proc` and signals them. This module does not decide when,
//! and does not wait for a process to end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, pidfd_send_signal,
};

/// One process, as read from `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ProcessInfo {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// The time of its start in ticks since boot: with the PID, the identity of the process.
    pub(super) start: u64,
    /// It has ended, and its parent has not waited for it yet.
    pub(super) zombie: bool,
    /// It is stopped (SIGSTOP) until it gets SIGCONT.
    pub(super) stopped: bool,
}

impl ProcessInfo {
    /// The time of its start since boot, rounded down to a tick.
    pub(super) fn started(self) -> Duration {
        let nanos = u128::from(self.start) * 1_000_000_000;
        let nanos = nanos / u128::from(clock_ticks_per_second());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Signals exactly this process: opens a pidfd and reads the process again first, so that a
    /// process that reuses the PID gets no signal. Ignores errors: the process has ended or must not
    /// be signalled, and the caller sees which at the next scan.
    pub(super) fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        let pinned = pidfd_open(pid, PidfdFlags::empty());
        if process(self.pid).is_none_or(|now| now.start != self.start) {
            return;
        }
        let _ = match pinned {
            Ok(pidfd) => pidfd_send_signal(&pidfd, signal),
            // Some sandboxes forbid pidfds; never ending the tree would be worse.
            Err(_) => kill_process(pid, signal),
        };
    }
}

/// The running descendants of a process. Processes fork and exit during the scan, so one empty
/// result does not prove that there are none.
pub(super) fn descendants_of(root: i32) -> Vec<ProcessInfo> {
    descendants(&all_processes(), root)
        .into_iter()
        .filter(|process| !process.zombie)
        .collect()
}

/// The running processes with the run ID (`NAME=value`) in their environment, or in `group`. Finds
/// a tree whose guard is gone.
pub(super) fn of_run(run_id: &str, group: Option<i32>) -> Vec<ProcessInfo> {
    let mut found = all_processes();
    found.retain(|process| {
        !process.zombie && (Some(process.group) == group || has_variable(process.pid, run_id))
    });
    found
}

/// Sends SIGKILL to a whole process group; the kernel leaves no gap for a fork.
pub(super) fn kill_group(group: i32) {
    if let Some(group) = Pid::from_raw(group) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn has_variable(pid: i32, wanted: &str) -> bool {
    let name = wanted.split_once('=').map_or(wanted, |(name, _)| name);
    variable(pid, name).as_deref() == Some(wanted)
}

/// `NAME=value` from the environment that a process was started with.
pub(super) fn variable(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let ours = |variable: &&[u8]| {
        variable
            .strip_prefix(name.as_bytes())
            .is_some_and(|rest| rest.starts_with(b"="))
    };
    String::from_utf8(variables.find(ours)?.to_vec()).ok()
}

/// All processes of this machine.
pub(super) fn all_processes() -> Vec<ProcessInfo> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(process)
        .collect()
}

/// Reads one process; `None` if it has ended.
pub(super) fn process(pid: i32) -> Option<ProcessInfo> {
    let stat = fs::read(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // Lossy: a process whose name is not UTF-8 counts too.
    parse(&String::from_utf8_lossy(&stat))
}

/// Parses `/proc/PID/stat`. The process chooses the name in brackets, which may contain spaces and
/// brackets, so the fields are counted from the last bracket.
fn parse(stat: &str) -> Option<ProcessInfo> {
    let pid = stat.split_once(' ')?.0.parse().ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // state is field 3 of proc(5) and starttime field 22; 3, 4 and 5 are consumed.
    let start = fields.nth(22 - 6)?.parse().ok()?;
    Some(ProcessInfo {
        pid,
        parent,
        group,
        start,
        zombie: matches!(state, "Z" | "X"),
        stopped: state == "T",
    })
}

fn descendants(all: &[ProcessInfo], root: i32) -> Vec<ProcessInfo> {
    let mut found: Vec<ProcessInfo> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        // A PID that is reused during the scan could close a cycle; each is taken once.
        let children = all.iter().filter(|m| m.parent == parent && m.pid != root);
        for child in children {
            if !found.iter().any(|known| known.pid == child.pid) {
                found.push(*child);
                parents.push(child.pid);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{ProcessInfo, descendants, descendants_of, of_run, parse};

    fn process(pid: i32, parent: i32) -> ProcessInfo {
        ProcessInfo {
            pid,
            parent,
            group: pid,
            start: 1,
            zombie: false,
            stopped: false,
        }
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let rest = "Z 41 40 39 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 777 2461696 0";
        let stat = format!("42 (a) R 1 (b) {rest}");
        let expected = ProcessInfo {
            pid: 42,
            parent: 41,
            group: 40,
            start: 777,
            zombie: true,
            stopped: false,
        };
        assert_eq!(parse(&stat), Some(expected));
        assert_eq!(parse("42 (cut"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn only_descendants_are_found_even_in_a_cycle() {
        let all = [
            process(10, 1),
            process(11, 10),
            process(12, 11),
            process(13, 1),
            process(1, 12),
        ];
        let mut pids: Vec<i32> = descendants(&all, 10).iter().map(|m| m.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [1, 11, 12, 13]);
        assert_eq!(descendants(&all[..4], 13), []);
    }

    #[test]
    fn this_process_is_found_by_ancestor_and_variable() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(descendants_of(1).iter().any(|found| found.pid == me) || me == 1);
        let path = format!("PATH={}", std::env::var("PATH").unwrap());
        assert!(of_run(&path, None).iter().any(|found| found.pid == me));
        assert_eq!(of_run("KINDLER_RUN=none", None), []);
    }
}
