//! One state of the whole system, in a form in which equal is equal.
//!
//! Terms are renamed to 1, 2, 3 in their order, and the two owners are sorted:
//! states that differ in names only are one.

use kindler::clusters::plan::Action;

use crate::decisions::Grounds;
use crate::row::{Ended, Row, Seen, Shape};
use crate::rules::Rules;
use crate::run::Run;
use crate::steps::{Parts, Record, Records, State as StepState};
use crate::world::{Command, Form, World};
use kindler::clusters::{Actual, Desired};

/// What must never have happened, noted by the step that did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Breach {
    /// A status was written by a term that held no lease.
    StaleStatus,
    /// A status was written onto a row that says something else by now.
    StatusOfAnotherRow,
    /// A command was started by a term that held no lease.
    StaleSpawn,
    /// A command was about to start although the fence showed a paused row.
    PausedSpawn,
    /// A command changed the host while its term held no lease.
    StaleEffect,
    /// A delete was committed to although no `absent` ordered it.
    DeleteNotOrdered,
    /// A row was removed although the cluster, or the wish for it, was there.
    RemovedTooEarly,
    /// A step acted whose start this term had not committed.
    UnrecordedEffect,
    /// A step began for a row that was changed or paused since.
    OutdatedStart,
    /// A step began that was done, in place and of the same input.
    NeedlessApply,
    /// A row was settled as running although a required step had failed.
    RunningWithoutStep,
    /// The record of a newer release was changed.
    NewerChanged,
}

/// The row of `cluster_leases`, while it has not expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub term: u8,
    pub left: u8,
}

/// Why an owner cuts its command short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    Desire,
    /// The lease is lost, or the process ends.
    Over,
}

/// Where in `reconcile` an owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Idle,
    /// The claim's snapshot is taken, the lease not yet.
    Claiming(Row),
    /// Observes, to plan.
    Looking(Row),
    /// Writes the status of a planned step.
    Writing(Row, Option<Seen>),
    /// The fence before the spawn.
    Fencing(Row, Action),
    Spawning(Row, Action),
    /// Looks for the next step that has to act.
    LookingOn(Row, LookFor),
    /// Writes how steps ended and which one begins.
    Advancing(Row, Action),
    Acting(Row, Action, Option<Cut>),
    /// Observes what an ended command left.
    Verifying(Row, Action, Ended),
    /// Writes what came of an action.
    Concluding(Row, Action, Ended, Seen),
    /// Writes that a required step of a running cluster is lost.
    LosingStep(Row),
    Removing(Row),
    /// A write lost: reads the row under the lease again.
    Reloading,
    Releasing,
}

/// For what an owner looks at steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LookFor {
    /// An action that was planned with this observation.
    Intent(Option<Seen>),
    /// The next step of this action.
    Next(Action),
    /// The steps of a cluster that is well.
    Upkeep,
}

/// One replica's worker. After a crash it is a new, idle one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// 0 holds nothing.
    pub term: u8,
    /// Ticks for which it trusts its lease.
    pub trust: u8,
    pub place: Place,
    pub run: Run,
}

impl Owner {
    pub const IDLE: Self = Self {
        term: 0,
        trust: 0,
        place: Place::Idle,
        run: Run::NONE,
    };

    /// Whether it waits for a command that it started under this term.
    fn awaits(&self, term: u8) -> bool {
        self.term == term && matches!(self.place, Place::Acting(..))
    }

    /// Tells two owners apart that may stand in either order: only an idle or
    /// claiming one has no term of its own.
    fn rank(&self) -> (u8, Option<Row>, Run) {
        match self.place {
            Place::Claiming(read) => (self.term, Some(read), self.run),
            _ => (self.term, None, self.run),
        }
    }
}

/// What a statement writes of steps, and what its sender knew of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepWrite {
    pub known: Records,
    pub changes: Records,
}

/// A statement on its way to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Statement {
    Claim(Row),
    Renew(u8),
    Write(u8, Row, Grounds, StepWrite),
    /// The row that the work is for, and what becomes of its steps.
    Advance(u8, Row, StepWrite),
    Remove(u8, Row),
    Release(u8),
}

