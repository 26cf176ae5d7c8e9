//! The transitions of an owner: `clusters::reconcile` step by step. `pass` connects
//! them to the database and the host.
//!
//! It makes no decision: like `reconcile` it calls `kindler::clusters::plan`. Between
//! any two of its steps the host, the clock, the other owner and the person may act,
//! which covers an owner that is suspended.

use kindler::clusters::plan::Action;
use kindler::clusters::{Actual, Desired};

use crate::database::Answer;
use crate::decisions::{Basis, Decided, decide, needs_step_maintenance};
use crate::row::{CommandResult, Observed, Row};
use crate::rules::{Defect, Rules};
use crate::run::{RunPurpose, RunView};
use crate::state::{Cancellation, ObserveFor, Owner, Stage, Statement, StepWrite};
use crate::steps;

impl Owner {
    /// The statement that it is about to send.
    pub fn statement(&self) -> Option<Statement> {
        let term = self.term;
        let steps = StepWrite {
            known: self.run.known,
            changes: self.run.changes,
        };
        match self.stage {
            Stage::Claiming(read) => Some(Statement::Claim(read)),
            Stage::Writing(decided_on, observed) => Some(Statement::Write(
                term,
                decided_on,
                Basis::Planned(observed),
                steps,
            )),
            Stage::Concluding(decided_on, action, ended, observed) => Some(Statement::Write(
                term,
                decided_on,
                Basis::Concluded(action, ended, observed),
                steps,
            )),
            Stage::WritingStepLost(decided_on) => {
                Some(Statement::Write(term, decided_on, Basis::StepLost, steps))
            }
            Stage::Advancing(decided_on, _) => Some(Statement::Advance(term, decided_on, steps)),
            Stage::Removing(decided_on) => Some(Statement::Remove(term, decided_on)),
            Stage::Fencing(..) | Stage::Reloading => Some(Statement::Renew(term)),
            Stage::Releasing => Some(Statement::Release(term)),
            Stage::Idle
            | Stage::Observing(_)
            | Stage::ObservingSteps(..)
            | Stage::Spawning(..)
            | Stage::Acting(..)
            | Stage::Verifying(..) => None,
        }
    }

    /// Whether it renews its lease during its current stage.
    pub fn renews_lease(&self) -> bool {
        match self.stage {
            Stage::Acting(_, _, cancellation) => cancellation != Some(Cancellation::OwnerStops),
            // The product renews during an observation too; here that would equal a
            // faster observation.
            _ => false,
        }
    }

    /// Whether it checks during its current stage that it still trusts its lease.
    pub fn watches_trust(&self) -> bool {
        match self.stage {
            Stage::Observing(_) | Stage::ObservingSteps(..) | Stage::Verifying(..) => true,
            Stage::Acting(_, _, cancellation) => cancellation != Some(Cancellation::OwnerStops),
            _ => false,
        }
    }

    /// Without a lease, every statement it sends from here on is rejected, and its pass
    /// ends. Starting a command is not a statement.
    pub fn only_sends_statements(&self) -> bool {
        match self.stage {
            Stage::Idle | Stage::Claiming(_) | Stage::Spawning(..) | Stage::Acting(..) => false,
            Stage::Observing(_)
            | Stage::Writing(..)
            | Stage::Fencing(..)
            | Stage::ObservingSteps(..)
            | Stage::Advancing(..)
            | Stage::Verifying(..)
            | Stage::Concluding(..)
            | Stage::WritingStepLost(_)
            | Stage::Removing(_)
            | Stage::Reloading
            | Stage::Releasing => true,
        }
    }

    /// The answer to its statement is lost; its pass ends.
    pub fn answer_lost(&mut self) {
        match self.stage {
            Stage::Claiming(_) | Stage::Releasing => *self = Self::IDLE,
            _ => self.stage = Stage::Releasing,
        }
    }

    /// The first half of `step`, with this row.
    fn plan_row(&mut self, row: Row, rules: &Rules) {
        self.run = self.run.over();
        let rests = match row.actual {
            Actual::Deleting => rules.has(Defect::WithdrawnDeleteNotFinished),
            Actual::Creating => rules.has(Defect::InterruptedCreateNotFinished),
            _ => false,
        };
        let known = rules.steps(self.run.known);
        self.stage = match decide(&row, Basis::Planned(None), &known) {
            _ if rests && row.desired != Desired::Absent => Stage::Releasing,
            Decided::Rest => Stage::Releasing,
            Decided::Observe => Stage::Observing(row),
            Decided::Record => Stage::Writing(row, None),
            Decided::Act(action) => return self.start_action(row, None, action, rules),
            Decided::Remove => Stage::Removing(row),
        };
    }

    /// Observes the steps of an action, if it has any, before its intent.
    fn start_action(
        &mut self,
        row: Row,
        observed: Option<Observed>,
        action: Action,
        rules: &Rules,
    ) {
        self.stage = if steps::has_steps(rules.layout, action) {
            self.run = self.run.begin(purpose(action));
            Stage::ObservingSteps(row, ObserveFor::Intent(observed))
        } else {
            Stage::Writing(row, observed)
        };
    }

