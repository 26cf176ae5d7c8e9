//! Commands whose daemon and whose guard were both killed: nobody is left who would end them.
//! This module must not touch a tree whose daemon lives, for that daemon tends it.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::environment::RUN_MARK;
use super::guard_process::hunt_down;
use super::tree::{self, Member};

/// How long a guard without a daemon has for ending its tree by itself, as it promises.
const GUARD_ENDS_WITHIN: Duration = Duration::from_secs(3);

/// Ends them; it remembers from one look to the next which guards are still at it.
#[derive(Debug, Default)]
pub struct Orphans {
    ending: HashMap<String, Instant>,
}

/// What one look came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OrphansEnded {
    /// Processes that were found without a daemon and without a guard.
    pub found: usize,
    /// Those of them that even SIGKILL did not end.
    pub survivors: Vec<i32>,
}

impl Orphans {
    /// Looks at every process of this machine that may be looked at, and ends what belongs to a
    /// run without owner. Processes of other PID namespaces are left alone: the numbers in their
    /// marks mean something else there.
    ///
    /// Blocks: some milliseconds for reading `/proc`, five seconds where a process does not die.
    pub fn end(&mut self) -> OrphansEnded {
        let mut ended = OrphansEnded::default();
        let ownerless = ownerless();
        self.ending.retain(|mark, _| ownerless.contains_key(mark));
        for (mark, members) in ownerless {
            if members.iter().any(|member| is_guard(*member)) {
                let since = *self.ending.entry(mark.clone()).or_insert_with(Instant::now);
                if since.elapsed() < GUARD_ENDS_WITHIN {
                    continue;
                }
            }
            ended.found += members.len();
            ended.survivors.extend(hunt_down(None, None, &mark));
        }
        ended
    }
}

/// Processes of runs whose daemon is gone, by the mark that they bear.
fn ownerless() -> HashMap<String, Vec<Member>> {
    let mut found: HashMap<String, Vec<Member>> = HashMap::new();
    let here = pid_namespace("self");
    for member in tree::everyone() {
        let foreign = || pid_namespace(&member.pid.to_string()) != here;
        if member.zombie || foreign() {
            continue;
        }
        let Some(mark) = tree::variable(member.pid, RUN_MARK) else {
            continue;
        };
        found.entry(mark).or_default().push(member);
    }
    found.retain(|mark, _| Run::parse(mark).is_some_and(|run| !run.has_a_daemon()));
    found
}

fn pid_namespace(pid: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// By the command line that daemons give it.
fn is_guard(member: Member) -> bool {
    fs::read(format!("/proc/{}/cmdline", member.pid))
        .is_ok_and(|line| line.starts_with(b"kindler\0guard\0"))
}

/// The run that a mark names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The process id of its daemon.
    pub(super) daemon: u32,
    /// How many runs that daemon began before.
    pub(super) number: u64,
    /// When it began, in nanoseconds since the machine was booted.
    pub(super) began: u64,
}

impl Run {
    /// The value of [`RUN_MARK`]: no other run on this machine has it until the next boot.
    pub(super) fn value(self) -> String {
        format!("{}-{}-{}", self.daemon, self.number, self.began)
    }

    /// Reads `NAME=value` as it stands in an environment.
    fn parse(mark: &str) -> Option<Self> {
        let mut parts = mark.strip_prefix(RUN_MARK)?.strip_prefix('=')?.split('-');
        let run = Self {
            daemon: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
            began: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(run)
    }

    /// Whether the process that began it still runs. One that was born after the run only got
    /// its number.
    fn has_a_daemon(self) -> bool {
        let daemon = i32::try_from(self.daemon).ok().and_then(tree::look);
        daemon.is_some_and(|daemon| !daemon.zombie && daemon.born().as_nanos() <= self.began.into())
    }
}

#[cfg(test)]
mod tests {
    use super::Run;
    use crate::command::MonotonicDeadline;
    use std::time::Duration;

    fn now() -> u64 {
        MonotonicDeadline::in_(Duration::ZERO).as_nanos()
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let run = Run {
            daemon: 42,
            number: 7,
            began: 1_000,
        };
        let mark = format!("KINDLER_RUN={}", run.value());
        assert_eq!(Run::parse(&mark), Some(run));
        for other in [
            "KINDLER_RUN=x-1-2",
            "KINDLER_RUN=1-2",
            "KINDLER_RUN=1-2-3-4",
            "PATH=1-2-3",
            "KINDLER_RUNS=1-2-3",
        ] {
            assert_eq!(Run::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_process_that_only_got_the_number_is_no_daemon() {
        let mine = |daemon, began| {
            Run {
                daemon,
                number: 0,
                began,
            }
            .has_a_daemon()
        };
        assert!(mine(std::process::id(), now()));
        assert!(
            !mine(std::process::id(), 0),
            "begun before this process was born"
        );
        assert!(!mine(u32::MAX, now()));
    }
}
