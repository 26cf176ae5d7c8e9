//! Commands that nobody tends: whose daemon and whose guard were killed, or stand still (SIGSTOP).
//! This module must not touch a tree whose daemon or guard is at work, for that one tends it.

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

/// Ends them; it remembers from one look to the next what may still turn out well by itself.
#[derive(Debug)]
pub struct Orphans {
    standstill: Duration,
    seen: HashMap<String, Instant>,
}

/// What one look came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OrphansEnded {
    /// Processes that were found with nobody to tend them, and ended.
    pub found: usize,
    /// Those of them that even SIGKILL did not end.
    pub survivors: Vec<i32>,
    /// Runs that nobody tends now, and that have some time yet.
    pub pending: usize,
}

impl Orphans {
    /// Where daemon and guard both stand still, they have `standstill` to go on.
    pub fn new(standstill: Duration) -> Self {
        Self {
            standstill,
            seen: HashMap::new(),
        }
    }

    /// Looks at every process of this machine that may be looked at, and ends what belongs to a
    /// run that nobody tends. Processes of other PID namespaces are left alone: the numbers in
    /// their marks mean something else there.
    ///
    /// Blocks: some milliseconds for reading `/proc`, five seconds where a process does not die.
    pub fn end(&mut self) -> OrphansEnded {
        let mut ended = OrphansEnded::default();
        let runs = untended();
        self.seen.retain(|mark, _| runs.contains_key(mark));
        for (mark, run) in runs {
            if let Some(patience) = self.patience(&run) {
                let since = *self.seen.entry(mark.clone()).or_insert_with(Instant::now);
                if since.elapsed() < patience {
                    ended.pending += 1;
                    continue;
                }
            }
            ended.found += run.members.len();
            ended.survivors.extend(hunt_down(None, None, &mark));
        }
        ended
    }

    /// How long a run may go on like this; `None` where nothing is to be hoped for.
    fn patience(&self, run: &Untended) -> Option<Duration> {
        match (run.daemon, run.guard) {
            (_, At::Gone) => None,
            // The kernel wakes a stopped guard when its daemon dies.
            (At::Gone, _) => Some(GUARD_ENDS_WITHIN),
            _ => Some(self.standstill),
        }
    }
}

/// How a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Work,
    Standstill,
    Gone,
}

impl At {
    fn of(process: Option<Member>) -> Self {
        match process {
            Some(process) if process.stopped => Self::Standstill,
            Some(process) if !process.zombie => Self::Work,
            _ => Self::Gone,
        }
    }
}

/// A run that nobody tends.
struct Untended {
    members: Vec<Member>,
    daemon: At,
    guard: At,
}

/// The runs that nobody tends, by the mark that their processes bear.
fn untended() -> HashMap<String, Untended> {
    let untended = runs().into_iter().filter_map(|(mark, members)| {
        let guard = members.iter().copied().find(|member| is_guard(*member));
        let run = Untended {
            daemon: At::of(Run::parse(&mark)?.daemon()),
            guard: At::of(guard),
            members,
        };
        let tended = match run.daemon {
            At::Work => true,
            // It ends the tree when the trust is over.
            At::Standstill => run.guard == At::Work,
            At::Gone => false,
        };
        (!tended).then_some((mark, run))
    });
    untended.collect()
}

/// The processes of all runs on this machine.
fn runs() -> HashMap<String, Vec<Member>> {
    let mut found: HashMap<String, Vec<Member>> = HashMap::new();
    let here = pid_namespace("self");
    for member in tree::everyone() {
        let foreign = || pid_namespace(&member.pid.to_string()) != here;
        if member.zombie || foreign() {
            continue;
        }
        if let Some(mark) = tree::variable(member.pid, RUN_MARK) {
            found.entry(mark).or_default().push(member);
        }
    }
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
