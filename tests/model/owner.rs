//! What an owner does next: `clusters::reconcile`, step by step; `pass` is how that
//! meets the database and the host.
//!
//! It decides nothing: it asks `kindler::clusters::plan`, like the code that it stands
//! for. Between any two of its steps the world, the clock, the other owner and
//! the person may move, which is what a paused owner looks like.

use kindler::clusters::plan::Action;
use kindler::clusters::{Actual, Desired};

use crate::database::Answer;
use crate::decisions::{Decided, Grounds, decide, well};
use crate::row::{Ended, Row, Seen};
use crate::rules::{Defect, Rules};
use crate::run::{Sight, Way};
use crate::state::{Cut, LookFor, Owner, Place, Statement, StepWrite};
use crate::steps;

impl Owner {
    /// What it is about to ask of the database.
    pub fn statement(&self) -> Option<Statement> {
        let term = self.term;
        let steps = StepWrite {
            known: self.run.known,
            changes: self.run.changes,
        };
        match self.place {
            Place::Claiming(read) => Some(Statement::Claim(read)),
            Place::Writing(held, seen) => {
                Some(Statement::Write(term, held, Grounds::Planned(seen), steps))
            }
            Place::Concluding(held, action, ended, seen) => Some(Statement::Write(
                term,
                held,
                Grounds::Concluded(action, ended, seen),
                steps,
            )),
            Place::LosingStep(held) => Some(Statement::Write(term, held, Grounds::StepLost, steps)),
            Place::Advancing(held, _) => Some(Statement::Advance(term, held, steps)),
            Place::Removing(held) => Some(Statement::Remove(term, held)),
            Place::Fencing(..) | Place::Reloading => Some(Statement::Renew(term)),
            Place::Releasing => Some(Statement::Release(term)),
            Place::Idle
            | Place::Looking(_)
            | Place::LookingOn(..)
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
            Place::Looking(_) | Place::LookingOn(..) | Place::Verifying(..) => true,
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
            | Place::LookingOn(..)
            | Place::Advancing(..)
            | Place::Verifying(..)
            | Place::Concluding(..)
            | Place::LosingStep(_)
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
        self.run = self.run.over();
        let rests = match row.actual {
            Actual::Deleting => rules.has(Defect::WithdrawnDeleteRests),
            Actual::Creating => rules.has(Defect::InterruptedCreateRests),
            _ => false,
        };
        let known = rules.steps(self.run.known);
        self.place = match decide(&row, Grounds::Planned(None), &known) {
            _ if rests && row.desired != Desired::Absent => Place::Releasing,
            Decided::Rest => Place::Releasing,
            Decided::Look => Place::Looking(row),
            Decided::Record => Place::Writing(row, None),
            Decided::Act(action) => return self.acts(row, None, action, rules),
            Decided::Remove => Place::Removing(row),
        };
    }

    /// Looks at the steps of an action, if it has any, before its intent.
    fn acts(&mut self, row: Row, seen: Option<Seen>, action: Action, rules: &Rules) {
        self.place = if steps::has_steps(rules.layout, action) {
            self.run = self.run.begin(way(action));
            Place::LookingOn(row, LookFor::Intent(seen))
        } else {
            Place::Writing(row, seen)
        };
    }

    /// The second half, with what was seen.
    pub fn plans_again(&mut self, row: Row, seen: Seen, rules: &Rules) {
        let known = rules.steps(self.run.known);
        self.place = match decide(&row, Grounds::Planned(Some(seen)), &known) {
            Decided::Rest => Place::Releasing,
            Decided::Look => unreachable!("asked to look twice"),
            Decided::Record if rules.layout.observable() && well(&row, seen, &known) => {
                self.run = self.run.begin(Way::Maintain);
                Place::LookingOn(row, LookFor::Upkeep)
            }
            Decided::Record => Place::Writing(row, Some(seen)),
            Decided::Act(action) => return self.acts(row, Some(seen), action, rules),
            Decided::Remove => Place::Removing(row),
        };
    }

    /// What it saw of the steps decides which one acts next.
    pub fn looks_on(&mut self, sight: Sight, rules: &Rules) {
        let Place::LookingOn(row, what) = self.place else {
            unreachable!("only who looks sees")
        };
        self.run.look_on(sight, rules);
        let begun = self.run.begun.is_some();
        self.place = match what {
            LookFor::Intent(seen) => Place::Writing(row, seen),
            LookFor::Next(action) if begun && rules.has(Defect::StartAfterEffect) => {
                Place::Spawning(row, action)
            }
            LookFor::Next(action) if begun => Place::Advancing(row, action),
            LookFor::Next(action) => return self.ends_run(row, action),
            LookFor::Upkeep if begun || self.run.failed => Place::Advancing(row, Action::Update),
            LookFor::Upkeep => Place::Writing(row, Some(Seen::Healthy)),
        };
    }

    /// No step is left to act: the whole is looked at, or what was found of a
    /// cluster that is well is written.
    pub fn ends_run(&mut self, row: Row, action: Action) {
        let failed = self.run.failed;
        self.place = match self.run.way {
            Way::Maintain if failed => Place::LosingStep(row),
            Way::Maintain => Place::Writing(row, Some(Seen::Healthy)),
            Way::Make | Way::Remove if failed => Place::Verifying(row, action, Ended::Badly),
            Way::Make | Way::Remove => Place::Verifying(row, action, Ended::Well),
        };
    }

    /// The start of what acts next is committed, if anything does.
    fn goes_on(&mut self, row: Row, action: Action, rules: &Rules) {
        let all_at_once = !steps::has_steps(rules.layout, action);
        if all_at_once || self.run.begun.is_some() {
            self.place = Place::Spawning(row, action);
        } else {
            self.ends_run(row, action);
        }
    }

    /// How its statement about steps went.
    fn advanced(&mut self, held: Row, action: Action, goes_on: Option<bool>, rules: &Rules) {
        match goes_on {
            Some(true) => {
                self.run.written();
                self.goes_on(held, action, rules);
            }
            Some(false) => {
                self.run.written();
                self.place = Place::Reloading;
            }
            None => self.place = Place::Releasing,
        }
    }

    pub fn hears(&mut self, answer: Answer, rules: &Rules) {
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
                let known = rules.steps(self.run.after());
                self.run.written();
                match decide(&held, Grounds::Planned(seen), &known) {
                    Decided::Act(action) => self.place = Place::Fencing(now, action),
                    _ => self.plans(now, rules),
                }
            }
            (Place::Advancing(held, action), Answer::Advanced(goes_on)) => {
                self.advanced(held, action, goes_on, rules);
            }
            (Place::Fencing(intended, action), Answer::Row(Some(now)))
                if now.generation == intended.generation
                    && (!now.paused || rules.has(Defect::FenceIgnoresPause)) =>
            {
                self.goes_on(now, action, rules);
            }
            (Place::Concluding(..) | Place::LosingStep(_), Answer::Row(Some(now))) => {
                self.run.written();
                self.plans(now, rules);
            }
            (Place::Fencing(..) | Place::Reloading, Answer::Row(Some(now))) => {
                self.plans(now, rules);
            }
            (
                Place::Writing(..)
                | Place::Concluding(..)
                | Place::LosingStep(_)
                | Place::Removing(_),
                _,
            ) if answer != Answer::Removed(true) => {
                self.run = self.run.over();
                self.place = Place::Reloading;
            }
            (Place::Releasing, _) => *self = Self::IDLE,
            _ => self.place = Place::Releasing,
        }
    }
}

fn way(action: Action) -> Way {
    match action {
        Action::Create | Action::Update | Action::Start | Action::Stop => Way::Make,
        Action::Delete => Way::Remove,
    }
}
