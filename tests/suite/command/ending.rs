//! How a run ends: by itself, by a limit, by cancellation, or not started at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use kindler::command::{CommandLimits, CommandLine, Ending, SpawnError};
use tokio_util::sync::CancellationToken;

use super::rig::{LONG, PATIENCE, Token, eventually, process_tree, run, run_until, sh, zombies};

fn short(deadline: u64, grace: u64) -> CommandLimits {
    CommandLimits {
        deadline: Duration::from_millis(deadline),
        grace: Duration::from_millis(grace),
    }
}

#[tokio::test]
async fn the_exit_code_is_reported_unchanged() {
    for code in [0, 1, 42, 137, 255] {
        let finished = run(&sh(format!("exit {code}")), LONG).await.unwrap();
        assert_eq!(finished.ending, Ending::Exited(code));
        assert_eq!(finished.survivors, [0; 0]);
    }
}

#[tokio::test]
async fn a_signal_is_distinguished_from_an_exit_code() {
    for signal in [9, 11, 15] {
        let finished = run(&sh(format!("kill -{signal} $$")), LONG).await.unwrap();
        assert_eq!(finished.ending, Ending::Signaled(signal));
    }
}

#[tokio::test]
async fn a_script_that_signals_its_group_spares_its_guard() {
    let finished = run(&sh("trap 'exit 7' TERM; kill 0; exit 1"), LONG)
        .await
        .unwrap();
    assert_eq!(finished.ending, Ending::Exited(7));
    // The guard survives SIGTERM but not SIGKILL, so the group must be another one.
    let leads = "read -r pid name state parent group rest < /proc/$$/stat; [ $group = $$ ]";
    let finished = run(&sh(leads), LONG).await.unwrap();
    assert_eq!(finished.ending, Ending::Exited(0));
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed_after_the_grace() {
    let token = Token::new();
    let script = format!(
        "trap '' TERM; setsid sleep {} & while :; do sleep 0.05; done",
        token.0
    );
    let started = Instant::now();
    let finished = run(&sh(script), short(500, 300)).await.unwrap();
    assert_eq!(finished.ending, Ending::DeadlineExceeded);
    let took = started.elapsed();
    assert!(
        took >= Duration::from_millis(800),
        "killed early, after {took:?}"
    );
    // Three seconds later the daemon would have killed the tree itself.
    assert!(took < Duration::from_millis(800 + 2500), "{took:?}");
    assert_eq!(token.sleepers(), [0; 0]);
}

#[tokio::test]
async fn a_cancelled_command_may_clean_up_within_its_grace() {
    let dir = tempfile::tempdir().unwrap();
    let (ready, cleaned) = (dir.path().join("ready"), dir.path().join("cleaned"));
    // The cleanup starts programs, which must not be signalled.
    let script = format!(
        "trap 'sleep 0.3 && touch {}; exit 0' TERM; touch {}; while :; do sleep 0.05; done",
        cleaned.display(),
        ready.display()
    );
    let cancel = CancellationToken::new();
    let cancelling = async {
        eventually("the command has set its trap", || ready.exists()).await;
        cancel.cancel();
    };
    let line = sh(script);
    let (finished, ()) = tokio::join!(run_until(&line, LONG, &cancel), cancelling);
    assert_eq!(finished.unwrap().ending, Ending::Cancelled);
    assert!(
        cleaned.exists(),
        "the command was killed while it cleaned up"
    );
}

/// Cancels a command once this many sleepers run; its tree must end early in its grace.
async fn assert_cancellable(line: &CommandLine, token: &Token, sleepers: usize) {
    let cancel = CancellationToken::new();
    let cancelling = async {
        token.wait_for_sleepers(sleepers).await;
        cancel.cancel();
        Instant::now()
    };
    let (finished, cancelled) = tokio::join!(run_until(line, LONG, &cancel), cancelling);
    assert_eq!(finished.unwrap().ending, Ending::Cancelled);
    assert_eq!(
        token.sleepers(),
        [0; 0],
        "run returned before the tree had ended"
    );
    let took = cancelled.elapsed();
    assert!(took < LONG.grace / 2, "{took:?}");
}

#[tokio::test]
async fn cancelling_ends_the_whole_process_tree_early() {
    let token = Token::new();
    assert_cancellable(&process_tree(&token, "wait"), &token, 3).await;
}

#[tokio::test]
async fn child_processes_do_not_outlive_their_command() {
    let token = Token::new();
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let line = process_tree(
        &token,
        &format!("until [ -e {} ]; do sleep 0.02; done; exit 3", go.display()),
    );
    let release = async {
        token.wait_for_sleepers(3).await;
        fs::write(&go, "").unwrap();
    };
    let (finished, ()) = tokio::join!(run(&line, LONG), release);
    assert_eq!(finished.unwrap().ending, Ending::Exited(3));
    assert_eq!(
        token.sleepers(),
        [0; 0],
        "run returned before the tree had ended"
    );
}

#[tokio::test]
async fn processes_that_a_cleanup_leaves_are_terminated_too() {
    let (token, left) = (Token::new(), Token::new());
    let (first, second) = (&token.0, &left.0);
    let line = sh(format!(
        "trap 'setsid sleep {second} & exit 0' TERM; sleep {first} & wait"
    ));
    assert_cancellable(&line, &token, 1).await;
    assert_eq!(left.sleepers(), [0; 0]);
}

#[tokio::test]
async fn a_stopped_command_is_continued_and_terminated() {
    let token = Token::new();
    let line = sh(format!("sleep {} & kill -STOP $$; wait", token.0));
    assert_cancellable(&line, &token, 1).await;
}

#[tokio::test]
async fn a_cancelled_run_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let cancel = CancellationToken::new();
    cancel.cancel();
    let line = sh(format!("touch {}", trace.display()));
    let finished = run_until(&line, LONG, &cancel).await.unwrap();
    assert_eq!(finished.ending, Ending::Cancelled);
    assert!(!trace.exists());
}

