//! One run over the steps of a row: what `core::steps::run` does between its
//! effects and its writes. The decisions are the product's.

use kindler::core::steps::decide::Todo;
use kindler::core::steps::{Purpose, Requirement, StepObservation};

use crate::row::{Ended, Shape};
use crate::rules::{Defect, Layout, Rules};
use crate::steps::{Parts, Question, Record, Records, State, observe};
use crate::world::World;

/// What an owner knows of the steps, and how far its run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run {
    /// The records as this owner read and wrote them.
    pub known: Records,
    /// Not written yet.
    pub changes: Records,
    /// Steps before this one are through.
    position: u8,
    /// The step whose start is among the changes or written.
    pub begun: Option<u8>,
    pub failed: bool,
    pub way: Way,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    Make,
    Maintain,
    Remove,
}

/// What a run looks at.
#[derive(Clone, Copy)]
pub struct Sight {
    pub shape: Shape,
    pub world: World,
    pub parts: Parts,
    /// The next look fails.
    pub fails: bool,
}

impl Run {
    pub const NONE: Self = Self {
        known: [None; 3],
        changes: [None; 3],
        position: 0,
        begun: None,
        failed: false,
        way: Way::Make,
    };

    /// A run that has looked at nothing yet.
    pub fn begin(self, way: Way) -> Self {
        Self {
            known: self.known,
            way,
            ..Self::NONE
        }
    }

    /// What is known, without a run.
    pub fn over(self) -> Self {
        self.begin(Way::Make)
    }

    /// The records once the changes are written.
    pub fn after(&self) -> Records {
        applied(self.known, self.changes)
    }

    /// The changes are written.
    pub fn written(&mut self) {
        self.known = self.after();
        self.changes = [None; 3];
    }

    /// Goes on to the next step that has to act: `Run::look_on`.
    pub fn look_on(&mut self, mut sight: Sight, rules: &Rules) {
        let steps = rules.layout.steps();
        self.begun = None;
        while usize::from(self.position) < steps.len() {
            let forward = usize::from(self.position);
            self.position += 1;
            let position = match self.way {
                Way::Make | Way::Maintain => forward,
                Way::Remove => steps.len() - 1 - forward,
            };
            let index = steps[position];
            match self.decide(position, &mut sight, rules) {
                Todo::Nothing
                | Todo::LeaveToNewer
                | Todo::LeaveUnobserved
                | Todo::Wait
                | Todo::Observe => {}
                Todo::Confirm => self.note(index, Record::new(State::Done, sight.shape)),
                Todo::Apply(_) => {
                    self.start(index, sight.shape);
                    return;
                }
                Todo::CannotTell => {
                    self.fail(index, sight.shape, false, rules.layout);
                    if self.failed {
                        return;
                    }
                }
            }
        }
    }

    fn decide(&self, position: usize, sight: &mut Sight, rules: &Rules) -> Todo {
        let index = rules.layout.steps()[position];
        let record = self.known[index].map(|record| Record {
            newer: record.newer && !rules.has(Defect::VersionIgnored),
            ..record
        });
        let state = record.map(|record| record.state);
        if rules.has(Defect::RunningCountsAsDone)
            && self.way != Way::Remove
            && state == Some(State::Running)
        {
            return Todo::Nothing;
        }
        let question = Question {
            layout: rules.layout,
            position,
            shape: sight.shape,
            record,
            purpose: match self.way {
                Way::Maintain => Purpose::Maintain,
                Way::Make | Way::Remove => Purpose::Make,
            },
        };
        if self.way == Way::Remove {
            return question.backward(|| sight.look(index, rules));
        }
        let todo = question.forward(|| sight.look(index, rules));
        if todo == Todo::Nothing && rules.has(Defect::AppliesEveryStep) && self.way == Way::Make {
            return Todo::Apply(kindler::core::steps::decide::ApplyReason::NotInPlace);
        }
        todo
    }

    fn start(&mut self, index: usize, shape: Shape) {
        let state = match self.way {
            Way::Make | Way::Maintain => State::Running,
            Way::Remove => State::Removing,
        };
        self.note(index, Record::new(state, shape));
        self.begun = u8::try_from(index).ok();
    }

    /// The step that acted has ended: `Run::act`.
    pub fn ended(&mut self, shape: Shape, ended: Ended, given_up: bool, layout: Layout) {
        let Some(index) = self.begun.take().map(usize::from) else {
            return;
        };
        match (ended, self.way) {
            (Ended::Badly, _) => self.fail(index, shape, given_up, layout),
            (Ended::Well, Way::Remove) => self.note(index, Record::new(State::Removed, shape)),
            (Ended::Well, _) => self.note(index, Record::new(State::Done, shape)),
        }
    }

    /// `Run::failed`
    fn fail(&mut self, index: usize, shape: Shape, given_up: bool, layout: Layout) {
        let best_effort = layout.requirement(index) == Requirement::BestEffort;
        let backward = self.way == Way::Remove;
        let given_up = given_up && best_effort && backward;
        let next_try = (best_effort && !backward).then_some(true);
        let failed = Record {
            next_try,
            given_up,
            ..Record::new(State::Failed, shape)
        };
        self.note(index, failed);
        self.failed |= !(best_effort && !backward || given_up);
    }

    fn note(&mut self, index: usize, record: Record) {
        self.changes[index] = Some(record);
    }
}

impl Sight {
    fn look(&mut self, index: usize, rules: &Rules) -> StepObservation {
        if std::mem::take(&mut self.fails) {
            return StepObservation::Unknown("no answer".into());
        }
        let blind = rules.has(Defect::LooksMissTheInput);
        observe(index, self.shape, self.world, self.parts, blind)
    }
}

/// The records after a write: what a newer release wrote stays.
pub fn applied(mut records: Records, changes: Records) -> Records {
    for (record, change) in records.iter_mut().zip(changes) {
        let newer = record.is_some_and(|record| record.newer);
        if let Some(change) = change.filter(|_| !newer) {
            *record = Some(change);
        }
    }
    records
}
