//! Orphaned runs: their daemon and their guard were killed or are stopped (SIGSTOP). This module does
//! not touch a run whose daemon or guard works.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::environment::RUN_ID;
use super::kill_tree::kill_tree;
use super::run_id::RunId;
use super::tree::{self, ProcessInfo};

/// Ends orphaned runs. Remembers between two calls which runs may still continue by themselves.
#[derive(Debug)]
pub struct Orphans {
    stopped_grace: Duration,
    guard_grace: Duration,
    since: HashMap<String, Instant>,
}

/// The result of one call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct OrphansEnded {
    /// The number of processes of orphaned runs, which were killed.
    pub found: usize,
    /// The processes that survived SIGKILL.
    pub survivors: Vec<i32>,
    /// The number of orphaned runs whose grace has not passed.
    pub pending: usize,
}

impl Orphans {
    /// A stopped daemon and guard have `stopped_grace` to continue; a guard whose daemon died has
    /// `guard_grace` to end its process tree.
    pub fn new(stopped_grace: Duration, guard_grace: Duration) -> Self {
        Self {
            stopped_grace,
            guard_grace,
            since: HashMap::new(),
        }
    }

    /// Scans the readable processes of this machine and kills those of orphaned runs. Skips
    /// processes of other PID namespaces, where the PIDs in run IDs have another meaning.
    ///
    /// Blocks: some milliseconds to read `/proc`, five seconds if a process survives.
    pub fn end(&mut self) -> OrphansEnded {
        let mut ended = OrphansEnded::default();
        let runs = orphaned_runs();
        self.since.retain(|run_id, _| runs.contains_key(run_id));
        for (run_id, run) in runs {
            if let Some(grace) = self.grace(&run) {
                let since = self
                    .since
                    .entry(run_id.clone())
                    .or_insert_with(Instant::now);
                if since.elapsed() < grace {
                    ended.pending += 1;
                    continue;
                }
            }
            ended.found += run.processes.len();
            ended.survivors.extend(kill_tree(None, None, &run_id));
        }
        ended
    }

    /// How long a run may continue without a daemon and guard that work; `None` if there is no
    /// reason to wait.
    fn grace(&self, run: &OrphanedRun) -> Option<Duration> {
        match (run.daemon, run.guard) {
            (_, ProcessState::Gone) => None,
            // The kernel continues a stopped guard when its daemon dies.
            (ProcessState::Gone, _) => Some(self.guard_grace),
            _ => Some(self.stopped_grace),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProcessState {
    Running,
    Stopped,
    Gone,
}

impl ProcessState {
    fn of(process: Option<ProcessInfo>) -> Self {
        match process {
            Some(process) if process.stopped => Self::Stopped,
            Some(process) if !process.zombie => Self::Running,
            _ => Self::Gone,
        }
    }
}

struct OrphanedRun {
    processes: Vec<ProcessInfo>,
    daemon: ProcessState,
    guard: ProcessState,
}

/// The orphaned runs by run ID.
fn orphaned_runs() -> HashMap<String, OrphanedRun> {
    let orphaned = runs().into_iter().filter_map(|(run_id, processes)| {
        let guard = processes.iter().copied().find(|process| is_guard(*process));
        let run = OrphanedRun {
            daemon: ProcessState::of(RunId::parse(&run_id)?.daemon()),
            guard: ProcessState::of(guard),
            processes,
        };
        let supervised = match run.daemon {
            ProcessState::Running => true,
            // The guard ends the process tree when trust expires.
            ProcessState::Stopped => run.guard == ProcessState::Running,
            ProcessState::Gone => false,
        };
        (!supervised).then_some((run_id, run))
    });
    orphaned.collect()
}

/// The PIDs of daemons that have ended, and of whose runs a process exists.
///
/// Blocks: some milliseconds to read `/proc`.
pub fn daemons_of_left_runs() -> HashSet<u32> {
    let ids = runs()
        .into_keys()
        .filter_map(|run_id| RunId::parse(&run_id));
    let left = ids.filter(|id| ProcessState::of(id.daemon()) == ProcessState::Gone);
    left.map(RunId::daemon_pid).collect()
}

/// The processes of all runs on this machine, by run ID.
fn runs() -> HashMap<String, Vec<ProcessInfo>> {
    let mut found: HashMap<String, Vec<ProcessInfo>> = HashMap::new();
    let own_namespace = pid_namespace("self");
    for process in tree::all_processes() {
        let foreign = || pid_namespace(&process.pid.to_string()) != own_namespace;
        if process.zombie || foreign() {
            continue;
        }
        if let Some(run_id) = tree::variable(process.pid, RUN_ID) {
            found.entry(run_id).or_default().push(process);
        }
    }
    found
}

fn pid_namespace(pid: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// Recognises a guard by its command line.
fn is_guard(process: ProcessInfo) -> bool {
    fs::read(format!("/proc/{}/cmdline", process.pid))
        .is_ok_and(|line| line.starts_with(b"kindler\0guard\0"))
}
