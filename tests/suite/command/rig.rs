//! What the tests of commands share: running scripts, and looking for what they left.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kindler::command::{CommandLine, Finished, Limits, Runner, SpawnError, unconditional_trust};
use tokio_util::sync::CancellationToken;

/// Far longer than anything here takes on a busy machine, far shorter than a person waits.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// No deadline that a test meets by accident.
pub const LONG: Limits = Limits {
    deadline: PATIENCE,
    grace: Duration::from_secs(10),
};

pub fn runner() -> Runner {
    Runner {
        guard_program: env!("CARGO_BIN_EXE_kindler").into(),
        ..Runner::default()
    }
}

/// A script for `sh`, for tests that are about processes and not about scripts.
pub fn sh(script: impl AsRef<str>) -> CommandLine {
    CommandLine::new("/bin/sh", ["-c", script.as_ref()])
}

/// Runs to the end with nobody interfering.
pub async fn run(line: &CommandLine, limits: Limits) -> Result<Finished, SpawnError> {
    run_until(line, limits, &CancellationToken::new()).await
}

/// Runs to the end unless cancelled.
pub async fn run_until(
    line: &CommandLine,
    limits: Limits,
    cancel: &CancellationToken,
) -> Result<Finished, SpawnError> {
    let runner = runner();
    let run = runner.run(line, &limits, unconditional_trust(), cancel, None);
    tokio::time::timeout(PATIENCE * 2, run)
        .await
        .expect("a run must end")
}

/// A number of seconds to `sleep` that no other process on the machine sleeps: whoever has it on
/// its command line belongs to this test.
pub struct Token(pub String);

impl Token {
    pub fn new() -> Self {
        static TOKENS: AtomicU32 = AtomicU32::new(0);
        let n = TOKENS.fetch_add(1, Ordering::Relaxed);
        Self(format!("1000.{}{n:04}", process::id()))
    }

    /// The sleepers: their process ids, ended ones and those that only carry a script left out.
    pub fn sleepers(&self) -> Vec<i32> {
        let wanted = format!("sleep\0{}\0", self.0);
        pids()
            .filter(|pid| slurp(*pid, "cmdline") == wanted && state(*pid) != 'Z')
            .collect()
    }

    /// Everyone with the token on the command line: sleepers, shells and guards.
    pub fn bearers(&self) -> Vec<i32> {
        pids()
            .filter(|pid| slurp(*pid, "cmdline").contains(&self.0))
            .collect()
    }

    pub async fn wait_for_sleepers(&self, count: usize) {
        eventually("all sleepers run", || self.sleepers().len() == count).await;
    }

    pub async fn wait_until_gone(&self) {
        eventually("nobody is left", || self.bearers().is_empty()).await;
    }
}

impl Drop for Token {
    /// A failed test leaves nothing behind either.
    fn drop(&mut self) {
        for pid in self.bearers() {
            signal(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Three sleepers, each harder to reach: a child, one in a session of its own, and one that was
/// forked twice and whose parents are gone. The script itself goes on to `end`.
pub fn family(token: &Token, end: &str) -> CommandLine {
    let sleep = &token.0;
    sh(format!(
        "sleep {sleep} & setsid sleep {sleep} & setsid sh -c 'setsid sleep {sleep} & exit' & {end}"
    ))
}

pub fn signal(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    let _gone = rustix::process::kill_process(pid, signal);
}

/// The parent of a process, from its status.
pub fn parent(pid: i32) -> i32 {
    status_field(pid, "PPid:").expect("a parent")
}

/// The most memory that a process had, in KiB.
pub fn peak_memory_kib(pid: i32) -> i32 {
    status_field(pid, "VmHWM:").expect("a peak")
}

fn status_field(pid: i32, name: &str) -> Option<i32> {
    let status = slurp(pid, "status");
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processes that have ended and that this process has not collected.
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
    let stat = slurp(pid, "stat");
    stat.rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next())
        .unwrap_or('Z')
}

fn slurp(pid: i32, file: &str) -> String {
    let bytes = fs::read(PathBuf::from(format!("/proc/{pid}/{file}"))).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for a condition, and says which one did not come true.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
