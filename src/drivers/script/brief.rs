//! Describes an observation that failed, in one line.

use std::error::Error;

use crate::command::{CommandLine, Ending, FinishedCommand, SpawnError};

use super::super::failure::summary_of;
use super::calls::Call;
use super::unusable;

/// The limit of the line, in characters.
const BRIEF_CHARS: usize = 240;

/// One line for an observation whose command could not start.
pub(super) fn not_observed(call: &Call, error: &SpawnError) -> String {
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        text.push_str(&format!(" ({source})"));
    }
    format!("{text}: {}", call.remedy(error))
}

/// One short line: which command, how it ended, and its last line.
pub(super) fn brief(line: &CommandLine, finished: &FinishedCommand) -> String {
    let mut text = summary_of(line, finished);
    if finished.ending == Ending::DeadlineExceeded {
        text.push_str(" (KINDLER_PROBE_DEADLINE)");
    }
    if let Some(last) = finished.tail.last() {
        text.push_str(": ");
        text.push_str(last);
    }
    text.chars().take(BRIEF_CHARS).collect()
}

/// One line for an observation whose command could not do its work, for this reason.
pub(super) fn could_not_work(line: &CommandLine, finished: &FinishedCommand, why: &str) -> String {
    let why: String = why.chars().take(BRIEF_CHARS).collect();
    let (summary, next) = (summary_of(line, finished), unusable::NEXT);
    format!("{summary}, because it could not run: {why}; {next}")
}
