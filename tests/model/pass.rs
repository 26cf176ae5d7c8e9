//! A pass of an owner, step by step, as it meets the database and the host.

use kindler::clusters::plan::{Action, interrupt};

use crate::database::Answer;
use crate::decisions::{Decided, Grounds, decide};
use crate::row::{Ended, Row, Seen};
use crate::rules::{Defect, Rules};
use crate::run::{Sight, Way};
use crate::state::{Breach, Cut, LookFor, Place, State, Statement};
use crate::steps::{self, Record, Records};
use crate::world::Command;

impl State {
    /// The next step of an owner that needs nothing but itself or the database.
    /// None while it waits for a command, or has nothing to claim.
    pub fn proceed(&mut self, index: usize, rules: &Rules) -> Option<()> {
        let owner = self.owners[index];
        if let Some(statement) = owner.statement() {
            let answer = self.execute(statement, rules);
            let reads = matches!(owner.place, Place::Reloading | Place::Fencing(..));
            if reads && !rules.has(Defect::StepsReadOnce) {
                self.owners[index].run.known = without_terms(self.steps);
            }
            self.owners[index].hears(answer, rules);
            if let Place::Spawning(row, _) = self.owners[index].place
                && row.paused
            {
                self.breach(Breach::PausedSpawn);
            }
            return Some(());
        }
        match owner.place {
            Place::Idle => {
                let read = self.row.filter(Row::is_due)?;
                let answer = self.execute(Statement::Claim(read), rules);
                if answer == Answer::Claimed(None) {
                    return None;
                }
                self.begins_to_claim(index, read);
                self.owners[index].hears(answer, rules);
            }
            Place::Looking(_) | Place::Verifying(..) => {
                self.look(index, self.world.seen(), rules);
            }
            Place::LookingOn(..) => self.look_on(index, false, rules),
            Place::Spawning(row, action) => self.spawn(index, row, action, rules),
            _ => return None,
        }
        Some(())
    }

    /// The snapshot of a claim: the row and its steps.
    pub fn begins_to_claim(&mut self, index: usize, read: Row) {
        let known = without_terms(self.steps);
        let owner = &mut self.owners[index];
        owner.place = Place::Claiming(read);
        owner.run.known = known;
    }

    /// An owner looks at the steps, from the first that is not through.
    pub fn look_on(&mut self, index: usize, fails: bool, rules: &Rules) {
        let Place::LookingOn(row, _) = self.owners[index].place else {
            unreachable!("only who looks sees")
        };
        let sight = Sight {
            shape: row.spec,
            world: self.world,
            parts: self.parts,
            fails,
        };
        self.owners[index].looks_on(sight, rules);
        if rules.layout.observable() && self.applies_needlessly(index, row) {
            self.breach(Breach::NeedlessApply);
        }
    }

    /// Whether an owner begins a step that it knows to be done, and that is in
    /// place and of the same input. A claim may have read its steps before the
    /// last owner wrote them: then a step is applied once more, which it allows.
    fn applies_needlessly(&self, index: usize, row: Row) -> bool {
        let run = self.owners[index].run;
        let Some(step) = run
            .begun
            .map(usize::from)
            .filter(|_| run.way != Way::Remove)
        else {
            return false;
        };
        let done = run.known[step].is_some_and(|record| {
            let same = record.input == row.spec && !record.newer;
            record.state == steps::State::Done && same
        });
        done && steps::in_place(step, row.spec, self.world, self.parts)
    }

    /// An owner's look found this.
    pub fn look(&mut self, index: usize, seen: Seen, rules: &Rules) {
        let owner = &mut self.owners[index];
        match owner.place {
            Place::Looking(row) => owner.plans_again(row, seen, rules),
            Place::Verifying(row, action, ended) => {
                let known = rules.steps(owner.run.after());
                let grounds = Grounds::Concluded(action, ended, seen);
                owner.place = match decide(&row, grounds, &known) {
                    Decided::Remove => Place::Removing(row),
                    _ => Place::Concluding(row, action, ended, seen),
                };
            }
            _ => unreachable!("only who looks sees"),
        }
    }

    /// The guard looks at the trust once more before it starts the command.
    fn spawn(&mut self, index: usize, row: Row, action: Action, rules: &Rules) {
        let owner = self.owners[index];
        if owner.trust == 0 && !rules.has(Defect::SpawnIgnoresTrust) {
            self.owners[index].place = Place::Releasing;
            return;
        }
        if !self.holds(owner.term) {
            self.breach(Breach::StaleSpawn);
        }
        let command = Command::live(action, row.spec, owner.term, owner.trust);
        self.commands.push(Command {
            step: owner.run.begun,
            ..command
        });
        self.owners[index].place = Place::Acting(row, action, None);
    }

    /// A renewal beside a look or a command; it hears a change of desire.
    pub fn renew_beside(&mut self, index: usize, rules: &Rules) {
        let owner = self.owners[index];
        let Answer::Row(found) = self.execute(Statement::Renew(owner.term), rules) else {
            unreachable!("a renewal answers with a row or none")
        };
        match found {
            None => self.cut(index, Cut::Over),
            Some(now) => {
                self.owners[index].trust = rules.trust();
                let command = self.command_of(owner.term);
                if let Some(command) = command {
                    command.trusted = rules.trust();
                }
                if let Place::Acting(_, action, None) = owner.place
                    && interrupt(action, now.desired).is_some()
                {
                    self.cut(index, Cut::Desire);
                }
            }
        }
    }

    /// An owner cuts short what it does; a command is told, and waited for.
    pub fn cut(&mut self, index: usize, cut: Cut) {
        let owner = &mut self.owners[index];
        match &mut owner.place {
            Place::Acting(_, _, why) => {
                *why = Some(cut);
                let term = owner.term;
                if let Some(command) = self.command_of(term) {
                    command.told = true;
                }
            }
            place => *place = Place::Releasing,
        }
    }

    fn command_of(&mut self, term: u8) -> Option<&mut Command> {
        self.commands
            .iter_mut()
            .find(|command| command.term == term)
    }

    /// A command ended by itself; its owner, if it lives, goes on.
    pub fn ended(&mut self, command: &Command, ended: Ended, given_up: bool, rules: &Rules) {
        let Some(owner) = self.actor(command.term) else {
            return;
        };
        let Place::Acting(row, action, _) = owner.place else {
            return;
        };
        if command.step.is_none() {
            owner.place = Place::Verifying(row, action, ended);
            return;
        }
        owner.run.ended(row.spec, ended, given_up, rules.layout);
        if owner.run.failed {
            owner.ends_run(row, action);
        } else {
            owner.place = Place::LookingOn(row, LookFor::Next(action));
        }
    }

    /// A guard ended a command; nothing is concluded from it.
    pub fn killed(&mut self, term: u8) {
        if let Some(owner) = self.actor(term)
            && let Place::Acting(_, _, cut) = owner.place
        {
            owner.run = owner.run.over();
            owner.place = match cut {
                Some(Cut::Desire) => Place::Reloading,
                Some(Cut::Over) | None => Place::Releasing,
            };
        }
    }
}

/// The records as they are read: decisions do not depend on whose a start was.
fn without_terms(steps: Records) -> Records {
    steps.map(|record| record.map(|record| Record { term: 0, ..record }))
}
