//! Finds the processes of a command in `/proc` and signals them.
//! This module must not decide when, and must not wait for a process to end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, pidfd_send_signal,
};

/// One process, as `/proc/PID/stat` showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) pid: i32,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// Ticks since boot at which it started: with the pid, the identity of a process.
    pub(super) start: u64,
    /// It has ended and only waits for its parent to notice.
    pub(super) zombie: bool,
    /// It stands still until somebody continues it (SIGSTOP).
    pub(super) stopped: bool,
}

impl Member {
    /// When it was started, since the machine was booted; at most a tick too early.
    pub(super) fn born(self) -> Duration {
        let nanos = u128::from(self.start) * 1_000_000_000;
        let nanos = nanos / u128::from(clock_ticks_per_second());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Signals this very process. It is pinned by a pidfd and looked at again before, so that a
    /// process that got its number since is never hit. Failures mean that it is gone, or that it
    /// is not ours to signal; the caller sees either at the next look.
    pub(super) fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        let pinned = pidfd_open(pid, PidfdFlags::empty());
        if look(self.pid).is_none_or(|now| now.start != self.start) {
            return;
        }
        let _gone = match pinned {
            Ok(pidfd) => pidfd_send_signal(&pidfd, signal),
            // Some sandboxes forbid pidfds; a tree that cannot be ended would be worse.
            Err(_) => kill_process(pid, signal),
        };
    }
}

/// The processes below `root` that still run. Fork and exit go on during the look, so a single
/// empty answer proves nothing while they may.
pub(super) fn below(root: i32) -> Vec<Member> {
    descendants(&everyone(), root)
        .into_iter()
        .filter(|member| !member.zombie)
        .collect()
}

/// The running processes that bear `mark` in their environment (`NAME=value`) or belong to
/// `group`: what can still be known of a tree whose guard is gone.
pub(super) fn marked(mark: &str, group: Option<i32>) -> Vec<Member> {
    let mut found = everyone();
    found.retain(|member| {
        !member.zombie && (Some(member.group) == group || bears(member.pid, mark))
    });
    found
}

/// SIGKILL for a whole group at once: the kernel does it without a gap for forks to slip through.
pub(super) fn kill_group(group: i32) {
    if let Some(group) = Pid::from_raw(group) {
        let _gone = kill_process_group(group, Signal::KILL);
    }
}

fn bears(pid: i32, mark: &str) -> bool {
    let name = mark.split_once('=').map_or(mark, |(name, _)| name);
    variable(pid, name).as_deref() == Some(mark)
}

/// `NAME=value` as it stands in the environment that a process was started with.
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

/// Every process of this machine.
pub(super) fn everyone() -> Vec<Member> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(look)
        .collect()
}

/// One process, `None` once it is gone.
pub(super) fn look(pid: i32) -> Option<Member> {
    let stat = fs::read(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // Lossy: a name that is not UTF-8 must not make a process invisible.
    parse(&String::from_utf8_lossy(&stat))
}

/// Reads a line of `/proc/PID/stat`. The name in brackets is the process's own choice and may
/// hold spaces and brackets, so everything counts from the last bracket.
fn parse(stat: &str) -> Option<Member> {
    let pid = stat.split_once(' ')?.0.parse().ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // state is field 3 of proc(5) and starttime field 22; 3, 4 and 5 are consumed.
    let start = fields.nth(22 - 6)?.parse().ok()?;
    Some(Member {
        pid,
        parent,
        group,
        start,
        zombie: matches!(state, "Z" | "X"),
        stopped: state == "T",
    })
}

fn descendants(all: &[Member], root: i32) -> Vec<Member> {
    let mut found: Vec<Member> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        // A pid that was reused during the look could close a circle; each is taken once.
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
    use super::{Member, below, descendants, marked, parse};

    fn member(pid: i32, parent: i32) -> Member {
        Member {
            pid,
            parent,
            group: pid,
            start: 1,
            zombie: false,
            stopped: false,
        }
    }

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let rest = "Z 41 40 39 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 777 2461696 0";
        let stat = format!("42 (a) R 1 (b) {rest}");
        let expected = Member {
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
    fn only_processes_below_the_root_are_found_even_in_a_circle() {
        let all = [
            member(10, 1),
            member(11, 10),
            member(12, 11),
            member(13, 1),
            member(1, 12),
        ];
        let mut pids: Vec<i32> = descendants(&all, 10).iter().map(|m| m.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [1, 11, 12, 13]);
        assert_eq!(descendants(&all[..4], 13), []);
    }

    #[test]
    fn this_process_is_below_init_and_bears_its_own_environment() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(below(1).iter().any(|member| member.pid == me) || me == 1);
        let path = format!("PATH={}", std::env::var("PATH").unwrap());
        assert!(marked(&path, None).iter().any(|member| member.pid == me));
        assert_eq!(marked("KINDLER_RUN=nobody", None), []);
    }
}
