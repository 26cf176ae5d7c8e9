//! One run over the steps of a row: the order of effects and writes in
//! `core::steps::run`. The decisions are the product's.

use kindler::core::steps::decide::StepDecision;
use kindler::core::steps::{Purpose, Requirement, StepObservation};

use crate::host::Host;
use crate::row::{CommandResult, SpecVersion};
use crate::rules::{Defect, Layout, Rules};
use crate::steps::{Artifacts, Question, Record, Records, State, observe};

/// The steps that an owner knows, and the progress of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run {
    /// The records as this owner read and wrote them.
    pub known: Records,
    /// Records that are not written yet.
    pub changes: Records,
    /// Steps before this one are finished.
    position: u8,
    /// The step whose start is in the changes or written.
    pub begun: Option<u8>,
    pub failed: bool,
    pub purpose: RunPurpose,
}

/// The purpose of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RunPurpose {
    Make,
    Maintain,
    Remove,
}

/// What a run can observe.
#[derive(Clone, Copy)]
pub struct RunView {
    pub spec: SpecVersion,
    pub host: Host,
    pub artifacts: Artifacts,
    /// The next observation fails.
    pub fails: bool,
}

impl Run {
    pub const NONE: Self = Self {
        known: [None; 3],
        changes: [None; 3],
        position: 0,
        begun: None,
        failed: false,
        purpose: RunPurpose::Make,
    };

    /// A run that has not observed anything yet.
    pub fn begin(self, purpose: RunPurpose) -> Self {
        Self {
            known: self.known,
            purpose,
            ..Self::NONE
        }
    }

    /// Keeps the known records and ends the run.
    pub fn over(self) -> Self {
        self.begin(RunPurpose::Make)
    }

    /// The records once the changes are written.
    pub fn after(&self) -> Records {
        applied(self.known, self.changes)
    }

    /// Notes that the changes are written.
    pub fn written(&mut self) {
        self.known = self.after();
        self.changes = [None; 3];
    }

    /// Advances to the next step that has to act: `Run::find_next`.
    pub fn observe_steps(&mut self, mut view: RunView, rules: &Rules) {
        let steps = rules.layout.steps();
        self.begun = None;
        while usize::from(self.position) < steps.len() {
            let forward = usize::from(self.position);
            self.position += 1;
            let position = match self.purpose {
                RunPurpose::Make | RunPurpose::Maintain => forward,
                RunPurpose::Remove => steps.len() - 1 - forward,
            };
            let index = steps[position];
            match self.decide(position, &mut view, rules) {
                StepDecision::Nothing
                | StepDecision::LeaveToNewer
                | StepDecision::LeaveUnobserved
                | StepDecision::Wait
                | StepDecision::Observe => {}
                StepDecision::Confirm => self.note(index, Record::new(State::Done, view.spec)),
                StepDecision::Apply(_) => {
                    self.start(index, view.spec);
                    return;
                }
                StepDecision::CannotTell => {
                    self.fail(index, view.spec, false, rules.layout);
                    if self.failed {
                        return;
                    }
                }
            }
        }
    }

    fn decide(&self, position: usize, view: &mut RunView, rules: &Rules) -> StepDecision {
        let index = rules.layout.steps()[position];
        let record = self.known[index].map(|record| Record {
            newer: record.newer && !rules.has(Defect::VersionIgnored),
            ..record
        });
        let state = record.map(|record| record.state);
        if rules.has(Defect::RunningCountsAsDone)
            && self.purpose != RunPurpose::Remove
            && state == Some(State::Running)
        {
            return StepDecision::Nothing;
        }
        let question = Question {
            layout: rules.layout,
            position,
            spec: view.spec,
            record,
            purpose: match self.purpose {
                RunPurpose::Maintain => Purpose::Maintain,
                RunPurpose::Make | RunPurpose::Remove => Purpose::Make,
            },
        };
        if self.purpose == RunPurpose::Remove {
            return question.backward(|| view.observe(index, rules));
        }
        let decision = question.forward(|| view.observe(index, rules));
        if decision == StepDecision::Nothing
            && rules.has(Defect::AppliesEveryStep)
            && self.purpose == RunPurpose::Make
        {
            return StepDecision::Apply(kindler::core::steps::decide::ApplyReason::NotInPlace);
        }
        decision
    }

    fn start(&mut self, index: usize, spec: SpecVersion) {
        let state = match self.purpose {
            RunPurpose::Make | RunPurpose::Maintain => State::Running,
            RunPurpose::Remove => State::Removing,
        };
        self.note(index, Record::new(state, spec));
        self.begun = u8::try_from(index).ok();
    }

    /// Records the result of the step that acted: `Run::act`.
    pub fn ended(
        &mut self,
        spec: SpecVersion,
        ended: CommandResult,
        given_up: bool,
        layout: Layout,
    ) {
        let Some(index) = self.begun.take().map(usize::from) else {
            return;
        };
        match (ended, self.purpose) {
            (CommandResult::Failed, _) => self.fail(index, spec, given_up, layout),
            (CommandResult::Succeeded, RunPurpose::Remove) => {
                self.note(index, Record::new(State::Removed, spec))
            }
            (CommandResult::Succeeded, _) => self.note(index, Record::new(State::Done, spec)),
        }
    }

    /// Notes a failed step: `core::steps::notes`.
    fn fail(&mut self, index: usize, spec: SpecVersion, given_up: bool, layout: Layout) {
        let best_effort = layout.requirement(index) == Requirement::BestEffort;
        let backward = self.purpose == RunPurpose::Remove;
        let given_up = given_up && best_effort && backward;
        let next_try = (best_effort && !backward).then_some(true);
        let failed = Record {
            next_try,
            given_up,
            ..Record::new(State::Failed, spec)
        };
        self.note(index, failed);
        self.failed |= !(best_effort && !backward || given_up);
    }

    fn note(&mut self, index: usize, record: Record) {
        self.changes[index] = Some(record);
    }
}

impl RunView {
    fn observe(&mut self, index: usize, rules: &Rules) -> StepObservation {
        if std::mem::take(&mut self.fails) {
            return StepObservation::Unknown("no answer".into());
        }
        let blind = rules.has(Defect::ObservationMissesInput);
        observe(index, self.spec, self.host, self.artifacts, blind)
    }
}

/// The records after a write: those of a newer release are kept.
pub fn applied(mut records: Records, changes: Records) -> Records {
    for (record, change) in records.iter_mut().zip(changes) {
        let newer = record.is_some_and(|record| record.newer);
        if let Some(change) = change.filter(|_| !newer) {
            *record = Some(change);
        }
    }
    records
}
