//! The command line with pipes, completions and terminals.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::rig::{Fleet, Home, wait_for};
use crate::kit::Sql;

#[tokio::test]
async fn help_shows_every_command_and_the_exit_codes() {
    let home = Home::new();
    let help = home.run(&["--help"]).await.exits(0).out;
    for command in [
        "dev",
        "serve",
        "once",
        "migrate",
        "create",
        "delete",
        "list",
        "get",
        "retry",
        "pause",
        "resume",
        "start",
        "stop",
        "events",
        "logs",
        "status",
        "doctor",
        "token",
        "completions",
    ] {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command} in\n{help}"
        );
        home.run(&[command, "--help"]).await.exits(0);
    }
    assert!(
        help.contains("Exit codes: 0 done; 1 it failed; 2 bad input"),
        "{help}"
    );
    assert!(!help.contains("settings-table"), "{help}");
    home.run(&[]).await.exits(2).stderr_has("Usage: kindler");
    assert!(
        home.run(&["--version"])
            .await
            .exits(0)
            .out
            .starts_with("kindler 0.")
    );
}

#[tokio::test]
async fn a_closed_pipe_is_not_an_error() {
    let fleet = Fleet::new().await;
    fleet.database.declare_many("c-", 2000).await;
    for output in ["table", "json"] {
        let mut child = fleet.home.start(&["list", "-o", output]);
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first).await.unwrap();
        drop(stdout);
        let result = wait_for(child).await.exits(0);
        assert_eq!(result.err, "");
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error() {
    let home = Home::new();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = home.command(&["settings-table"]);
    let child = command.stdout(full).spawn().unwrap();
    wait_for(child)
        .await
        .exits(1)
        .stderr_has("error: the output cannot be written: ");
}

#[tokio::test]
async fn completions_parse() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&["completions", shell]).await.exits(0).out;
        assert!(
            script.contains("kindler") && script.contains("retry"),
            "{shell}"
        );
        let Ok(mut child) = Command::new(shell)
            .arg("-n")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
        else {
            assert_ne!(shell, "bash", "every machine has it");
            continue;
        };
        child
            .stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .await
            .unwrap();
        wait_for(child).await.exits(0);
    }
    home.run(&["completions", "tcsh"]).await.exits(2);
}

/// Runs a command on a new terminal; `None` if `script` is not installed.
async fn on_terminal(
    home: &Home,
    args: &str,
    env: &[(&str, &str)],
    answer: &str,
) -> Option<(i32, String)> {
    let line = format!("{} {args}", env!("CARGO_BIN_EXE_kindler"));
    let command = home.command(&[]);
    let envs: Vec<_> = command
        .as_std()
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    let mut script = Command::new("script");
    script
        .args(["-qefc", &line, "/dev/null"])
        .env_clear()
        .envs(envs)
        .envs(env.iter().copied())
        .current_dir(home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    drop(command);
    let mut child = script.spawn().ok()?;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(answer.as_bytes()).await.unwrap();
    let result = wait_for(child).await;
    Some((result.code, result.out))
}

#[tokio::test]
async fn colour_is_only_for_terminals() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    fleet.reached("demo", "running").await;
    let xterm = ("TERM", "xterm");
    for (args, env, coloured) in [
        ("list", vec![xterm], true),
        ("list", vec![xterm, ("NO_COLOR", "1")], false),
        ("list", vec![("TERM", "dumb")], false),
        ("get demo", vec![xterm], true),
        ("get demo", vec![xterm, ("NO_COLOR", "1")], false),
    ] {
        let Some((code, shown)) = on_terminal(&fleet.home, args, &env, "").await else {
            return;
        };
        assert_eq!(
            (code, shown.contains("\x1b[")),
            (0, coloured),
            "{env:?}: {shown:?}"
        );
    }
}

#[tokio::test]
async fn delete_asks_for_confirmation_on_a_terminal() {
    let fleet = Fleet::new().await;
    fleet.run(&["create", "demo"]).await.exits(0);
    let xterm = [("TERM", "xterm")];
    let Some((code, shown)) = on_terminal(&fleet.home, "delete demo", &xterm, "n\n").await else {
        return;
    };
    assert_eq!(code, 1, "{shown}");
    assert!(
        shown.contains("[y/N]") && shown.contains("is not deleted"),
        "{shown}"
    );
    assert_eq!(fleet.desired("demo").await, "present");
    on_terminal(&fleet.home, "delete demo", &xterm, "y\n").await;
    assert_eq!(fleet.desired("demo").await, "absent");
    fleet.run(&["start", "demo"]).await.exits(0);
    let (code, shown) = on_terminal(&fleet.home, "delete demo --yes", &xterm, "")
        .await
        .unwrap();
    assert_eq!((code, shown.contains("[y/N]")), (0, false));
}
