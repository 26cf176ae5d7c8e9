//! What each statement of `sql/queries` does, and whether that was right.
//!
//! Mechanism and truth are apart: a defect weakens the first, never the
//! second, so a statement that should have lost is noted as a breach.

use kindler::clusters::plan::Action;
use kindler::clusters::{Actual, Desired};
use kindler::core::steps::Requirement;

use crate::decisions::{self, Decided, Grounds, Steps};
use crate::row::Row;
use crate::rules::{Defect, LEASE, Rules};
use crate::run::applied;
use crate::state::{Breach, Lease, State, Statement, StepWrite};
use crate::steps::{self, Record, Records};
use crate::world::Form;

/// What the database answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The term that a claim won.
    Claimed(Option<u8>),
    /// The row under the lease, or after a write; none is "lost".
    Row(Option<Row>),
    Removed(bool),
    Released,
    /// Whether the work may go on; none is "lost".
    Advanced(Option<bool>),
}

impl Rules {
    /// The steps that a decision takes into account.
    pub fn steps(&self, records: Records) -> Steps {
        Steps {
            layout: self.layout,
            records,
            leftovers_ignored: self.has(Defect::RemovalIgnoresSteps),
            failure_ignored: self.has(Defect::FailedStepIgnored),
        }
    }
}

impl State {
    pub fn execute(&mut self, statement: Statement, rules: &Rules) -> Answer {
        match statement {
            Statement::Claim(read) => Answer::Claimed(self.claim(&read, rules)),
            Statement::Renew(term) => Answer::Row(self.renew(term)),
            Statement::Write(term, held, grounds, steps) => {
                Answer::Row(self.write_status(term, &held, grounds, steps, rules))
            }
            Statement::Advance(term, held, steps) => {
                Answer::Advanced(self.advance(term, &held, steps, rules))
            }
            Statement::Remove(term, held) => Answer::Removed(self.remove(term, &held, rules)),
            Statement::Release(term) => {
                if self.holds(term) || rules.has(Defect::ReleaseIgnoresTerm) {
                    self.lease = None;
                }
                Answer::Released
            }
        }
    }

    /// `claim_cluster.sql`. The row was read when the statement began, the
    /// lease is taken when it gets there: READ COMMITTED promises no more.
    fn claim(&mut self, read: &Row, rules: &Rules) -> Option<u8> {
        let free = self.lease.is_none() || rules.has(Defect::ClaimIgnoresLease);
        // The foreign key refuses a lease of a row that is gone.
        if !free || !read.is_due() || self.row.is_none() {
            return None;
        }
        let term = self.next_term();
        self.lease = Some(Lease { term, left: LEASE });
        Some(term)
    }

    /// `renew_lease.sql`
    fn renew(&mut self, term: u8) -> Option<Row> {
        let lease = self.lease.as_mut().filter(|lease| lease.term == term)?;
        lease.left = LEASE;
        self.row
    }

    /// `write_status.sql`
    fn write_status(
        &mut self,
        term: u8,
        held: &Row,
        grounds: Grounds,
        steps: StepWrite,
        rules: &Rules,
    ) -> Option<Row> {
        let current = self.row?;
        let rightful = self.holds(term);
        if !(rightful || rules.has(Defect::StatusIgnoresTerm))
            || !(current.generation == held.generation
                || rules.has(Defect::StatusIgnoresGeneration))
            || !(current.actual == held.actual || rules.has(Defect::StatusIgnoresState))
        {
            return None;
        }
        if !rightful {
            self.breach(Breach::StaleStatus);
        }
        let known = rules.steps(applied(steps.known, steps.changes));
        if decisions::decide(held, grounds, &known) == Decided::Act(Action::Delete) {
            // A delete that was ordered and then withdrawn may be finished.
            self.delete_ordered |= current.desired == Desired::Absent;
            if !self.delete_ordered {
                self.breach(Breach::DeleteNotOrdered);
            }
        }
        if !current.says_the_same_as(held) {
            self.breach(Breach::StatusOfAnotherRow);
        }
        let mut now = decisions::written(&current, held, grounds, &known);
        if rules.has(Defect::IntentKeepsApplied) {
            now.applied = now.applied.or(current.applied);
        }
        self.delete_ordered &= now.actual == Actual::Deleting;
        self.row = Some(now);
        self.write_steps(term, steps.changes, rules);
        self.judge_running(rules);
        self.row
    }

    /// `advance_steps.sql`: whether the work may go on; none is "lost". A step
    /// begins only for the generation that it is for, and on no paused row.
    fn advance(&mut self, term: u8, held: &Row, steps: StepWrite, rules: &Rules) -> Option<bool> {
        let current = self.row?;
        let rightful = self.holds(term);
        if !rightful && !rules.has(Defect::AdvanceIgnoresTerm) {
            return None;
        }
        if !rightful {
            self.breach(Breach::StaleStatus);
        }
        let unchanged = current.generation == held.generation && !current.paused;
        let goes_on = unchanged || rules.has(Defect::AdvanceIgnoresGeneration);
        let begins = |state: steps::State| goes_on || !state.begins();
        let changes = steps
            .changes
            .map(|change| change.filter(|change| begins(change.state)));
        if !unchanged && changes.iter().flatten().any(|c| c.state.begins()) {
            self.breach(Breach::OutdatedStart);
        }
        self.write_steps(term, changes, rules);
        Some(goes_on)
    }

    /// `write_steps.sql`: what a newer release wrote stays.
    fn write_steps(&mut self, term: u8, mut changes: Records, rules: &Rules) {
        let before = self.steps;
        for change in changes.iter_mut().flatten() {
            if change.state.begins() {
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
                self.breach(Breach::NewerChanged);
            }
        }
    }

    /// What is settled as running has no required step that failed.
    fn judge_running(&mut self, rules: &Rules) {
        let required = |index| rules.layout.requirement(index) == Requirement::Required;
        let failed = |record: Record| record.state == steps::State::Failed && !record.newer;
        let lost = |index: &usize| required(*index) && self.steps[*index].is_some_and(failed);
        let settled = |row: Row| row.settled() && row.actual == Actual::Running;
        if rules.layout.observable()
            && self.row.is_some_and(settled)
            && rules.layout.steps().iter().any(lost)
        {
            self.breach(Breach::RunningWithoutStep);
        }
    }

    /// `remove_cluster.sql` and the trigger `clusters_guard_delete`; the lease
    /// goes with the row.
    fn remove(&mut self, term: u8, held: &Row, rules: &Rules) -> bool {
        let Some(current) = self.row else {
            return false;
        };
        let fenced = self.holds(term)
            && current.generation == held.generation
            && current.desired == Desired::Absent;
        if !fenced && !rules.has(Defect::RemovalIgnoresRow) {
            return false;
        }
        let gone =
            self.world.form == Form::Absent && !self.parts.anything() && self.commands.is_empty();
        if !gone || current.desired != Desired::Absent {
            self.breach(Breach::RemovedTooEarly);
        }
        self.row = None;
        self.steps = [None; 3];
        self.lease = None;
        self.delete_ordered = false;
        true
    }
}
