//! Tells a person how a command ended badly: which one, how, its last words, where to read on.
//! This module must not look at the cluster, and must not decide about retries beyond the type.

use std::error::Error;
use std::path::Path;

use crate::command::{CommandLine, CommandLog, Ending, FinishedCommand, SpawnError};
use crate::duration::compact;

use super::StepError;
use super::calls::Call;

/// The bound on the last words of a command in the row's error, in bytes.
const WORDS_BYTES: usize = 1600;
/// The bound on the one line that explains a failed look, in characters.
const BRIEF_CHARS: usize = 240;

/// What the end of an action's command means for its caller.
pub(super) fn judge(
    call: &Call,
    ran: Result<FinishedCommand, SpawnError>,
    log: &CommandLog,
) -> Result<(), StepError> {
    let finished = match ran {
        Ok(finished) => finished,
        Err(error) => return Err(not_started(call, &error)),
    };
    match finished.ending {
        Ending::TrustLost => return Err(StepError::Interrupted),
        // What still runs could meet the next command; that is a failure whatever came before.
        _ if !finished.survivors.is_empty() => {}
        Ending::Exited(0) => return Ok(()),
        Ending::Cancelled => return Err(StepError::Interrupted),
        Ending::Exited(_) | Ending::Signaled(_) | Ending::DeadlineExceeded => {}
    }
    let mut summary = how(&call.line, &finished);
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

/// The last lines, and where the rest is.
fn detail(tail: &[String], log: &CommandLog) -> String {
    let mut detail = last_words(tail);
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

/// As many of the last lines as fit. The one that explains is most often the very last, so that
/// one is kept in any case, cut if need be.
fn last_words(tail: &[String]) -> String {
    let mut room = WORDS_BYTES;
    let mut words: Vec<&str> = Vec::new();
    for line in tail.iter().rev() {
        if line.len() >= room {
            if words.is_empty() {
                let whole_chars = (0..=room).rev().find(|at| line.is_char_boundary(*at));
                words.push(&line[..whole_chars.unwrap_or(0)]);
            }
            break;
        }
        room -= line.len() + 1;
        words.push(line);
    }
    words.reverse();
    words.join("\n")
}

/// A program that is not there, or is none, stays so until a person acts; a system that cannot
/// start processes may recover.
fn not_started(call: &Call, error: &SpawnError) -> StepError {
    let summary = error.to_string();
    let because = error.source().map(ToString::to_string);
    match error {
        SpawnError::ProgramMissing { .. }
        | SpawnError::NotExecutable { .. }
        | SpawnError::InterpreterMissing { .. } => StepError::Permanent {
            summary,
            detail: call.remedy(),
        },
        SpawnError::Start { .. } | SpawnError::Guard { .. } | SpawnError::GuardSilent { .. } => {
            StepError::Transient {
                summary,
                detail: because.unwrap_or_default(),
            }
        }
    }
}

/// One line for a question that could not be asked.
pub(super) fn unstartable(call: &Call, error: &SpawnError) -> String {
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        text.push_str(&format!(" ({source})"));
    }
    format!("{text}: {}", call.remedy())
}

/// One short line: which command, how it ended, and its last word.
pub(super) fn brief(line: &CommandLine, finished: &FinishedCommand) -> String {
    let mut text = how(line, finished);
    if let Some(last) = finished.tail.last() {
        text.push_str(": ");
        text.push_str(last);
    }
    text.chars().take(BRIEF_CHARS).collect()
}

/// `create_env.sh exited with code 3 after 12s`.
fn how(line: &CommandLine, finished: &FinishedCommand) -> String {
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
    use super::{WORDS_BYTES, last_words};

    #[test]
    fn the_last_words_are_bounded_and_end_with_the_last_line() {
        let lines: Vec<String> = (0..20)
            .map(|n| format!("{n} {}", "é".repeat(200)))
            .collect();
        let words = last_words(&lines);
        assert!(words.len() <= WORDS_BYTES);
        assert!(words.ends_with(&lines[19]) && words.contains(&lines[18]));
        assert!(!words.contains(&lines[0]));
        let long = ["before".to_owned(), "é".repeat(WORDS_BYTES)];
        assert!((WORDS_BYTES - 1..=WORDS_BYTES).contains(&last_words(&long).len()));
        assert_eq!(last_words(&[]), "");
    }
}
