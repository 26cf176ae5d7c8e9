//! What an owner does next: `reconcile` and `reconcile::held`, step by step.
//!
//! It decides nothing: it asks `kindler::clusters::plan`, like the code that it stands
//! for. Between any two of its steps the world, the clock, the other owner and
//! the person may move, which is what a paused owner looks like.

use kindler::clusters::plan::{Action, interrupt};
use kindler::clusters::{Actual, Desired};

use crate::database::Answer;
use crate::row::{self, Decided, Ended, Grounds, Row, Seen};
use crate::rules::{Defect, Rules};
use crate::state::{Breach, Cut, Owner, Place, State, Statement};
use crate::world::Command;

impl Owner {
    /// What it is about to ask of the database.
    pub fn statement(&self) -> Option<Statement> {
        let term = self.term;
        match self.place {
            Place::Claiming(read) => Some(Statement::Claim(read)),
            Place::Writing(held, seen) => {
                Some(Statement::Write(term, held, Grounds::Planned(seen)))
            }
            Place::Concluding(held, action, ended, seen) => Some(Statement::Write(
                term,
                held,
                Grounds::Concluded(action, ended, seen),
            )),
            Place::Removing(held) => Some(Statement::Remove(term, held)),
            Place::Fencing(..) | Place::Reloading => Some(Statement::Renew(term)),
            Place::Releasing => Some(Statement::Release(term)),
            Place::Idle
            | Place::Looking(_)
            | Place::Spawning(..)
            | Place::Acting(..)
            | Place::Verifying(..) => None,
        }
    }

    /// Whether its lease is renewed beside what it does.
    pub fn keeps_its_lease(&self) -> bool {
        match self.place {
            Place::Acting(_, _, cut) => cut != Some(Cut::Over),
            // A look renews, too; here that would be the same as a quicker look.
            _ => false,
        }
    }

    /// Whether it watches its trust beside what it does.
    pub fn watches_its_trust(&self) -> bool {
        match self.place {
            Place::Looking(_) | Place::Verifying(..) => true,
            Place::Acting(_, _, cut) => cut != Some(Cut::Over),
            _ => false,
        }
    }

    /// Without its lease, whatever it asks for from here on is refused, and it
    /// ends its turn. What it is about to start, or has started, is no request.
    pub fn only_asks(&self) -> bool {
        match self.place {
            Place::Idle | Place::Claiming(_) | Place::Spawning(..) | Place::Acting(..) => false,
            Place::Looking(_)
            | Place::Writing(..)
            | Place::Fencing(..)
            | Place::Verifying(..)
            | Place::Concluding(..)
            | Place::Removing(_)
            | Place::Reloading
            | Place::Releasing => true,
        }
    }

    /// The answer to its statement is lost; it ends its turn.
    pub fn hears_nothing(&mut self) {
        match self.place {
            Place::Claiming(_) | Place::Releasing => *self = Self::IDLE,
            _ => self.place = Place::Releasing,
        }
    }

    /// With this row in hand: the first half of `step`.
    fn plans(&mut self, row: Row, rules: &Rules) {
        let rests = match row.actual {
            Actual::Deleting => rules.has(Defect::WithdrawnDeleteRests),
            Actual::Creating => rules.has(Defect::InterruptedCreateRests),
            _ => false,
        };
        self.place = match row::decide(&row, Grounds::Planned(None)) {
            _ if rests && row.desired != Desired::Absent => Place::Releasing,
            Decided::Rest => Place::Releasing,
            Decided::Look => Place::Looking(row),
            Decided::Record | Decided::Act(_) => Place::Writing(row, None),
            Decided::Remove => Place::Removing(row),
        };
    }

    /// The second half, with what was seen.
    fn plans_again(&mut self, row: Row, seen: Seen) {
        self.place = match row::decide(&row, Grounds::Planned(Some(seen))) {
            Decided::Rest => Place::Releasing,
            Decided::Look => unreachable!("asked to look twice"),
            Decided::Record | Decided::Act(_) => Place::Writing(row, Some(seen)),
            Decided::Remove => Place::Removing(row),
        };
    }

    fn hears(&mut self, answer: Answer, rules: &Rules) {
        let renewed = matches!(self.place, Place::Fencing(..) | Place::Reloading);
        if renewed && matches!(answer, Answer::Row(Some(_))) {
            self.trust = rules.trust();
        }
        match (self.place, answer) {
            (Place::Claiming(read), Answer::Claimed(Some(term))) => {
                (self.term, self.trust) = (term, rules.trust());
                self.plans(read, rules);
            }
            (Place::Claiming(_), _) => *self = Self::IDLE,
            (Place::Writing(held, seen), Answer::Row(Some(now))) => {
                match row::decide(&held, Grounds::Planned(seen)) {
                    Decided::Act(action) => self.place = Place::Fencing(now, action),
                    _ => self.plans(now, rules),
                }
            }
            (Place::Fencing(intended, action), Answer::Row(Some(now)))
                if now.generation == intended.generation
                    && (!now.paused || rules.has(Defect::FenceIgnoresPause)) =>
            {
                self.place = Place::Spawning(now, action);
            }
            (
                Place::Fencing(..) | Place::Concluding(..) | Place::Reloading,
                Answer::Row(Some(now)),
            ) => self.plans(now, rules),
            (Place::Writing(..) | Place::Concluding(..) | Place::Removing(_), _)
                if answer != Answer::Removed(true) =>
            {
                self.place = Place::Reloading;
            }
            (Place::Releasing, _) => *self = Self::IDLE,
            _ => self.place = Place::Releasing,
        }
    }
}

impl State {
    /// The next step of an owner that needs nothing but itself or the database.
    /// None while it waits for a command, or has nothing to claim.
    pub fn proceed(&mut self, index: usize, rules: &Rules) -> Option<()> {
        let owner = self.owners[index];
        if let Some(statement) = owner.statement() {
            let answer = self.execute(statement, rules);
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
                self.owners[index].place = Place::Claiming(read);
                self.owners[index].hears(answer, rules);
            }
            Place::Looking(_) | Place::Verifying(..) => {
                self.look(index, self.world.seen());
            }
            Place::Spawning(row, action) => self.spawn(index, row, action, rules),
            _ => return None,
        }
        Some(())
    }

    /// An owner's look found this.
    pub fn look(&mut self, index: usize, seen: Seen) {
        let owner = &mut self.owners[index];
        match owner.place {
            Place::Looking(row) => owner.plans_again(row, seen),
            Place::Verifying(row, action, ended) => {
                owner.place = match row::decide(&row, Grounds::Concluded(action, ended, seen)) {
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
        self.commands.push(command);
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
    pub fn ended(&mut self, term: u8, ended: Ended) {
        if let Some(owner) = self.actor(term)
            && let Place::Acting(row, action, _) = owner.place
        {
            owner.place = Place::Verifying(row, action, ended);
        }
    }

    /// A guard ended a command; nothing is concluded from it.
    pub fn killed(&mut self, term: u8) {
        if let Some(owner) = self.actor(term)
            && let Place::Acting(_, _, cut) = owner.place
        {
            owner.place = match cut {
                Some(Cut::Desire) => Place::Reloading,
                Some(Cut::Over) | None => Place::Releasing,
            };
        }
    }
}
