//! The pass of an owner, step by step, with its calls to the database and the host.

use kindler::clusters::plan::{Action, interrupt};

use crate::database::Answer;
use crate::decisions::{Basis, Decided, decide};
use crate::host::Command;
use crate::row::{CommandResult, Observed, Row};
use crate::rules::{Defect, Rules};
use crate::run::{RunPurpose, RunView};
use crate::state::{Cancellation, ObserveFor, Stage, State, Statement, Violation};
use crate::steps::{self, Record, Records};

impl State {
    /// Takes the owner's next step if it needs only the owner or the database. None
    /// while it waits for a command, or has nothing to claim.
    pub fn proceed(&mut self, index: usize, rules: &Rules) -> Option<()> {
        let owner = self.owners[index];
        if let Some(statement) = owner.statement() {
            let answer = self.execute(statement, rules);
            let reads = matches!(owner.stage, Stage::Reloading | Stage::Fencing(..));
            if reads && !rules.has(Defect::StepsReadOnce) {
                self.owners[index].run.known = without_terms(self.steps);
            }
            self.owners[index].receive(answer, rules);
            if let Stage::Spawning(row, _) = self.owners[index].stage
                && row.paused
            {
                self.note_violation(Violation::PausedSpawn);
            }
            return Some(());
        }
        match owner.stage {
            Stage::Idle => {
                let read = self.row.filter(Row::is_due)?;
                let answer = self.execute(Statement::Claim(read), rules);
                if answer == Answer::Claimed(None) {
                    return None;
                }
                self.begin_claim(index, read);
                self.owners[index].receive(answer, rules);
            }
            Stage::Observing(_) | Stage::Verifying(..) => {
                self.observe(index, self.host.observed(), rules);
            }
            Stage::ObservingSteps(..) => self.observe_steps(index, false, rules),
            Stage::Spawning(row, action) => self.spawn(index, row, action, rules),
            _ => return None,
        }
        Some(())
    }

    /// The snapshot of a claim: the row and its steps.
    pub fn begin_claim(&mut self, index: usize, read: Row) {
        let known = without_terms(self.steps);
        let owner = &mut self.owners[index];
        owner.stage = Stage::Claiming(read);
        owner.run.known = known;
    }

    /// An owner observes the steps, from the first that is not finished.
    pub fn observe_steps(&mut self, index: usize, fails: bool, rules: &Rules) {
        let Stage::ObservingSteps(row, _) = self.owners[index].stage else {
            unreachable!("only an observing owner gets an observation")
        };
        let view = RunView {
            spec: row.spec,
            host: self.host,
            artifacts: self.artifacts,
            fails,
        };
        self.owners[index].steps_observed(view, rules);
        if rules.layout.observable() && self.repeats_done_step(index, row) {
            self.note_violation(Violation::NeedlessApply);
        }
    }

    /// Whether an owner is_start a step that it knows to be done, and that is in place
    /// and of the same input. If a claim read the steps before the last owner wrote
    /// them, one repetition is allowed.
    fn repeats_done_step(&self, index: usize, row: Row) -> bool {
        let run = self.owners[index].run;
        let Some(step) = run
            .begun
            .map(usize::from)
            .filter(|_| run.purpose != RunPurpose::Remove)
        else {
            return false;
        };
        let done = run.known[step].is_some_and(|record| {
            let same = record.input == row.spec && !record.newer;
            record.state == steps::State::Done && same
        });
        done && steps::in_place(step, row.spec, self.host, self.artifacts)
    }

    /// The result of an owner's observation.
    pub fn observe(&mut self, index: usize, observed: Observed, rules: &Rules) {
        let owner = &mut self.owners[index];
        match owner.stage {
            Stage::Observing(row) => owner.plan_observed(row, observed, rules),
            Stage::Verifying(row, action, ended) => {
                let known = rules.steps(owner.run.after());
                let basis = Basis::Concluded(action, ended, observed);
                owner.stage = match decide(&row, basis, &known) {
                    Decided::Remove => Stage::Removing(row),
                    _ => Stage::Concluding(row, action, ended, observed),
                };
            }
            _ => unreachable!("only an observing owner gets an observation"),
        }
    }

    /// The guard checks the trust once more before it starts the command.
    fn spawn(&mut self, index: usize, row: Row, action: Action, rules: &Rules) {
        let owner = self.owners[index];
        if owner.trust == 0 && !rules.has(Defect::SpawnIgnoresTrust) {
            self.owners[index].stage = Stage::Releasing;
            return;
        }
        if !self.holds(owner.term) {
            self.note_violation(Violation::StaleSpawn);
        }
        let command = Command::live(action, row.spec, owner.term, owner.trust);
        self.commands.push(Command {
            step: owner.run.begun,
            ..command
        });
        self.owners[index].stage = Stage::Acting(row, action, None);
    }

    /// A renewal during an observation or a command; it reads a change of desire.
    pub fn renew_beside(&mut self, index: usize, rules: &Rules) {
        let owner = self.owners[index];
        let Answer::Row(found) = self.execute(Statement::Renew(owner.term), rules) else {
            unreachable!("a renewal answers with a row or none")
        };
        match found {
            None => self.cancel(index, Cancellation::OwnerStops),
            Some(now) => {
                self.owners[index].trust = rules.trust();
                let command = self.command_of(owner.term);
                if let Some(command) = command {
                    command.trusted = rules.trust();
                }
                if let Stage::Acting(_, action, None) = owner.stage
                    && interrupt(action, now.desired).is_some()
                {
                    self.cancel(index, Cancellation::DesireChanged);
                }
            }
        }
    }

    /// An owner cancels its work: it asks a command to end and waits for it.
    pub fn cancel(&mut self, index: usize, cancellation: Cancellation) {
        let owner = &mut self.owners[index];
        match &mut owner.stage {
            Stage::Acting(_, _, why) => {
                *why = Some(cancellation);
                let term = owner.term;
                if let Some(command) = self.command_of(term) {
                    command.cancelled = true;
                }
            }
            stage => *stage = Stage::Releasing,
        }
    }

    fn command_of(&mut self, term: u8) -> Option<&mut Command> {
        self.commands
            .iter_mut()
            .find(|command| command.term == term)
    }

    /// A command ended by itself; its owner, if it still runs, continues.
    pub fn ended(
        &mut self,
        command: &Command,
        ended: CommandResult,
        given_up: bool,
        rules: &Rules,
    ) {
        let Some(owner) = self.owner_of_command(command.term) else {
            return;
        };
        let Stage::Acting(row, action, _) = owner.stage else {
            return;
        };
        if command.step.is_none() {
            owner.stage = Stage::Verifying(row, action, ended);
            return;
        }
        owner.run.ended(row.spec, ended, given_up, rules.layout);
        if owner.run.failed {
            owner.end_run(row, action);
        } else {
            owner.stage = Stage::ObservingSteps(row, ObserveFor::NextStep(action));
        }
    }

    /// A guard killed a command; nothing is concluded from it.
    pub fn killed(&mut self, term: u8) {
        if let Some(owner) = self.owner_of_command(term)
            && let Stage::Acting(_, _, cancellation) = owner.stage
        {
            owner.run = owner.run.over();
            owner.stage = match cancellation {
                Some(Cancellation::DesireChanged) => Stage::Reloading,
                Some(Cancellation::OwnerStops) | None => Stage::Releasing,
            };
        }
    }
}

/// The records as they are read: decisions do not depend on the term of a start.
fn without_terms(steps: Records) -> Records {
    steps.map(|record| record.map(|record| Record { term: 0, ..record }))
}
