//! What a run notes of its steps, to be written with the next statement.

use super::record::{GIVEN_UP, REMOVAL_FAILED, Requirement, StepChange, StepState, VERIFIED};
use super::run::{Direction, Run};
use super::step::StepError;

/// A best-effort removal that failed so often is given up, visibly: the row goes.
const GIVE_UP_AFTER: u32 = 3;

impl Run<'_> {
    pub(super) fn start(&mut self, index: usize) {
        self.note(index, self.direction.begun(), "Started", "begun");
        self.begun = Some(index);
    }

    /// Notes that a step is in place although it is not recorded so: no attempt more.
    pub(super) fn confirm(&mut self, index: usize) {
        self.note(index, StepState::Done, VERIFIED, "it is in place");
        let attempt = self.record(index).map_or(1, |record| record.attempt.max(1));
        if let Some(change) = self.changes.last_mut() {
            change.attempt = attempt;
        }
    }

    /// Notes a failure: it ends the run if the whole needs the step, or if the
    /// step is to be removed and is not given up yet.
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
            // Of one step the name would say nothing.
            self.failure = Some(if self.facts.len() > 1 {
                error.in_step(self.facts[index].name)
            } else {
                error
            });
        }
    }

    /// Notes what is to be written of a step; its last word counts.
    pub(super) fn note(&mut self, index: usize, state: StepState, reason: &str, message: &str) {
        let facts = &self.facts[index];
        let whole = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let change = StepChange {
            driver: self.set.driver.to_owned(),
            name: facts.name.to_owned(),
            position: whole(index + 1),
            total: whole(self.facts.len()),
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

    /// Which attempt in a row this is, from 1. Attempts at another input do not
    /// count, nor do attempts to apply for a removal, or the other way round.
    fn attempt_number(&self, index: usize) -> u32 {
        let Some(record) = self.record(index) else {
            return 1;
        };
        let removal = matches!(record.reason.as_deref(), Some(REMOVAL_FAILED | GIVEN_UP));
        let removing = record.state == StepState::Removing || removal;
        let goes_on = match self.direction {
            Direction::Forward(_) => {
                matches!(record.state, StepState::Running | StepState::Failed) && !removing
            }
            Direction::Backward => removing,
        };
        if goes_on && record.input_hash.as_ref() == Some(&self.facts[index].input_hash) {
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
