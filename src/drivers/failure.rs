//! Describes failed commands: which command, how it ended, its last lines, the path of the log.
//! This module must not observe the cluster, and decides about retries only by the error variant.

use std::error::Error;
use std::path::Path;

use crate::command::{CommandLine, CommandLog, Ending, FinishedCommand, SpawnError};
use crate::duration::compact;

use super::StepError;

/// The limit of a command's last lines in the row's error, in bytes.
const LAST_LINES_BYTES: usize = 1600;

/// The result of an action's command. `remedy`: what a person can do if it cannot start;
/// `deadline`: its setting and value.
pub(super) fn action_result(
    line: &CommandLine,
    remedy: impl Fn(&SpawnError) -> String,
    ran: Result<FinishedCommand, SpawnError>,
    log: &CommandLog,
    deadline: &str,
) -> Result<(), StepError> {
    let finished = match ran {
        Ok(finished) => finished,
        Err(error) => return Err(not_started(&error, remedy(&error))),
    };
    match finished.ending {
        Ending::TrustLost => return Err(StepError::Interrupted),
        // Surviving processes could disturb the next command, so this is always a failure.
        _ if !finished.survivors.is_empty() => {}
        Ending::Exited(0) => return Ok(()),
        Ending::Cancelled => return Err(StepError::Interrupted),
        Ending::Exited(_) | Ending::Signaled(_) | Ending::DeadlineExceeded => {}
    }
    let mut summary = summary_of(line, &finished);
    if finished.ending == Ending::DeadlineExceeded {
        summary.push_str(&format!(" ({deadline})"));
    }
    if !finished.survivors.is_empty() {
        summary.push_str(&format!(
            ", but SIGKILL did not end its processes {:?}",
            finished.survivors
        ));
    }
    let detail = detail(&finished.tail, log);
    Err(match finished.ending {
        Ending::DeadlineExceeded => StepError::Late { summary, detail },
        _ => StepError::Transient { summary, detail },
    })
}

/// The last lines of output, and the path of the log.
fn detail(tail: &[String], log: &CommandLog) -> String {
    let mut detail = last_lines(tail);
    if !detail.is_empty() {
        detail.push('\n');
    }
    let incomplete = match log.failed_writes() {
        0 => "",
        _ => " (incomplete: it could not be written)",
    };
    detail.push_str(&format!("log: {}{incomplete}", log.path().display()));
    detail
}

/// As many of the last lines as fit. The last line usually has the error, so it is always kept,
/// truncated if necessary.
fn last_lines(tail: &[String]) -> String {
    let mut room = LAST_LINES_BYTES;
    let mut lines: Vec<&str> = Vec::new();
    for line in tail.iter().rev() {
        if line.len() >= room {
            if lines.is_empty() {
                let whole_chars = (0..=room).rev().find(|at| line.is_char_boundary(*at));
                lines.push(&line[..whole_chars.unwrap_or(0)]);
            }
            break;
        }
        room -= line.len() + 1;
        lines.push(line);
    }
    lines.reverse();
    lines.join("\n")
}

/// The error of a command that could not start. A missing program needs a person; a system that
/// cannot start processes may recover.
fn not_started(error: &SpawnError, remedy: String) -> StepError {
    let summary = match error {
        SpawnError::ProgramMissing { .. }
        | SpawnError::NotExecutable { .. }
        | SpawnError::NoFormat { .. }
        | SpawnError::InterpreterMissing { .. } => format!("{error}: {remedy}"),
        _ => error.to_string(),
    };
    let cause = error.source().map(ToString::to_string);
    match error {
        SpawnError::ProgramMissing { .. }
        | SpawnError::NotExecutable { .. }
        | SpawnError::NoFormat { .. }
        | SpawnError::InterpreterMissing { .. } => StepError::Permanent {
            summary,
            detail: remedy,
        },
        SpawnError::Start { .. }
        | SpawnError::Guard { .. }
        | SpawnError::GuardSilent { .. }
        | SpawnError::StateFolder { .. } => StepError::Transient {
            summary,
            detail: cause.unwrap_or_default(),
        },
    }
}

/// `create_env.sh exited with code 3 after 12s`.
pub(super) fn summary_of(line: &CommandLine, finished: &FinishedCommand) -> String {
    let name = line.program.file_name().map(Path::new);
    format!(
        "{} {} after {}",
        name.unwrap_or(&line.program).display(),
        finished.ending,
        compact(finished.duration)
    )
}

#[cfg(test)]
mod tests {
    use super::{LAST_LINES_BYTES, last_lines};

    #[test]
    fn the_last_lines_are_bounded_and_keep_the_last_one() {
        let lines: Vec<String> = (0..20)
            .map(|n| format!("{n} {}", "é".repeat(200)))
            .collect();
        let last = last_lines(&lines);
        assert!(last.len() <= LAST_LINES_BYTES);
        assert!(last.ends_with(&lines[19]) && last.contains(&lines[18]));
        assert!(!last.contains(&lines[0]));
        let long = ["before".to_owned(), "é".repeat(LAST_LINES_BYTES)];
        let bounds = LAST_LINES_BYTES - 1..=LAST_LINES_BYTES;
        assert!(bounds.contains(&last_lines(&long).len()));
        assert_eq!(last_lines(&[]), "");
    }
}
