//! The commands of docs/OPERATIONS.md work.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use super::{containers, printed, read, repository, tool};
use crate::kit::{Host, KINDLER, Sql, migrated};

fn page() -> String {
    read(repository("docs/OPERATIONS.md"))
}

/// The crontab in the documentation: its variables and the command of its only job.
fn crontab() -> (BTreeMap<String, String>, String) {
    let text = page();
    let (_, rest) = text.split_once("```cron\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    let mut variables = BTreeMap::new();
    let mut job = None;
    for line in block.lines() {
        match line.strip_prefix("* * * * * ") {
            Some(command) => assert!(job.replace(command.to_owned()).is_none()),
            None => {
                let (name, value) = line.split_once('=').unwrap();
                variables.insert(name.to_owned(), value.to_owned());
            }
        }
    }
    (variables, job.expect("a job"))
}

#[tokio::test]
async fn the_cron_line_works_in_crons_environment() {
    let (variables, job) = crontab();
    // The folders of kindler, k3d and kind.
    let path = variables.get("PATH").expect("cron's own PATH is too short");
    for folder in ["/usr/local/bin", "/usr/bin", "/bin"] {
        assert!(path.split(':').any(|one| one == folder), "{folder}: {path}");
    }
    // cron ends the command at a percent sign.
    assert!(!job.contains('%'), "{job}");
    if tool("flock").is_none() || tool("logger").is_none() {
        return;
    }
    let (database, host) = (migrated().await, Host::new());
    database
        .run("INSERT INTO clusters (name, provider) VALUES ('by-cron', 'kind')")
        .await;
    let home = host.path();
    fs::write(home.join(".kindler-url"), database.url()).unwrap();
    let mut settings = format!("state_dir = {:?}\n", host.state_dir());
    for verb in ["create", "delete", "probe", "exists", "start", "stop"] {
        settings += &format!("{verb}_command = {:?}\n", host.command(verb));
    }
    fs::create_dir_all(home.join(".config/kindler")).unwrap();
    fs::write(home.join(".config/kindler/kindler.toml"), settings).unwrap();
    let ran = Command::new("/bin/sh")
        .arg("-c")
        .arg(job.replace(" kindler once", &format!(" {KINDLER} once")))
        .env_clear()
        .envs(variables)
        .env("HOME", home)
        .env("SHELL", "/bin/sh")
        .current_dir(home)
        .output()
        .unwrap();
    let state = "SELECT actual_state FROM clusters WHERE name = 'by-cron'";
    let state: String = database.value(state).await;
    assert_eq!(state, "running", "{job}: {}", printed(&ran));
}

/// Slim images lack common programs, so the documentation must not use them there.
#[test]
fn programs_run_in_a_container_are_in_its_image() {
    let text = page();
    let runs: Vec<_> = text.split("kubectl exec ").skip(1).collect();
    assert!(!runs.is_empty());
    for rest in runs {
        let (target, command) = rest.split_once(" -- ").expect("target and command");
        assert_eq!(target, "deploy/kindler-daemon");
        let program = command.split(' ').next().unwrap();
        assert!(
            containers::daemon_programs()
                .iter()
                .any(|one| one == program),
            "{program} is not in the image of the daemon"
        );
    }
}

/// Without this option systemd signals the whole unit, and a signal for the daemon ends
/// its running commands.
#[test]
fn systemctl_kill_signals_only_the_daemon() {
    let text = page();
    let kills: Vec<_> = text.split("systemctl kill ").skip(1).collect();
    assert!(!kills.is_empty());
    for rest in kills {
        let command = rest.split('`').next().unwrap();
        assert!(
            command.starts_with("--kill-whom=main "),
            "systemctl kill {command}"
        );
    }
}
