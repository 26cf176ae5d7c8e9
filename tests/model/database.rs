//! The effect of each statement in `sql/core`, and whether it was correct.
//!
//! A defect changes the effect, never the check: a statement that should have been
//! rejected is noted as a violation.

use kindler::clusters::plan::Action;
use kindler::clusters::{Actual, Desired};
use kindler::core::steps::Requirement;

use crate::decisions::{self, Basis, Decided, Steps};
use crate::host::Condition;
use crate::row::Row;
use crate::rules::{Defect, LEASE, Rules};
use crate::run::applied;
use crate::state::{Lease, State, Statement, StepWrite, Violation};
use crate::steps::{self, Record, Records};

/// The answer of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The term that a claim won.
    Claimed(Option<u8>),
    /// The row under the lease, or after a write; none if the statement was rejected.
    Row(Option<Row>),
    Removed(bool),
    Released,
    /// Whether the work may go on; none if the statement was rejected.
    Advanced(Option<bool>),
}

impl Rules {
    /// The steps that a decision takes into account.
    pub fn steps(&self, records: Records) -> Steps {
        Steps {
            layout: self.layout,
            records,
            ignores_leftovers: self.has(Defect::RemovalIgnoresSteps),
            ignores_failures: self.has(Defect::FailedStepIgnored),
        }
    }
}

impl State {
    pub fn execute(&mut self, statement: Statement, rules: &Rules) -> Answer {
        match statement {
            Statement::Claim(read) => Answer::Claimed(self.claim(&read, rules)),
            Statement::Renew(term) => Answer::Row(self.renew(term)),
            Statement::Write(term, decided_on, basis, steps) => {
                Answer::Row(self.write_status(term, &decided_on, basis, steps, rules))
            }
            Statement::Advance(term, decided_on, steps) => {
                Answer::Advanced(self.advance(term, &decided_on, steps, rules))
            }
            Statement::Remove(term, decided_on) => {
                Answer::Removed(self.remove(term, &decided_on, rules))
            }
            Statement::Release(term) => {
                if self.holds(term) || rules.has(Defect::ReleaseIgnoresTerm) {
                    self.lease = None;
                }
                Answer::Released
            }
        }
    }

    /// `claim.sql`. The row is read when the statement begins, the lease is
    /// taken later: READ COMMITTED guarantees no more.
    fn claim(&mut self, read: &Row, rules: &Rules) -> Option<u8> {
        let free = self.lease.is_none() || rules.has(Defect::ClaimIgnoresLease);
        // The foreign key rejects a lease of a removed row.
        if !free || !read.is_due() || self.row.is_none() {
            return None;
        }
        let term = self.next_term();
        self.lease = Some(Lease { term, left: LEASE });
        Some(term)
    }

    /// `renew.sql`
    fn renew(&mut self, term: u8) -> Option<Row> {
        let lease = self.lease.as_mut().filter(|lease| lease.term == term)?;
        lease.left = LEASE;
        self.row
    }

    /// `write_status.sql`
    fn write_status(
        &mut self,
        term: u8,
        decided_on: &Row,
        basis: Basis,
        steps: StepWrite,
        rules: &Rules,
    ) -> Option<Row> {
        let current = self.row?;
        let rightful = self.holds(term);
        if !(rightful || rules.has(Defect::StatusIgnoresTerm))
            || !(current.generation == decided_on.generation
                || rules.has(Defect::StatusIgnoresGeneration))
            || !(current.actual == decided_on.actual || rules.has(Defect::StatusIgnoresState))
        {
            return None;
        }
        if !rightful {
            self.note_violation(Violation::StaleStatus);
        }
        let known = rules.steps(applied(steps.known, steps.changes));
        if decisions::decide(decided_on, basis, &known) == Decided::Act(Action::Delete) {
            // A delete that was ordered and then withdrawn may be finished.
            self.delete_ordered |= current.desired == Desired::Absent;
            if !self.delete_ordered {
                self.note_violation(Violation::DeleteNotOrdered);
            }
        }
        if !current.same_declaration_and_state(decided_on) {
            self.note_violation(Violation::StatusOfAnotherRow);
        }
        let mut now = decisions::written(&current, decided_on, basis, &known);
        if rules.has(Defect::IntentKeepsApplied) {
            now.applied = now.applied.or(current.applied);
        }
        self.delete_ordered &= now.actual == Actual::Deleting;
        self.row = Some(now);
        self.write_steps(term, steps.changes, rules);
        self.check_running_has_steps(rules);
        self.row
    }

