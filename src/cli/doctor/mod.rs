//! `kindler doctor`: checks everything that Kindler needs, on this host and in its database, and
//! says of each problem what to do. It changes nothing.

mod commands;
mod database;
mod host;

use std::fmt::Write;

use serde::Serialize;

use super::args::Output;
use super::error::CliError;
use super::outcome::Exit;
use super::screen::{Screen, write_json, write_out};
use super::text;
use crate::config::{self, Connection, ConnectionArgs, DEFAULT, HEARTBEAT};
use crate::findings::{Finding, Severity};
use crate::store::{ReplicaSettings, ReplicaStatus};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum CheckState {
    Fine,
    Warning,
    Failure,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
struct Check {
    group: &'static str,
    name: String,
    state: CheckState,
    found: String,
    next: Option<String>,
}

/// The report; its fields are the JSON output.
#[derive(Debug, Default, Serialize)]
struct DoctorReport {
    ok: bool,
    checks: Vec<Check>,
}

impl DoctorReport {
    fn fine(&mut self, group: &'static str, name: &str, found: impl Into<String>) {
        self.add(group, name, CheckState::Fine, found.into(), None);
    }

    fn warn(
        &mut self,
        group: &'static str,
        name: &str,
        found: impl Into<String>,
        next: impl Into<String>,
    ) {
        let (found, next) = (found.into(), next.into());
        self.add(group, name, CheckState::Warning, found, Some(next));
    }

    fn fail(
        &mut self,
        group: &'static str,
        name: &str,
        found: impl Into<String>,
        next: impl Into<String>,
    ) {
        let (found, next) = (found.into(), next.into());
        self.add(group, name, CheckState::Failure, found, Some(next));
    }

    fn finding(&mut self, group: &'static str, finding: &Finding) {
        let state = match finding.severity {
            Severity::Warning => CheckState::Warning,
            Severity::Failure => CheckState::Failure,
        };
        let (what, next) = (finding.what.clone(), finding.next.clone());
        self.add(group, &finding.code.to_string(), state, what, Some(next));
    }

    fn add(
        &mut self,
        group: &'static str,
        name: &str,
        state: CheckState,
        found: String,
        next: Option<String>,
    ) {
        self.checks.push(Check {
            group,
            name: name.to_owned(),
            state,
            found,
            next,
        });
    }

    fn worst(&self) -> CheckState {
        let states = self.checks.iter().map(|check| check.state);
        states.max().unwrap_or(CheckState::Fine)
    }

    fn text(&self, screen: &Screen) -> String {
        let mut out = String::new();
        let mut group = "";
        for check in &self.checks {
            if check.group != group {
                group = check.group;
                let _ = writeln!(out, "{group}");
            }
            let (mark, colour) = match check.state {
                CheckState::Fine => ("ok", "32"),
                CheckState::Warning => ("warning", "33"),
                CheckState::Failure => ("FAILURE", "31"),
            };
            let mark = match screen.colour {
                true => format!("\x1b[{colour}m{mark:<8}\x1b[0m"),
                false => format!("{mark:<8}"),
            };
            let (name, found) = (text::line(&check.name), text::line(&check.found));
            let _ = writeln!(out, "  {mark} {name:<22} {found}");
            if let Some(next) = &check.next {
                let _ = writeln!(out, "  {:<8} {:<22} next: {}", "", "", text::line(next));
            }
        }
        let count = |state| self.checks.iter().filter(|one| one.state == state).count();
        let (failures, warnings) = (count(CheckState::Failure), count(CheckState::Warning));
        let _ = writeln!(out, "{failures} failures, {warnings} warnings");
        out
    }
}

/// Checks everything and shows the report.
pub(super) async fn doctor(
    args: &ConnectionArgs,
    screen: &Screen,
    output: Output,
) -> Result<Exit, CliError> {
    let mut report = DoctorReport::default();
    let connection = match Connection::found(args) {
        Ok(connection) => connection,
        Err(error) => {
            let hint = error.hint().unwrap_or_default();
            report.fail("settings", "database_url", error.to_string(), hint);
            Connection::given(args)
        }
    };
    let replicas = database::check(&mut report, &connection).await;
    // The daemon of this host, or what a daemon that is started in this shell would be.
    let here = host::name();
    let daemon = replicas
        .iter()
        .find(|one| one.host == here && one.alive(HEARTBEAT) && !one.identity.settings.is_empty());
    let identity = settings(&mut report, daemon);
    host::check(&mut report, &identity, &connection).await;
    commands::check(&mut report, &identity, daemon).await;
    report.ok = report.worst() == CheckState::Fine;
    match output {
        Output::Json => write_json(&report)?,
        Output::Text => write_out(&report.text(screen))?,
    };
    Ok(match report.worst() {
        CheckState::Fine => Exit::Done,
        CheckState::Warning => Exit::Failed,
        CheckState::Failure => Exit::BadInput,
    })
}

/// The settings that are not defaults, and where each comes from.
fn settings(report: &mut DoctorReport, daemon: Option<&ReplicaStatus>) -> ReplicaSettings {
    const GROUP: &str = "settings";
    let identity = match daemon {
        Some(daemon) => {
            let whose = format!("of the daemon with pid {} on this host", daemon.pid);
            report.fine(GROUP, "read", whose);
            daemon.identity.clone()
        }
        None => {
            let args: Vec<_> = std::env::args_os().collect();
            match config::explained(&args) {
                Ok(settings) => {
                    let whose = "of this shell: no daemon runs on this host";
                    report.fine(GROUP, "read", whose);
                    ReplicaSettings {
                        settings,
                        ..ReplicaSettings::default()
                    }
                }
                Err(error) => {
                    let hint = error.hint().unwrap_or_default();
                    report.fail(GROUP, "read", error.to_string(), hint);
                    ReplicaSettings::default()
                }
            }
        }
    };
    for (name, setting) in &identity.settings {
        if setting.from != DEFAULT && name != "PATH" {
            let found = format!("{} ({})", setting.value, setting.from);
            report.fine(GROUP, name, found);
        }
    }
    let all = identity.settings.values();
    let defaults = all.filter(|setting| setting.from == DEFAULT).count();
    report.fine(GROUP, "others", format!("{defaults} have their defaults"));
    identity
}
