//! What docs/OPERATIONS.md gives people to type, typed.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use super::{containers, printed, read, repository, tool_if_there};
use crate::kit::{Host, KINDLER, migrated};

fn page() -> String {
    read(repository("docs/OPERATIONS.md"))
}

/// The crontab that is shown: its variables, and what its one job runs.
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
async fn the_cron_line_makes_a_pass_where_cron_sets_almost_nothing() {
    let (variables, job) = crontab();
    // Where install.sh and the package put kindler, and people put k3d and kind.
    let path = variables.get("PATH").expect("cron's own PATH is too short");
    for folder in ["/usr/local/bin", "/usr/bin", "/bin"] {
        assert!(path.split(':').any(|one| one == folder), "{folder}: {path}");
    }
    // cron ends the command at one of these.
    assert!(!job.contains('%'), "{job}");
    if tool_if_there("flock").is_none() || tool_if_there("logger").is_none() {
        return;
    }
    let (database, host) = (migrated().await, Host::new());
    database
        .execute("INSERT INTO clusters (name, provider) VALUES ('by-cron', 'kind')")
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

/// Slim images lack most of what one is used to; a page that is read at night
/// must not name it.
#[test]
fn what_is_run_inside_a_container_is_in_its_image() {
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

/// Without it systemd signals the whole unit, and a signal that is for the daemon
/// ends the commands that it runs.
#[test]
fn a_signal_is_for_the_daemon_alone() {
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
