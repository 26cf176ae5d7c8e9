//! A command ends when its daemon dies, is stopped, or loses trust in its lease.

use std::env;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kindler::command::{
    CommandLimits, CommandLine, Ending, FinishedCommand, Heading, LogDir, MonotonicDeadline,
    Orphans, Runner, SpawnError, daemons_of_left_runs, unconditional_trust,
};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::faults::processes::guards_of;

use super::rig::{
    LONG, PATIENCE, Token, eventually, parent, peak_memory_kib, process_tree, run, runner, sh,
    signal,
};

const SCRIPT: &str = "KINDLER_TEST_SCRIPT";
const TRUST_MILLIS: &str = "KINDLER_TEST_TRUST_MILLIS";
const FOLDER: &str = "KINDLER_TEST_FOLDER";

/// Not a test: the daemon that tests kill and stop. It runs one script with trust that it renews,
/// and writes how the script ended to a file.
#[tokio::test]
#[ignore = "other tests start it as a process"]
async fn daemon() {
    let (Ok(script), Ok(folder)) = (env::var(SCRIPT), env::var(FOLDER)) else {
        return;
    };
    let ttl = env::var(TRUST_MILLIS)
        .ok()
        .and_then(|text| text.parse().ok());
    let fresh = move || match ttl {
        Some(millis) => MonotonicDeadline::in_(Duration::from_millis(millis)),
        None => MonotonicDeadline::never(),
    };
    let (renew, trust) = watch::channel(fresh());
    let renewing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(ttl.unwrap_or(1000) / 4)).await;
            renew.send_replace(fresh());
        }
    };
    let heading = Heading {
        operation: "test".to_owned(),
        attempt: 1,
        generation: 1,
        term: 1,
    };
    let mut log = LogDir::new(&folder).log("log", uuid::Uuid::from_u128(1), heading);
    let (line, cancel, runner) = (sh(script), CancellationToken::new(), runner());
    let limits = CommandLimits {
        deadline: Duration::from_secs(120),
        ..LONG
    };
    let run = runner.run(&line, &limits, trust, &cancel, Some(&mut log));
    let finished: FinishedCommand = tokio::select! {
        finished = run => finished.unwrap(),
        () = renewing => unreachable!("renewing has no end"),
    };
    fs::write(Path::new(&folder).join("end"), format!("{finished:?}")).unwrap();
    // Runs until it is killed, so that a test can read its memory use.
    std::future::pending::<()>().await;
}

