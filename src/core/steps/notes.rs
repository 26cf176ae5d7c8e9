//! The changes of a run that are written with its next statement.

use super::record::{GIVEN_UP, REMOVAL_FAILED, Requirement, StepChange, StepState, VERIFIED};
use super::run::{Direction, Run};
use super::step::StepError;

/// Number of failures after which a best-effort removal is given up, with an event, and the row is
/// removed.
const GIVE_UP_AFTER: u32 = 3;

impl Run<'_> {
    pub(super) fn start(&mut self, index: usize) {
        self.note(index, self.direction.started(), "Started", "started");
        self.started = Some(index);
    }

    /// Notes that a step is in place but not recorded so. This counts no attempt.
    pub(super) fn confirm(&mut self, index: usize) {
        self.note(index, StepState::Done, VERIFIED, "in place");
        let attempt = self.record(index).map_or(1, |record| record.attempt.max(1));
        if let Some(change) = self.changes.last_mut() {
            change.attempt = attempt;
        }
    }

    /// Notes a failure. It ends the run if the step is required, or if its removal is not
    /// given up yet.
    pub(super) fn failed(&mut self, index: usize, error: StepError) {
        let attempt = self.attempt_number(index);
        let best_effort = self.facts[index].requirement == Requirement::BestEffort;
        let backward = self.direction == Direction::Backward;
        let given_up = best_effort && backward && attempt >= GIVE_UP_AFTER;
        let (reason, message) = if given_up {
            let message =
                format!("given up after {attempt} attempts, something may be left: {error}");
            (GIVEN_UP, message)
        } else if backward {
            (REMOVAL_FAILED, error.to_string())
        } else {
            (error.reason(), error.to_string())
        };
        self.note(index, StepState::Failed, reason, &message);
        if best_effort && !backward {
            let jitter = fastrand::f64();
            let delay = match error {
                StepError::Permanent { .. } => self.backoff.longest(jitter),
                _ => self.backoff.delay(attempt, jitter),
            };
            if let Some(change) = self.changes.last_mut() {
                change.next_try_seconds = Some(delay.as_secs_f64());
            }
        }
        let tolerated = best_effort && !backward || given_up;
        if !tolerated && self.failure.is_none() {
            // The name of an only step says nothing.
            self.failure = Some(if self.facts.len() > 1 {
                error.in_step(self.facts[index].name)
            } else {
                error
            });
        }
    }

    /// Notes a change of a step; it replaces an earlier one of the same step.
    pub(super) fn note(&mut self, index: usize, state: StepState, reason: &str, message: &str) {
        let facts = &self.facts[index];
        let signed = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let change = StepChange {
            driver: self.set.driver.to_owned(),
            name: facts.name.to_owned(),
            position: signed(index + 1),
            total: signed(self.facts.len()),
            version: facts.version,
            required: facts.requirement == Requirement::Required,
            state,
            attempt: self.attempt_number(index),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            input_hash: Some(facts.input_hash.clone()),
            next_try_seconds: None,
        };
        self.changes.retain(|noted| noted.name != change.name);
        self.changes.push(change);
    }

    /// The number of this attempt in a row, from 1. Attempts with another input do not
    /// count, and attempts to apply and to remove are counted apart.
    fn attempt_number(&self, index: usize) -> u32 {
        let Some(record) = self.record(index) else {
            return 1;
        };
        let removal = matches!(record.reason.as_deref(), Some(REMOVAL_FAILED | GIVEN_UP));
        let removing = record.state == StepState::Removing || removal;
        let continues = match self.direction {
            Direction::Forward(_) => {
                matches!(record.state, StepState::Running | StepState::Failed) && !removing
            }
            Direction::Backward => removing,
        };
        if continues && record.input_hash.as_ref() == Some(&self.facts[index].input_hash) {
            // The column is a Postgres integer.
            record
                .attempt
                .saturating_add(1)
                .min(i32::MAX.unsigned_abs())
        } else {
            1
        }
    }

    pub(super) fn message(&self, index: usize) -> String {
        let of = self.facts.len();
        format!("step {} of {of}: {}", index + 1, self.facts[index].name)
    }
}
