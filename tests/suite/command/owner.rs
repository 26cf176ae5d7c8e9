//! The owner of a command dies, freezes or loses its right, and so does the command.

use std::env;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kindler::command::{CommandLine, Ending, Finished, Heading, Limits, LogDir, MonotonicDeadline};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::rig::{
    LONG, PATIENCE, Token, eventually, family, parent, peak_memory_kib, run, runner, sh, signal,
};

const SCRIPT: &str = "KINDLER_TEST_SCRIPT";
const TRUST_MILLIS: &str = "KINDLER_TEST_TRUST_MILLIS";
const FOLDER: &str = "KINDLER_TEST_FOLDER";

/// Not a test: the daemon that others kill and freeze. It runs one script, with a trust that it
/// renews while it can, and writes down how the script ended.
#[tokio::test]
#[ignore = "started by other tests as a process of its own"]
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
        fence: 1,
    };
    let mut log = LogDir::new(&folder).log("log", uuid::Uuid::from_u128(1), heading);
    let (line, cancel, runner) = (sh(script), CancellationToken::new(), runner());
    let limits = Limits {
        deadline: Duration::from_secs(120),
        ..LONG
    };
    let run = runner.run(&line, &limits, trust, &cancel, Some(&mut log));
    let finished: Finished = tokio::select! {
        finished = run => finished.unwrap(),
        () = renewing => unreachable!("renewing has no end"),
    };
    fs::write(Path::new(&folder).join("end"), format!("{finished:?}")).unwrap();
    // Alive until it is ended from outside, so that its memory can be looked at.
    std::future::pending::<()>().await;
}

/// The process of [`daemon`], ended when the test is over.
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
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[tokio::test]
async fn killing_the_daemon_leaves_no_survivor() {
    let token = Token::new();
    let mut daemon = Daemon::running(
        &family(&token, "trap '' TERM; while :; do sleep 0.05; done"),
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

#[tokio::test]
async fn a_daemon_killed_at_any_instant_of_the_start_leaves_no_survivor() {
    for round in 0..20 {
        let token = Token::new();
        let mut daemon = Daemon::running(&family(&token, "wait"), None);
        let started = Instant::now();
        // From before the guard exists to after the family is complete.
        let life = Duration::from_millis(5 * round);
        eventually("its time has come", || started.elapsed() >= life).await;
        daemon.child.kill().unwrap();
        // Not merely no sleeper, since the next one may be about to start: no process at all
        // that has the script on its command line.
        eventually("nobody is left", || token.bearers().is_empty()).await;
        assert_eq!(token.sleepers(), [0; 0]);
    }
}

#[tokio::test]
async fn a_frozen_daemon_loses_its_tree_when_its_trust_ends_and_not_before() {
    let token = Token::new();
    let trust = Duration::from_millis(2000);
    let daemon = Daemon::running(
        &family(&token, "trap '' TERM; while :; do sleep 0.05; done"),
        Some(trust),
    );
    token.wait_for_sleepers(3).await;
    // Renewals reach the guard: the tree outlives its first trust.
    let born = Instant::now();
    eventually("the first trust is over", || {
        born.elapsed() > trust + trust / 2
    })
    .await;
    assert_eq!(
        token.sleepers().len(),
        3,
        "ended although its trust was renewed"
    );

    signal(daemon.pid(), Signal::STOP);
    let frozen = Instant::now();
    token.wait_until_gone().await;
    let took = frozen.elapsed();
    assert!(
        took < trust + Duration::from_secs(1),
        "the tree lived on for {took:?}"
    );
    assert!(
        took > trust / 2,
        "ended after {took:?}, long before its trust"
    );
    signal(daemon.pid(), Signal::CONT);
    let end = daemon.end().await;
    assert!(end.contains("ending: TrustLost"), "{end}");
}

#[tokio::test]
async fn revoked_trust_ends_the_command_at_once() {
    let token = Token::new();
    let (revoke, trust) = watch::channel(MonotonicDeadline::never());
    let line = family(&token, "trap '' TERM; while :; do sleep 0.05; done");
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
async fn without_trust_not_even_a_guard_is_started() {
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
fn a_guard_that_starts_after_its_trust_has_ended_starts_nothing() {
    // The instant 1 is a nanosecond after boot. The lifeline stays open all the while.
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut guard = Command::new(env!("CARGO_BIN_EXE_kindler"));
    guard
        .args(["guard", "1", "1000", "/bin/true"])
        .stdin(OwnedFd::from(theirs));
    assert!(guard.spawn().unwrap().wait().unwrap().success());
    drop(guard);
    let mut reports = String::new();
    ours.read_to_string(&mut reports).unwrap();
    assert_eq!(reports, "untrusted\n");
}

#[tokio::test]
async fn a_killed_guard_takes_its_tree_along() {
    let token = Token::new();
    let line = family(&token, "trap '' TERM; while :; do sleep 0.05; done");
    let killing = async {
        token.wait_for_sleepers(3).await;
        let adopted = token.sleepers().into_iter().map(parent).collect::<Vec<_>>();
        // The guard is the parent of the one that was forked twice, and grandparent of a child.
        let shell = adopted
            .iter()
            .find(|pid| adopted.contains(&parent(**pid)))
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
async fn a_frozen_guard_is_replaced_by_force() {
    let token = Token::new();
    let line = sh(format!("setsid sleep {} & kill -STOP $PPID; wait", token.0));
    let cancel = CancellationToken::new();
    let cancelling = async {
        token.wait_for_sleepers(1).await;
        cancel.cancel();
    };
    let limits = Limits {
        grace: Duration::from_millis(200),
        ..LONG
    };
    let run = super::rig::run_until(&line, limits, &cancel);
    let (finished, ()) = tokio::join!(run, cancelling);
    assert_eq!(finished.unwrap().ending, Ending::Cancelled);
    assert_eq!(token.sleepers(), [0; 0]);
}

#[tokio::test]
async fn a_guard_shrugs_off_stray_signals_but_its_command_does_not() {
    let stray = "for s in TERM INT HUP QUIT USR1 USR2 ALRM; do kill -$s $PPID; done; sleep 0.1; ";
    let finished = run(&sh(format!("{stray} exit 5")), LONG).await.unwrap();
    assert_eq!(finished.ending, Ending::Exited(5));
    // Handlers, unlike ignored signals, are not inherited.
    let finished = run(&sh("kill -TERM $$; exit 5"), LONG).await.unwrap();
    assert_eq!(finished.ending, Ending::Signaled(15));
    // No more is ignored than without a guard: who started the tests may ignore some.
    let script = "grep SigIgn /proc/$$/status";
    let ignored = |told: Vec<u8>| {
        let told = String::from_utf8(told).unwrap();
        u64::from_str_radix(told.split_whitespace().last().unwrap(), 16).unwrap()
    };
    let bare = Command::new("/bin/sh")
        .args(["-c", script])
        .output()
        .unwrap();
    let guarded = run(&sh(script), LONG).await.unwrap();
    assert_eq!(ignored(guarded.stdout) & !ignored(bare.stdout), 0);
}

#[tokio::test]
async fn a_gigabyte_of_stderr_neither_blocks_nor_grows_memory() {
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