/// The process of [`daemon`]. Killed when dropped.
struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    fn running(line: &CommandLine, trust: Option<Duration>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "command::owner::daemon",
                "--ignored",
                "--nocapture",
            ])
            .env(SCRIPT, line.args.last().unwrap())
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(trust) = trust {
            command.env(TRUST_MILLIS, trust.as_millis().to_string());
        }
        Self {
            child: command.spawn().unwrap(),
            folder,
        }
    }

    fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    async fn end(&self) -> String {
        let file = self.folder.path().join("end");
        let until = Instant::now() + 2 * PATIENCE;
        loop {
            match fs::read_to_string(&file) {
                Ok(text) if text.ends_with('}') => return text,
                _ => assert!(Instant::now() < until, "the run does not end"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn killing_the_daemon_ends_the_process_tree() {
    let token = Token::new();
    let mut daemon = Daemon::running(
        &process_tree(&token, "trap '' TERM; while :; do sleep 0.05; done"),
        None,
    );
    token.wait_for_sleepers(3).await;
    daemon.child.kill().unwrap();
    let killed = Instant::now();
    token.wait_until_gone().await;
    assert!(
        killed.elapsed() < Duration::from_secs(4),
        "{:?}",
        killed.elapsed()
    );
}

/// The guard is dead too, so nothing but the environment of its process shows the run.
#[tokio::test]
async fn a_run_that_outlives_its_daemon_and_guard_is_found() {
    let token = Token::new();
    let mut daemon = Daemon::running(&process_tree(&token, "wait"), None);
    token.wait_for_sleepers(3).await;
    let pid = u32::try_from(daemon.pid()).unwrap();
    assert!(!daemons_of_left_runs().contains(&pid), "the daemon runs");
    signal(daemon.pid(), Signal::STOP);
    for guard in guards_of(daemon.pid()) {
        signal(guard, Signal::KILL);
    }
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    assert!(daemons_of_left_runs().contains(&pid));
    Orphans::new(Duration::ZERO, Duration::ZERO).end();
    token.wait_until_gone().await;
    assert!(!daemons_of_left_runs().contains(&pid));
}

#[tokio::test]
async fn killing_the_daemon_during_a_start_leaves_no_process() {
    for round in 0..20 {
        let token = Token::new();
        let mut daemon = Daemon::running(&process_tree(&token, "wait"), None);
        let started = Instant::now();
        // From before the guard exists to after the process tree is complete.
        let life = Duration::from_millis(5 * round);
        eventually("its time has come", || started.elapsed() >= life).await;
        daemon.child.kill().unwrap();
        // No process with the script, because one without a sleeper may still start one.
        eventually("no process is left", || token.processes().is_empty()).await;
        assert_eq!(token.sleepers(), [0; 0]);
    }
}

#[tokio::test]
async fn the_tree_of_a_stopped_daemon_ends_when_its_trust_expires() {
    let token = Token::new();
    let trust = Duration::from_millis(2000);
    let daemon = Daemon::running(
        &process_tree(&token, "trap '' TERM; while :; do sleep 0.05; done"),
        Some(trust),
    );
    token.wait_for_sleepers(3).await;
    // Renewals reach the guard: the tree runs longer than the first trust.
    let started = Instant::now();
    eventually("the first trust has expired", || {
        started.elapsed() > trust + trust / 2
    })
    .await;
    assert_eq!(
        token.sleepers().len(),
        3,
        "ended although its trust was renewed"
    );

    signal(daemon.pid(), Signal::STOP);
    let stopped = Instant::now();
    token.wait_until_gone().await;
    let took = stopped.elapsed();
    assert!(
        took < trust + Duration::from_secs(1),
        "the tree ran for {took:?}"
    );
    assert!(
        took > trust / 2,
        "ended after {took:?}, before its trust expired"
    );
    signal(daemon.pid(), Signal::CONT);
    let end = daemon.end().await;
    assert!(end.contains("ending: TrustLost"), "{end}");
}

#[tokio::test]
async fn revoked_trust_ends_the_command_at_once() {
    let token = Token::new();
    let (revoke, trust) = watch::channel(MonotonicDeadline::never());
    let line = process_tree(&token, "trap '' TERM; while :; do sleep 0.05; done");
    let (cancel, runner) = (CancellationToken::new(), runner());
    let revoking = async {
        token.wait_for_sleepers(3).await;
        revoke.send_replace(MonotonicDeadline::in_(Duration::ZERO));
        Instant::now()
    };
    let run = runner.run(&line, &LONG, trust, &cancel, None);
    let (finished, revoked) = tokio::join!(run, revoking);
    assert_eq!(finished.unwrap().ending, Ending::TrustLost);
    assert_eq!(token.sleepers(), [0; 0]);
    assert!(
        revoked.elapsed() < Duration::from_secs(3),
        "{:?}",
        revoked.elapsed()
    );
}

#[tokio::test]
async fn no_guard_is_started_without_trust() {
    let (_owner, trust) = watch::channel(MonotonicDeadline::in_(Duration::ZERO));
    let mut runner = runner();
    runner.guard_program = "/no/such/guard".into();
    let cancel = CancellationToken::new();
    let finished = runner
        .run(&sh("exit 0"), &LONG, trust, &cancel, None)
        .await
        .unwrap();
    assert_eq!(finished.ending, Ending::TrustLost);
}

#[test]
fn a_guard_with_expired_trust_starts_nothing() {
    // The instant 1 is a nanosecond after boot. The control socket stays open.
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut guard = Command::new(env!("CARGO_BIN_EXE_kindler"));
    guard
        .args(["guard", "1", "1000", "-", "/bin/true"])
        .stdin(OwnedFd::from(theirs));
    assert!(guard.spawn().unwrap().wait().unwrap().success());
    drop(guard);
    let mut reports = String::new();
    ours.read_to_string(&mut reports).unwrap();
    assert_eq!(reports, "untrusted\n");
}

/// Another process has concluded that this owner has ended, and removed the file.
#[test]
fn a_guard_whose_owner_counts_as_ended_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut guard = Command::new(env!("CARGO_BIN_EXE_kindler"));
    guard
        .args(["guard", &u64::MAX.to_string(), "1000"])
        .arg(folder.path().join("gone"))
        .args(["/bin/touch"])
        .arg(folder.path().join("started"))
        .stdin(OwnedFd::from(theirs));
    assert!(guard.spawn().unwrap().wait().unwrap().success());
    drop(guard);
    let mut reports = String::new();
    ours.read_to_string(&mut reports).unwrap();
    assert_eq!(reports, "untrusted\n");
    assert!(!folder.path().join("started").exists());
}

#[tokio::test]
async fn the_tree_of_a_killed_guard_is_killed() {
    let token = Token::new();
    let line = process_tree(&token, "trap '' TERM; while :; do sleep 0.05; done");
    let killing = async {
        token.wait_for_sleepers(3).await;
        let parents = token.sleepers().into_iter().map(parent).collect::<Vec<_>>();
        // The guard is the parent of the sleeper that was forked twice, and of the shell.
        let shell = parents
            .iter()
            .find(|pid| parents.contains(&parent(**pid)))
            .unwrap();
        signal(parent(*shell), Signal::KILL);
    };
    let (finished, ()) = tokio::join!(run(&line, LONG), killing);
    let finished = finished.unwrap();
    assert_eq!(
        (finished.ending, finished.survivors),
        (Ending::Signaled(9), vec![])
    );
    assert_eq!(token.sleepers(), [0; 0]);
}

#[tokio::test]
async fn the_tree_of_a_stopped_guard_is_killed() {
    let token = Token::new();
    let line = sh(format!("setsid sleep {} & kill -STOP $PPID; wait", token.0));
    let cancel = CancellationToken::new();
    let cancelling = async {
        token.wait_for_sleepers(1).await;
        cancel.cancel();
    };
    let limits = CommandLimits {
        grace: Duration::from_millis(200),
        ..LONG
    };
    let run = super::rig::run_until(&line, limits, &cancel);
    let (finished, ()) = tokio::join!(run, cancelling);
    assert_eq!(finished.unwrap().ending, Ending::Cancelled);
    assert_eq!(token.sleepers(), [0; 0]);
}

#[tokio::test]
async fn a_guard_ignores_signals_but_its_command_does_not() {
    let signals = "for s in TERM INT HUP QUIT USR1 USR2 ALRM; do kill -$s $PPID; done; sleep 0.1; ";
    let finished = run(&sh(format!("{signals} exit 5")), LONG).await.unwrap();
    assert_eq!(finished.ending, Ending::Exited(5));
    // Handlers, unlike ignored signals, are not inherited.
    let finished = run(&sh("kill -TERM $$; exit 5"), LONG).await.unwrap();
    assert_eq!(finished.ending, Ending::Signaled(15));
    // Only additional ignored signals count, because the tests may have inherited some.
    let script = "grep SigIgn /proc/$$/status";
    let ignored = |line: Vec<u8>| {
        let line = String::from_utf8(line).unwrap();
        u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
    };
    let bare = Command::new("/bin/sh")
        .args(["-c", script])
        .output()
        .unwrap();
    let guarded = run(&sh(script), LONG).await.unwrap();
    assert_eq!(ignored(guarded.stdout) & !ignored(bare.stdout), 0);
}

#[tokio::test]
async fn a_gigabyte_of_stderr_needs_bounded_memory() {
    let line = sh("head -c 1G /dev/zero | tr '\\0' 'x' >&2; yes line | head -n 100000; echo done");
    let daemon = Daemon::running(&line, None);
    let end = daemon.end().await;
    assert!(end.contains("stderr_bytes: 1073741824"), "{}", &end[..200]);
    assert!(end.contains("\"done\"") && end.contains("ending: Exited(0)"));
    let peak = peak_memory_kib(daemon.pid());
    assert!(peak < 32 * 1024, "peak memory {peak} KiB");
    let logs: u64 = fs::read_dir(daemon.folder.path())
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains(".log"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert!(
        logs <= 2 * kindler::command::LOG_BYTES,
        "{logs} bytes of log"
    );
    println!("peak memory {peak} KiB, logs {logs} bytes");
}

/// A file system that does not answer: opening a named pipe waits for a writer.
#[tokio::test]
async fn a_guard_does_not_wait_for_a_state_folder_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("owner");
    let made = Command::new("mkfifo").arg(&lock).status();
    assert!(made.unwrap().success());
    let runner = Runner {
        owner_lock: Some(lock),
        ..runner()
    };
    let (ran, cancel) = (folder.path().join("ran"), CancellationToken::new());
    let line = sh(format!("touch {}", ran.display()));
    let began = Instant::now();
    let run = runner.run(&line, &LONG, unconditional_trust(), &cancel, None);
    let error = run.await.unwrap_err();
    assert!(matches!(error, SpawnError::StateFolder { .. }), "{error:?}");
    assert!(error.to_string().contains("state folder"), "{error}");
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    assert!(!ran.exists(), "the command was not started");
}
