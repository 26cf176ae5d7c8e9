//! What each statement of `sql/queries` does, and whether that was right.
//!
//! Mechanism and truth are apart: a defect weakens the first, never the
//! second, so a statement that should have lost is noted as a breach.

use kindler::clusters::plan::Action;
use kindler::clusters::{Actual, Desired};

use crate::row::{self, Decided, Grounds, Row};
use crate::rules::{Defect, LEASE, Rules};
use crate::state::{Breach, Lease, State, Statement};
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
}

impl State {
    pub fn execute(&mut self, statement: Statement, rules: &Rules) -> Answer {
        match statement {
            Statement::Claim(read) => Answer::Claimed(self.claim(&read, rules)),
            Statement::Renew(term) => Answer::Row(self.renew(term)),
            Statement::Write(term, held, grounds) => {
                Answer::Row(self.write_status(term, &held, grounds, rules))
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
        if row::decide(held, grounds) == Decided::Act(Action::Delete) {
            // A delete that was ordered and then withdrawn may be finished.
            self.delete_ordered |= current.desired == Desired::Absent;
            if !self.delete_ordered {
                self.breach(Breach::DeleteNotOrdered);
            }
        }
        if !current.says_the_same_as(held) {
            self.breach(Breach::StatusOfAnotherRow);
        }
        let mut now = row::written(&current, held, grounds);
        if rules.has(Defect::IntentKeepsApplied) {
            now.applied = now.applied.or(current.applied);
        }
        self.delete_ordered &= now.actual == Actual::Deleting;
        self.row = Some(now);
        self.row
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
        let gone = self.world.form == Form::Absent && self.commands.is_empty();
        if !gone || current.desired != Desired::Absent {
            self.breach(Breach::RemovedTooEarly);
        }
        self.row = None;
        self.lease = None;
        self.delete_ordered = false;
        true
    }
}
