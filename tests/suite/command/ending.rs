//! How a run ends: by itself, by a limit, by cancellation, or not started at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use kindler::command::{CommandLine, Ending, Limits, SpawnError};
use tokio_util::sync::CancellationToken;

use super::rig::{LONG, PATIENCE, Token, eventually, family, run, run_until, sh, zombies};

fn short(deadline: u64, grace: u64) -> Limits {
    Limits {
        deadline: Duration::from_millis(deadline),
        grace: Duration::from_millis(grace),
    }
}

#[tokio::test]
async fn the_exit_code_is_reported_as_it_is() {
    for code in [0, 1, 42, 137, 255] {
        let finished = run(&sh(format!("exit {code}")), LONG).await.unwrap();
        assert_eq!(finished.ending, Ending::Exited(code));
        assert_eq!(finished.survivors, [0; 0]);
    }
}

#[tokio::test]
async fn death_by_a_signal_is_told_from_an_exit_code() {
    for signal in [9, 11, 15] {
        let finished = run(&sh(format!("kill -{signal} $$")), LONG).await.unwrap();
        assert_eq!(finished.ending, Ending::Signaled(signal));
    }
}

#[tokio::test]
async fn a_script_that_signals_its_own_group_does_not_hit_its_guard() {
    let finished = run(&sh("trap 'exit 7' TERM; kill 0; exit 1"), LONG)
        .await
        .unwrap();
    assert_eq!(finished.ending, Ending::Exited(7));
    // SIGTERM would not harm the guard anyway, SIGKILL would: the group must be another one.
    let leads = "read -r pid name state parent group rest < /proc/$$/stat; [ $group = $$ ]";
    let finished = run(&sh(leads), LONG).await.unwrap();
    assert_eq!(finished.ending, Ending::Exited(0));
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed_after_its_deadline_and_grace() {
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
    // Three seconds later the daemon would have given up on its guard and helped itself.
    assert!(took < Duration::from_millis(800 + 2500), "{took:?}");
    assert_eq!(token.sleepers(), [0; 0]);
}

#[tokio::test]
async fn a_cancelled_command_may_clean_up_within_its_grace() {
    let dir = tempfile::tempdir().unwrap();
    let (ready, cleaned) = (dir.path().join("ready"), dir.path().join("cleaned"));
    // The cleaning up starts programs of its own, which must be let be.
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

#[tokio::test]
async fn cancelling_ends_the_whole_family_long_before_the_grace_is_over() {
    let token = Token::new();
    let cancel = CancellationToken::new();
    let line = family(&token, "wait");
    let cancelling = async {
        token.wait_for_sleepers(3).await;
        cancel.cancel();
        Instant::now()
    };
    let (finished, cancelled) = tokio::join!(run_until(&line, LONG, &cancel), cancelling);
    assert_eq!(finished.unwrap().ending, Ending::Cancelled);
    assert_eq!(
        token.sleepers(),
        [0; 0],
        "run returned before the tree was gone"
    );
    assert!(
        cancelled.elapsed() < LONG.grace / 2,
        "{:?}",
        cancelled.elapsed()
    );
}

#[tokio::test]
async fn what_a_command_leaves_behind_does_not_outlive_it() {
    let token = Token::new();
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let line = family(
        &token,
        &format!("until [ -e {} ]; do sleep 0.02; done; exit 3", go.display()),
    );
    let letting_go = async {
        token.wait_for_sleepers(3).await;
        fs::write(&go, "").unwrap();
    };
    let (finished, ()) = tokio::join!(run(&line, LONG), letting_go);
    assert_eq!(finished.unwrap().ending, Ending::Exited(3));
    assert_eq!(
        token.sleepers(),
        [0; 0],
        "run returned before the tree was gone"
    );
}

#[tokio::test]
async fn what_the_cleaning_up_leaves_behind_is_asked_to_leave_too() {
    let (token, left) = (Token::new(), Token::new());
    let cancel = CancellationToken::new();
    let (first, second) = (&token.0, &left.0);
    let line = sh(format!(
        "trap 'setsid sleep {second} & exit 0' TERM; sleep {first} & wait"
    ));
    let cancelling = async {
        token.wait_for_sleepers(1).await;
        cancel.cancel();
        Instant::now()
    };
    let (finished, cancelled) = tokio::join!(run_until(&line, LONG, &cancel), cancelling);
    assert_eq!(finished.unwrap().ending, Ending::Cancelled);
    assert_eq!(left.sleepers(), [0; 0]);
    assert!(
        cancelled.elapsed() < LONG.grace / 2,
        "{:?}",
        cancelled.elapsed()
    );
}

#[tokio::test]
async fn a_stopped_command_hears_the_request_to_leave() {
    let token = Token::new();
    let cancel = CancellationToken::new();
    let line = sh(format!("sleep {} & kill -STOP $$; wait", token.0));
    let cancelling = async {
        token.wait_for_sleepers(1).await;
        cancel.cancel();
        Instant::now()
    };
    let (finished, cancelled) = tokio::join!(run_until(&line, LONG, &cancel), cancelling);
    assert_eq!(finished.unwrap().ending, Ending::Cancelled);
    assert!(
        cancelled.elapsed() < LONG.grace / 2,
        "{:?}",
        cancelled.elapsed()
    );
}

#[tokio::test]
async fn a_cancelled_caller_starts_nothing() {
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
async fn a_program_that_cannot_run_is_told_by_type_and_by_name() {
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
    // Without a first line that names an interpreter a text is no program, and no shell guesses.
    let errors = [
        fail(plain).await,
        fail(bare).await,
        fail(dir.path().into()).await,
    ];
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
async fn a_guard_that_is_none_is_an_error_that_names_both() {
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
async fn no_zombie_is_left_not_even_by_a_run_that_was_dropped() {
    let token = Token::new();
    let line = family(&token, "wait");
    let cancel = CancellationToken::new();
    tokio::select! {
        _ = run_until(&line, LONG, &cancel) => panic!("the family does not leave by itself"),
        () = token.wait_for_sleepers(3) => {}
    }
    token.wait_until_gone().await;
    let finished = run(&sh("exit 0"), LONG).await.unwrap();
    assert!(finished.duration < PATIENCE);
    // Other tests of this process come and go; what stays is a zombie.
    let mut suspects = zombies();
    eventually("no zombie stays", || {
        let now = zombies();
        suspects.retain(|pid| now.contains(pid));
        suspects.is_empty()
    })
    .await;
}