impl Statement {
    fn term(&mut self) -> Option<&mut u8> {
        match self {
            Self::Claim(_) => None,
            Self::Renew(term)
            | Self::Write(term, ..)
            | Self::Advance(term, ..)
            | Self::Remove(term, _)
            | Self::Release(term) => Some(term),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub row: Option<Row>,
    /// Survives the row, as `cluster_revisions` does.
    pub generation: u8,
    pub lease: Option<Lease>,
    pub owners: [Owner; 2],
    pub commands: Vec<Command>,
    /// A statement whose sender gave up on it; it may still take effect.
    pub astray: Option<Statement>,
    pub world: World,
    /// What is there of the steps beside the cluster.
    pub parts: Parts,
    /// The rows of `cluster_steps`.
    pub steps: Records,
    /// The row said `absent` when the delete that it records was committed to.
    pub delete_ordered: bool,
    pub changes: u8,
    pub pauses: u8,
    pub faults: u8,
    pub breach: Option<Breach>,
}

impl State {
    /// The starting points that the rules ask for.
    pub fn starts(rules: &Rules) -> Vec<Self> {
        let fresh = Self {
            row: Some(Row::declared(1)),
            generation: 1,
            lease: None,
            owners: [Owner::IDLE; 2],
            commands: Vec::new(),
            astray: None,
            world: World::ABSENT,
            parts: Parts::NONE,
            steps: [None; 3],
            delete_ordered: false,
            changes: rules.changes,
            pauses: rules.pauses,
            faults: rules.faults,
            breach: None,
        };
        if !rules.from_every_row {
            return vec![fresh.made_by_newer(rules)];
        }
        let mut starts = Vec::new();
        for (desired, actual) in Desired::ALL
            .iter()
            .flat_map(|desired| Actual::ALL.iter().map(move |actual| (*desired, *actual)))
        {
            for (world, applied) in worlds() {
                // What a row that nobody looked at yet finds answering is taken
                // for its own: so the rows of the old system are taken over.
                let foreign = world.form == Form::Healthy && world.of != Some(Shape::A);
                if actual == Actual::Unknown && foreign {
                    continue;
                }
                starts.push(Self {
                    row: Some(Row {
                        desired,
                        actual,
                        applied,
                        reached: applied.is_some(),
                        ..Row::declared(1)
                    }),
                    world,
                    delete_ordered: actual == Actual::Deleting,
                    ..fresh.clone()
                });
            }
        }
        starts
    }

    /// One step was made before by a newer release.
    fn made_by_newer(mut self, rules: &Rules) -> Self {
        let Some(index) = rules.newer else {
            return self;
        };
        self.parts.set(index, Some(Shape::A));
        self.steps[index] = Some(Record {
            newer: true,
            ..Record::new(StepState::Done, Shape::A)
        });
        self
    }

    pub fn holds(&self, term: u8) -> bool {
        self.lease.is_some_and(|lease| lease.term == term)
    }

    /// The owner that waits for a command of this term; none if it crashed.
    pub fn actor(&mut self, term: u8) -> Option<&mut Owner> {
        self.owners.iter_mut().find(|owner| owner.awaits(term))
    }

    pub fn is_orphan(&self, command: &Command) -> bool {
        !self.owners.iter().any(|owner| owner.awaits(command.term))
    }

    /// A number that no term in use has, above all of them.
    pub fn next_term(&mut self) -> u8 {
        let mut highest = 0;
        self.each_term(|term| highest = highest.max(*term));
        highest + 1
    }

    /// A step acts only if its start is committed under its owner's term.
    pub fn judge_record(&mut self, command: &Command) {
        let Some(index) = command.step.map(usize::from) else {
            return;
        };
        let started = self.steps[index]
            .is_some_and(|record| record.state.begins() && record.term == command.term);
        if !started {
            self.breach(Breach::UnrecordedEffect);
        }
    }

    pub fn breach(&mut self, breach: Breach) {
        self.breach = self.breach.or(Some(breach));
    }

    /// The one form of all states that differ in names only.
    pub fn canonical(mut self, rules: &Rules) -> Self {
        if rules.fold {
            self.fold();
        }
        self.forget_terms_of_no_one();
        let mut known = [0; 16];
        self.each_term(|term| known[usize::from(*term)] = u8::from(*term > 0));
        self.each_term(|term| *term = known[..=usize::from(*term)].iter().sum());
        if self.owners[0].rank() > self.owners[1].rank() {
            self.owners.swap(0, 1);
        }
        self.commands
            .sort_by_key(|command| (command.term, command.phase, command.trusted));
        self
    }

    /// A lost term never comes back, so who only asks under one is as good as
    /// refused already.
    fn fold(&mut self) {
        for index in 0..self.owners.len() {
            let owner = self.owners[index];
            if owner.only_asks() && !self.holds(owner.term) {
                self.owners[index] = Owner::IDLE;
            }
        }
        let mut astray = self.astray;
        if let Some(term) = astray.as_mut().and_then(Statement::term)
            && !self.holds(*term)
        {
            self.astray = None;
        }
    }

    /// Who is gone does not act: whose start it was does not matter then.
    fn forget_terms_of_no_one(&mut self) {
        let mut steps = std::mem::take(&mut self.steps);
        let mut used = [false; 16];
        self.each_term(|term| used[usize::from(*term)] = true);
        for record in steps.iter_mut().flatten() {
            if !used[usize::from(record.term)] {
                record.term = 0;
            }
        }
        self.steps = steps;
    }

    fn each_term(&mut self, mut visit: impl FnMut(&mut u8)) {
        if let Some(lease) = &mut self.lease {
            visit(&mut lease.term);
        }
        for owner in &mut self.owners {
            visit(&mut owner.term);
        }
        for command in &mut self.commands {
            visit(&mut command.term);
        }
        for record in self.steps.iter_mut().flatten() {
            visit(&mut record.term);
        }
        if let Some(term) = self.astray.as_mut().and_then(Statement::term) {
            visit(term);
        }
    }
}

/// Every host with every record about it that is not a lie.
fn worlds() -> Vec<(World, Option<Shape>)> {
    let mut worlds = Vec::new();
    for form in [Form::Absent, Form::Healthy, Form::Ill, Form::Stopped] {
        for of in [None, Some(Shape::A), Some(Shape::B)] {
            let world = World::new(form, of);
            worlds.push((world, None));
            if form == Form::Absent || of == Some(Shape::A) {
                worlds.push((world, Some(Shape::A)));
            }
        }
    }
    worlds.dedup();
    worlds
}
