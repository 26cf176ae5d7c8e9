//! The commands and tools that the driver runs, on the daemon's `PATH`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::DoctorReport;
use crate::command::{CommandLimits, CommandLine, LogDir, Runner, unconditional_trust};
use crate::drivers::located_on;
use crate::drivers::script::{ScriptSettings, programs_on};
use crate::store::{ReplicaSettings, ReplicaStatus};

const GROUP: &str = "commands";

/// The tools and the arguments that make each say its version, and reach its engine.
const TOOLS: [(&str, &[&str]); 4] = [
    ("docker", &["version", "--format", "{{.Server.Version}}"]),
    ("kubectl", &["version", "--client"]),
    ("k3d", &["version"]),
    ("kind", &["version"]),
];

const LIMITS: CommandLimits = CommandLimits {
    deadline: Duration::from_secs(5),
    grace: Duration::from_secs(1),
};

/// Checks the commands and tools.
pub(super) async fn check(
    report: &mut DoctorReport,
    identity: &ReplicaSettings,
    daemon: Option<&ReplicaStatus>,
) {
    let driver = identity.value("driver");
    if driver == "sandbox" {
        report.fine(GROUP, "driver", "the sandbox runs no commands of the host");
        return;
    }
    let path = match (daemon, identity.value("PATH")) {
        (Some(_), of_daemon) if !of_daemon.is_empty() => {
            report.fine(GROUP, "PATH", format!("of the daemon: {of_daemon}"));
            OsString::from(of_daemon)
        }
        _ => {
            report.fine(GROUP, "PATH", "of this shell: no daemon runs on this host");
            env::var_os("PATH").unwrap_or_default()
        }
    };
    let missing = match driver {
        // It speaks to the engine itself.
        "native" => vec!["k3d", "kind"],
        _ => scripts(report, identity, &path),
    };
    for (tool, args) in TOOLS {
        match located_on(Path::new(tool), &path) {
            Some(program) => version(report, tool, program, args).await,
            None if missing.contains(&tool) => report.warn(
                GROUP,
                tool,
                "is not found in the PATH of the daemon; clusters that need it cannot be made or \
                 observed",
                "install it, or set the PATH of the daemon (Environment=PATH=… in the unit)",
            ),
            None => {}
        }
    }
}

/// Checks the commands of the script driver, and returns the tools that it needs and lacks.
fn scripts(
    report: &mut DoctorReport,
    identity: &ReplicaSettings,
    path: &OsStr,
) -> Vec<&'static str> {
    let settings = script_settings(identity);
    let (problems, missing) = programs_on(&settings, path);
    for problem in &problems {
        let next = if problem.ends_with("is not executable") {
            "chmod +x the file, then `kindler retry NAME`"
        } else if problem.contains("interpreter") {
            "correct the first line of the file, such as #!/bin/bash, then `kindler retry NAME`"
        } else {
            "correct the setting and restart the daemon"
        };
        report.fail(GROUP, "script", problem.clone(), next);
    }
    if problems.is_empty() {
        report.fine(GROUP, "scripts", "the configured commands can be started");
    }
    missing
}

/// Runs a tool, which shows whether it and its engine answer.
async fn version(report: &mut DoctorReport, tool: &str, program: PathBuf, args: &[&str]) {
    let line = CommandLine::new(program, args.iter().copied());
    let never_cancelled = CancellationToken::new();
    let ran = Runner::default()
        .run(
            &line,
            &LIMITS,
            unconditional_trust(),
            &never_cancelled,
            None,
        )
        .await;
    let next = match tool {
        "docker" => {
            "start the container engine (systemctl start docker), and let the daemon's user use it"
        }
        _ => "run it by hand as the daemon's user",
    };
    match ran {
        Ok(done) if done.ending.is_clean() => {
            let said = String::from_utf8_lossy(&done.stdout).into_owned();
            report.fine(GROUP, tool, said.lines().next().unwrap_or_default());
        }
        Ok(done) => {
            let said = done.tail.last().cloned().unwrap_or_default();
            report.warn(GROUP, tool, format!("{line} {}: {said}", done.ending), next);
        }
        Err(error) => report.warn(GROUP, tool, error.to_string(), next),
    }
}

fn script_settings(identity: &ReplicaSettings) -> ScriptSettings {
    let program = |name: &str| {
        let value = identity.value(name);
        (!value.is_empty()).then(|| PathBuf::from(value))
    };
    ScriptSettings {
        create: program("create_command"),
        delete: program("delete_command"),
        probe: program("probe_command"),
        exists: program("exists_command"),
        start: program("start_command"),
        stop: program("stop_command"),
        ..ScriptSettings::new(LogDir::new(identity.value("state_dir")))
    }
}
