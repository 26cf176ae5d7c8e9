//! Commands whose daemon and whose guard were both killed: nobody is left who would end them.
//! This module must not touch a tree whose daemon lives, for that daemon tends it.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::environment::RUN_MARK;
use super::hunt::hunt_down;
use super::mark::Run;
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