#[tokio::test]
async fn a_program_that_cannot_start_has_a_typed_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let missing = dir.path().join("missing.sh");
    let plain = file("plain.sh", "#!/bin/sh\n", 0o644);
    let bare = file("bare.sh", "exit 0\n", 0o755);
    let lost = file("lost.sh", "#!/no/such/interpreter\n", 0o755);

    let none: [&str; 0] = [];
    let fail = async |program| {
        run(&CommandLine::new(program, none), LONG)
            .await
            .unwrap_err()
    };
    let errors = [
        fail(missing).await,
        fail("no-such-program-in-path".into()).await,
    ];
    assert!(
        errors
            .iter()
            .all(|e| matches!(e, SpawnError::ProgramMissing { .. })),
        "{errors:?}"
    );
    // A text without an interpreter line is not a program, and no shell runs it.
    let error = fail(bare).await;
    assert!(matches!(error, SpawnError::NoFormat { .. }), "{error:?}");
    let errors = [fail(plain).await, fail(dir.path().into()).await];
    assert!(
        errors
            .iter()
            .all(|e| matches!(e, SpawnError::NotExecutable { .. })),
        "{errors:?}"
    );
    assert!(errors[0].to_string().contains("plain.sh"));
    let error = fail(lost).await;
    assert!(
        matches!(error, SpawnError::InterpreterMissing { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_guard_that_cannot_start_is_an_error() {
    let mut runner = super::rig::runner();
    let trust = kindler::command::unconditional_trust;
    let cancel = CancellationToken::new();
    runner.guard_program = "/no/such/guard".into();
    let error = runner
        .run(&sh("exit 0"), &LONG, trust(), &cancel, None)
        .await
        .unwrap_err();
    assert!(matches!(error, SpawnError::Guard { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "cannot start guard /no/such/guard for program /bin/sh"
    );
    runner.guard_program = "/bin/true".into();
    let error = runner
        .run(&sh("exit 0"), &LONG, trust(), &cancel, None)
        .await
        .unwrap_err();
    assert!(matches!(error, SpawnError::GuardSilent { .. }), "{error:?}");
}

#[tokio::test]
async fn no_zombie_is_left_by_a_dropped_run() {
    let token = Token::new();
    let line = process_tree(&token, "wait");
    let cancel = CancellationToken::new();
    tokio::select! {
        _ = run_until(&line, LONG, &cancel) => panic!("the process tree does not end by itself"),
        () = token.wait_for_sleepers(3) => {}
    }
    token.wait_until_gone().await;
    let finished = run(&sh("exit 0"), LONG).await.unwrap();
    assert!(finished.duration < PATIENCE);
    // Other tests of this process have short-lived zombies; only one that stays is an error.
    let mut suspects = zombies();
    eventually("no zombie stays", || {
        let now = zombies();
        suspects.retain(|pid| now.contains(pid));
        suspects.is_empty()
    })
    .await;
}
