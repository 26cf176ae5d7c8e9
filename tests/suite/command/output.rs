//! The input and the output of a command.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use kindler::command::{
    CommandLine, Ending, Heading, LogDir, STDOUT_KEPT, TAIL_LINES, unconditional_trust,
};
use tokio_util::sync::CancellationToken;

use super::rig::{LONG, Token, run, runner, sh};

#[tokio::test]
async fn arguments_are_passed_verbatim() {
    let hostile = [
        "",
        " ",
        "$(touch x)",
        "`id`",
        "a;b",
        "'\"",
        "*",
        "-n",
        "--",
        "line\nbreak",
        "ü",
    ];
    let mut args: Vec<OsString> = hostile.iter().map(OsString::from).collect();
    args.push(OsString::from_vec(vec![0xff, 0xfe]));
    let mut expected = Vec::new();
    for arg in &args {
        expected.extend_from_slice(arg.as_encoded_bytes());
        expected.push(0);
    }
    let printf = [OsString::from("%s\\0")].into_iter().chain(args);
    let finished = run(&CommandLine::new("printf", printf), LONG)
        .await
        .unwrap();
    assert_eq!(finished.ending, Ending::Exited(0));
    assert_eq!(finished.stdout, expected);
}

#[tokio::test]
async fn only_listed_and_context_variables_are_passed() {
    let none: [&str; 0] = [];
    let mut line = CommandLine::new("/usr/bin/env", none);
    line.env = vec![
        ("KINDLER_NAME".to_owned(), "dev".to_owned()),
        ("PGPASSWORD".to_owned(), "secret".to_owned()),
    ];
    // Cargo sets dozens of CARGO_* variables; one of them is passed by name.
    let mut runner = runner();
    runner.pass_env = vec!["CARGO_PKG_NAME".to_owned(), "DATABASE_URL".to_owned()];
    let cancel = CancellationToken::new();
    let finished = runner
        .run(&line, &LONG, unconditional_trust(), &cancel, None)
        .await
        .unwrap();
    let text = String::from_utf8(finished.stdout).unwrap();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|l| Some(l.split_once('=')?.0))
        .collect();
    for expected in ["PATH", "KINDLER_NAME", "KINDLER_RUN", "CARGO_PKG_NAME"] {
        assert!(
            names.contains(&expected),
            "{expected} is missing: {names:?}"
        );
    }
    for name in names {
        let listed = kindler::command::PASSED_ENV
            .iter()
            .any(|p| match p.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => *p == name,
            });
        assert!(
            listed || name.starts_with("KINDLER_") || name == "CARGO_PKG_NAME",
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_stdin_of_a_command_is_empty() {
    let finished = run(
        &sh("read x; echo \"$?,$x\"; readlink /proc/self/fd/0"),
        LONG,
    )
    .await
    .unwrap();
    assert_eq!(finished.stdout, b"1,\n/dev/null\n");
}

#[tokio::test]
async fn a_command_inherits_no_open_file() {
    // The tests may have inherited open files; only additional ones count.
    let script = "ls /proc/$$/fd";
    let bare = std::process::Command::new("/bin/sh")
        .args(["-c", script])
        .output()
        .unwrap();
    let guarded = run(&sh(script), LONG).await.unwrap();
    assert_eq!(
        String::from_utf8(guarded.stdout),
        String::from_utf8(bare.stdout)
    );
}

#[tokio::test]
async fn the_tail_has_lines_of_both_streams() {
    let finished = run(&sh("echo '[ERROR] port taken' >&2; echo done"), LONG)
        .await
        .unwrap();
    assert_eq!(finished.tail.len(), 2, "{:?}", finished.tail);
    for line in ["[ERROR] port taken", "done"] {
        assert!(
            finished.tail.contains(&line.to_owned()),
            "{:?}",
            finished.tail
        );
    }
    assert_eq!((finished.stdout_bytes, finished.stderr_bytes), (5, 19));
}

#[tokio::test]
async fn the_start_and_the_end_of_long_output_are_kept() {
    let script = "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done";
    let finished = run(&sh(script), LONG).await.unwrap();
    let last: Vec<String> = (30000 - TAIL_LINES..30000)
        .map(|n| format!("line {n}"))
        .collect();
    assert_eq!(finished.tail, last);
    assert_eq!(finished.stdout.len(), STDOUT_KEPT);
    assert!(finished.stdout.starts_with(b"line 0\nline 1\n"));
}

#[tokio::test]
async fn an_escaped_process_with_open_pipes_does_not_delay_the_end() {
    // Its guard is killed, it left the group and it cleared its environment: it has escaped.
    let token = Token::new();
    let sleep = &token.0;
    let line = sh(format!(
        "env -i setsid sh -c 'sleep {sleep} & exit' & \
         until pgrep -f '^sleep {sleep}' >/dev/null; do sleep 0.02; done; kill -9 $PPID; sleep 60"
    ));
    let finished = run(&line, LONG).await.unwrap();
    assert_eq!(finished.ending, Ending::Signaled(9));
    assert_eq!(token.sleepers().len(), 1, "the process must have escaped");
}

#[tokio::test]
async fn the_log_has_a_first_and_a_last_line_per_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let logs = LogDir::new(dir.path());
    let heading = Heading {
        operation: "create".to_owned(),
        attempt: 3,
        generation: 2,
        term: 17,
    };
    let cancel = CancellationToken::new();
    let (runner, trust) = (runner(), unconditional_trust);
    let lines = [
        sh("echo out; echo err >&2; printf cut; exit 4"),
        CommandLine::new("/gone", ["x"]),
    ];
    for line in &lines {
        let mut log = logs.log("dev", uuid::Uuid::from_u128(1), heading.clone());
        let _ = runner
            .run(line, &LONG, trust(), &cancel, Some(&mut log))
            .await;
        assert_eq!(log.failed_writes(), 0);
    }
    let text = fs::read_to_string(logs.path("dev")).unwrap();
    let count = |wanted: &str| text.lines().filter(|line| line.contains(wanted)).count();
    assert_eq!(
        count(
            "create attempt 3 generation 2 term 17 uid 00000000-0000-0000-0000-000000000001: /bin/sh -c"
        ),
        1,
        "{text}"
    );
    assert_eq!(count("create exited with code 4 after "), 1, "{text}");
    assert_eq!(
        count(
            "create attempt 3 generation 2 term 17 uid 00000000-0000-0000-0000-000000000001: /gone x"
        ),
        1,
        "{text}"
    );
    assert_eq!(
        count("create program /gone does not exist after "),
        1,
        "{text}"
    );
    let output: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("---"))
        .collect();
    assert!(
        ["out", "err", "cut"]
            .iter()
            .all(|line| output.contains(line)),
        "{text}"
    );
}