    /// `advance_steps.sql`: whether the work may go on; none if it was rejected. A step
    /// begins only for the generation it was planned for, and never on a paused row.
    fn advance(
        &mut self,
        term: u8,
        decided_on: &Row,
        steps: StepWrite,
        rules: &Rules,
    ) -> Option<bool> {
        let current = self.row?;
        let rightful = self.holds(term);
        if !rightful && !rules.has(Defect::AdvanceIgnoresTerm) {
            return None;
        }
        if !rightful {
            self.note_violation(Violation::StaleStatus);
        }
        let unchanged = current.generation == decided_on.generation && !current.paused;
        let go_on = unchanged || rules.has(Defect::AdvanceIgnoresGeneration);
        let is_start = |state: steps::State| go_on || !state.is_start();
        let changes = steps
            .changes
            .map(|change| change.filter(|change| is_start(change.state)));
        if !unchanged && changes.iter().flatten().any(|c| c.state.is_start()) {
            self.note_violation(Violation::OutdatedStart);
        }
        self.write_steps(term, changes, rules);
        Some(go_on)
    }

    /// `write_steps.sql`: the records of a newer release are kept.
    fn write_steps(&mut self, term: u8, mut changes: Records, rules: &Rules) {
        let before = self.steps;
        for change in changes.iter_mut().flatten() {
            if change.state.is_start() {
                change.term = term;
            }
        }
        if rules.has(Defect::VersionIgnored) {
            for (record, change) in self.steps.iter_mut().zip(changes) {
                *record = change.or(*record);
            }
        } else {
            self.steps = applied(self.steps, changes);
        }
        for (before, now) in before.iter().zip(self.steps) {
            if before.is_some_and(|before| before.newer && now != Some(before)) {
                self.note_violation(Violation::NewerChanged);
            }
        }
    }

    /// A row that is settled as running has no failed required step.
    fn check_running_has_steps(&mut self, rules: &Rules) {
        let required = |index| rules.layout.requirement(index) == Requirement::Required;
        let failed = |record: Record| record.state == steps::State::Failed && !record.newer;
        let lost = |index: &usize| required(*index) && self.steps[*index].is_some_and(failed);
        let settled = |row: Row| row.settled() && row.actual == Actual::Running;
        if rules.layout.observable()
            && self.row.is_some_and(settled)
            && rules.layout.steps().iter().any(lost)
        {
            self.note_violation(Violation::RunningWithoutStep);
        }
    }

    /// `remove.sql` and the trigger `clusters_guard_delete`; the lease is
    /// deleted with the row.
    fn remove(&mut self, term: u8, decided_on: &Row, rules: &Rules) -> bool {
        let Some(current) = self.row else {
            return false;
        };
        let fenced = self.holds(term)
            && current.generation == decided_on.generation
            && current.desired == Desired::Absent;
        if !fenced && !rules.has(Defect::RemovalIgnoresRow) {
            return false;
        }
        let gone = self.host.condition == Condition::Absent
            && !self.artifacts.any_left()
            && self.commands.is_empty();
        if !gone || current.desired != Desired::Absent {
            self.note_violation(Violation::RemovedTooEarly);
        }
        self.row = None;
        self.steps = [None; 3];
        self.lease = None;
        self.delete_ordered = false;
        true
    }
}
