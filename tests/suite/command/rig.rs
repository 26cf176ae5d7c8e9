//! Shared by the tests of commands: runs scripts, and finds the processes that they left.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kindler::command::{
    CommandLimits, CommandLine, FinishedCommand, Runner, SpawnError, unconditional_trust,
};
use tokio_util::sync::CancellationToken;

/// Longer than any of these tests takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// CommandLimits that no test reaches by accident.
pub const LONG: CommandLimits = CommandLimits {
    deadline: PATIENCE,
    grace: Duration::from_secs(10),
};

pub fn runner() -> Runner {
    Runner {
        guard_program: env!("CARGO_BIN_EXE_kindler").into(),
        ..Runner::default()
    }
}

/// A script for `sh`.
pub fn sh(script: impl AsRef<str>) -> CommandLine {
    CommandLine::new("/bin/sh", ["-c", script.as_ref()])
}

/// Runs to the end.
pub async fn run(line: &CommandLine, limits: CommandLimits) -> Result<FinishedCommand, SpawnError> {
    run_until(line, limits, &CancellationToken::new()).await
}

/// Runs to the end unless cancelled.
pub async fn run_until(
    line: &CommandLine,
    limits: CommandLimits,
    cancel: &CancellationToken,
) -> Result<FinishedCommand, SpawnError> {
    let runner = runner();
    let run = runner.run(line, &limits, unconditional_trust(), cancel, None);
    tokio::time::timeout(PATIENCE * 2, run)
        .await
        .expect("a run must end")
}

/// A number of seconds to `sleep` that is unique on the machine: a process with it on its command
/// line belongs to this test.
pub struct Token(pub String);

impl Token {
    pub fn new() -> Self {
        static TOKENS: AtomicU32 = AtomicU32::new(0);
        let n = TOKENS.fetch_add(1, Ordering::Relaxed);
        Self(format!("1000.{}{n:04}", process::id()))
    }

    /// The PIDs of the running `sleep` processes.
    pub fn sleepers(&self) -> Vec<i32> {
        let wanted = format!("sleep\0{}\0", self.0);
        pids()
            .filter(|pid| read_proc(*pid, "cmdline") == wanted && state(*pid) != 'Z')
            .collect()
    }

    /// The PIDs of all processes with the token: sleepers, shells and guards.
    pub fn processes(&self) -> Vec<i32> {
        pids()
            .filter(|pid| read_proc(*pid, "cmdline").contains(&self.0))
            .collect()
    }

    pub async fn wait_for_sleepers(&self, count: usize) {
        eventually("all sleepers run", || self.sleepers().len() == count).await;
    }

    pub async fn wait_until_gone(&self) {
        eventually("no process is left", || self.processes().is_empty()).await;
    }
}

impl Drop for Token {
    /// Cleans up after a failed test.
    fn drop(&mut self) {
        for pid in self.processes() {
            signal(pid, rustix::process::Signal::KILL);
        }
    }
}

/// A script with three sleepers: a child, one in its own session, and one that was forked twice and
/// whose parents have ended. The script continues with `end`.
pub fn process_tree(token: &Token, end: &str) -> CommandLine {
    let sleep = &token.0;
    sh(format!(
        "sleep {sleep} & setsid sleep {sleep} & setsid sh -c 'setsid sleep {sleep} & exit' & {end}"
    ))
}

pub fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    let _gone = rustix::process::kill_process(pid, signal);
}

/// The parent of a process.
pub fn parent(pid: i32) -> i32 {
    status_field(pid, "PPid:").expect("a parent")
}

/// The peak memory of a process in KiB.
pub fn peak_memory_kib(pid: i32) -> i32 {
    status_field(pid, "VmHWM:").expect("a peak")
}

fn status_field(pid: i32, name: &str) -> Option<i32> {
    let status = read_proc(pid, "status");
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The ended child processes that this process has not waited for.
pub fn zombies() -> Vec<i32> {
    let me = i32::try_from(process::id()).expect("a pid");
    pids()
        .filter(|pid| state(*pid) == 'Z' && status_field(*pid, "PPid:") == Some(me))
        .collect()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn state(pid: i32) -> char {
    let stat = read_proc(pid, "stat");
    stat.rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next())
        .unwrap_or('Z')
}

fn read_proc(pid: i32, file: &str) -> String {
    let bytes = fs::read(PathBuf::from(format!("/proc/{pid}/{file}"))).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for a condition. Fails with its name.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