    /// The second half of `step`, with the observation.
    pub fn plan_observed(&mut self, row: Row, observed: Observed, rules: &Rules) {
        let known = rules.steps(self.run.known);
        self.stage = match decide(&row, Basis::Planned(Some(observed)), &known) {
            Decided::Rest => Stage::Releasing,
            Decided::Observe => unreachable!("planned to observe twice"),
            Decided::Record
                if rules.layout.observable() && needs_step_maintenance(&row, observed, &known) =>
            {
                self.run = self.run.begin(RunPurpose::Maintain);
                Stage::ObservingSteps(row, ObserveFor::Maintenance)
            }
            Decided::Record => Stage::Writing(row, Some(observed)),
            Decided::Act(action) => return self.start_action(row, Some(observed), action, rules),
            Decided::Remove => Stage::Removing(row),
        };
    }

    /// The observed steps decide which one acts next.
    pub fn steps_observed(&mut self, view: RunView, rules: &Rules) {
        let Stage::ObservingSteps(row, what) = self.stage else {
            unreachable!("only an observing owner gets an observation")
        };
        self.run.observe_steps(view, rules);
        let begun = self.run.begun.is_some();
        self.stage = match what {
            ObserveFor::Intent(observed) => Stage::Writing(row, observed),
            ObserveFor::NextStep(action) if begun && rules.has(Defect::StartAfterEffect) => {
                Stage::Spawning(row, action)
            }
            ObserveFor::NextStep(action) if begun => Stage::Advancing(row, action),
            ObserveFor::NextStep(action) => return self.end_run(row, action),
            ObserveFor::Maintenance if begun || self.run.failed => {
                Stage::Advancing(row, Action::Update)
            }
            ObserveFor::Maintenance => Stage::Writing(row, Some(Observed::Healthy)),
        };
    }

    /// No step is left to act: observes the whole cluster, or writes what was found of
    /// a healthy one.
    pub fn end_run(&mut self, row: Row, action: Action) {
        let failed = self.run.failed;
        self.stage = match self.run.purpose {
            RunPurpose::Maintain if failed => Stage::WritingStepLost(row),
            RunPurpose::Maintain => Stage::Writing(row, Some(Observed::Healthy)),
            RunPurpose::Make | RunPurpose::Remove if failed => {
                Stage::Verifying(row, action, CommandResult::Failed)
            }
            RunPurpose::Make | RunPurpose::Remove => {
                Stage::Verifying(row, action, CommandResult::Succeeded)
            }
        };
    }

    /// The start of the next step is committed, if there is one.
    fn go_on(&mut self, row: Row, action: Action, rules: &Rules) {
        let all_at_once = !steps::has_steps(rules.layout, action);
        if all_at_once || self.run.begun.is_some() {
            self.stage = Stage::Spawning(row, action);
        } else {
            self.end_run(row, action);
        }
    }

    /// The answer to its statement about steps.
    fn steps_written(
        &mut self,
        decided_on: Row,
        action: Action,
        go_on: Option<bool>,
        rules: &Rules,
    ) {
        match go_on {
            Some(true) => {
                self.run.written();
                self.go_on(decided_on, action, rules);
            }
            Some(false) => {
                self.run.written();
                self.stage = Stage::Reloading;
            }
            None => self.stage = Stage::Releasing,
        }
    }

    pub fn receive(&mut self, answer: Answer, rules: &Rules) {
        let renewed = matches!(self.stage, Stage::Fencing(..) | Stage::Reloading);
        if renewed && matches!(answer, Answer::Row(Some(_))) {
            self.trust = rules.trust();
        }
        match (self.stage, answer) {
            (Stage::Claiming(read), Answer::Claimed(Some(term))) => {
                (self.term, self.trust) = (term, rules.trust());
                self.plan_row(read, rules);
            }
            (Stage::Claiming(_), _) => *self = Self::IDLE,
            (Stage::Writing(decided_on, observed), Answer::Row(Some(now))) => {
                let known = rules.steps(self.run.after());
                self.run.written();
                match decide(&decided_on, Basis::Planned(observed), &known) {
                    Decided::Act(action) => self.stage = Stage::Fencing(now, action),
                    _ => self.plan_row(now, rules),
                }
            }
            (Stage::Advancing(decided_on, action), Answer::Advanced(go_on)) => {
                self.steps_written(decided_on, action, go_on, rules);
            }
            (Stage::Fencing(intended, action), Answer::Row(Some(now)))
                if now.generation == intended.generation
                    && (!now.paused || rules.has(Defect::FenceIgnoresPause)) =>
            {
                self.go_on(now, action, rules);
            }
            (Stage::Concluding(..) | Stage::WritingStepLost(_), Answer::Row(Some(now))) => {
                self.run.written();
                self.plan_row(now, rules);
            }
            (Stage::Fencing(..) | Stage::Reloading, Answer::Row(Some(now))) => {
                self.plan_row(now, rules);
            }
            (
                Stage::Writing(..)
                | Stage::Concluding(..)
                | Stage::WritingStepLost(_)
                | Stage::Removing(_),
                _,
            ) if answer != Answer::Removed(true) => {
                self.run = self.run.over();
                self.stage = Stage::Reloading;
            }
            (Stage::Releasing, _) => *self = Self::IDLE,
            _ => self.stage = Stage::Releasing,
        }
    }
}

fn purpose(action: Action) -> RunPurpose {
    match action {
        Action::Create | Action::Update | Action::Start | Action::Stop => RunPurpose::Make,
        Action::Delete => RunPurpose::Remove,
    }
}
