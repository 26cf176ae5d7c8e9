//! Shows the steps of a cluster as a table.

use comfy_table::Color;
use jiff::Timestamp;
use std::time::Duration;

use crate::core::steps::{INTERRUPTED, StepRecord, StepState, VERIFIED};

use super::screen::Screen;
use super::table::{Column, Field, render};
use super::text;

const fn column(title: &'static str, keep: u8) -> Column {
    Column {
        title,
        keep,
        text: false,
    }
}

const COLUMNS: [Column; 6] = [
    column("STEP", u8::MAX),
    column("STATE", u8::MAX),
    column("ATTEMPT", 1),
    column("DURATION", 2),
    Column {
        title: "MESSAGE",
        keep: 4,
        text: true,
    },
    column("NEXT", 3),
];

/// The table, fitted to the screen.
pub(super) fn table(steps: &[StepRecord], screen: &Screen, now: Timestamp) -> String {
    let rows: Vec<_> = steps.iter().map(|step| fields(step, now)).collect();
    render(&COLUMNS, &rows, screen)
}

fn fields(step: &StepRecord, now: Timestamp) -> Vec<Field> {
    let next = step.next_try_at.filter(|_| step.state == StepState::Failed);
    vec![
        Field::new(text::line(&step.name)),
        Field::new(state(step)).coloured(colour(step)),
        Field::new(step.attempt.to_string()),
        Field::new(took(step, now)),
        Field::new(why(step)),
        Field::new(next.map(|at| text::until(at, now)).unwrap_or_default()),
    ]
}

/// The state. A failed best-effort step is marked, as it does not fail the cluster.
fn state(step: &StepRecord) -> String {
    match (step.state, step.required) {
        (StepState::Failed, false) => "failed (best effort)".to_owned(),
        (state, _) => state.to_string(),
    }
}

fn colour(step: &StepRecord) -> Option<Color> {
    match step.state {
        StepState::Done => Some(Color::Green),
        StepState::Running | StepState::Removing => Some(Color::Yellow),
        StepState::Failed if step.required => Some(Color::Red),
        StepState::Failed => Some(Color::Yellow),
        StepState::Pending | StepState::Skipped | StepState::Removed => None,
    }
}

/// The duration of the last attempt, so far if it runs. None where the record does not
/// say when an attempt ended: the step was found in place, or interrupted.
fn took(step: &StepRecord, now: Timestamp) -> String {
    let unmeasured = [VERIFIED, INTERRUPTED].map(Some);
    let Some(from) = step
        .started_at
        .filter(|_| !unmeasured.contains(&step.reason.as_deref()))
    else {
        return String::new();
    };
    let to = match step.state {
        StepState::Running | StepState::Removing => now,
        _ => match step.finished_at {
            Some(finished) => finished,
            None => return String::new(),
        },
    };
    let took = Duration::try_from(to.duration_since(from)).unwrap_or_default();
    match took.as_secs() {
        0 => format!("{:.1}s", took.as_secs_f64()),
        _ => text::span(took),
    }
}

/// The message; after a failure with the reason.
fn why(step: &StepRecord) -> String {
    let message = step.message.as_deref().map(text::line).unwrap_or_default();
    let reason = step.reason.as_deref().map(text::line).unwrap_or_default();
    match step.state {
        StepState::Failed if !reason.is_empty() && !message.is_empty() => {
            format!("{reason}: {message}")
        }
        _ if message.is_empty() => reason,
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_shows_state_time_and_reason() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let done = StepRecord {
            driver: "sandbox".into(),
            name: "folder".into(),
            position: 1,
            total: 2,
            version: 1,
            required: true,
            state: StepState::Done,
            attempt: 1,
            reason: Some("Applied".into()),
            message: Some("applied in 3.0 s".into()),
            input_hash: None,
            started_at: Some(at(0)),
            finished_at: Some(at(3)),
            next_try_at: None,
        };
        let failed = StepRecord {
            name: "about".into(),
            required: false,
            state: StepState::Failed,
            attempt: 2,
            reason: Some("Failed".into()),
            message: Some("\x1b[2Jdisk full".into()),
            next_try_at: Some(at(40)),
            ..done.clone()
        };
        let running = StepRecord {
            state: StepState::Running,
            message: Some("begun".into()),
            finished_at: None,
            ..done.clone()
        };
        let texts = |step: &StepRecord| {
            let took = took(step, at(10));
            (state(step), took, why(step))
        };
        let expected = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(texts(&done), expected("done", "3s", "applied in 3.0 s"));
        assert_eq!(texts(&running), expected("running", "10s", "begun"));
        assert_eq!(
            texts(&failed),
            expected("failed (best effort)", "3s", "Failed: disk full")
        );
    }
}
