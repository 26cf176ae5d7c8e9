//! Recorded steps in few bytes, and the product's own decisions about one step.
//!
//! Three steps: the network before the cluster, the cluster, and a last step after it.
//! All decisions come from `kindler::core::steps::decide`. The count of attempts is
//! left out: a best-effort removal may be given up at any failure.

use std::sync::OnceLock;

use kindler::clusters::plan::Action;
use kindler::core::steps::decide::{StepDecision, backward, forward};
use kindler::core::steps::{
    Purpose, Requirement, StepFacts, StepObservation, StepRecord, StepState,
};

use crate::host::{Condition, Host};
use crate::row::{EARLIER, LATER, NOW, SpecVersion};
use crate::rules::Layout;

pub const DRIVER: &str = "model";
pub const COUNT: usize = 3;
pub const NETWORK: usize = 0;
pub const CLUSTER: usize = 1;
pub const LAST: usize = 2;
const NAMES: [&str; COUNT] = ["network", "cluster", "last"];

/// A row of `cluster_steps`: the columns that decisions depend on, and the term that
/// committed a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record {
    pub state: State,
    pub input: SpecVersion,
    /// Whether the next try of a failed best-effort step is in the future.
    pub next_try: Option<bool>,
    pub given_up: bool,
    /// Written by a newer release than the one in the model.
    pub newer: bool,
    /// The term that committed a start.
    pub term: u8,
}

/// A [`StepState`] that can be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    Running,
    Done,
    Failed,
    Removing,
    Removed,
}

impl State {
    pub const ALL: [Self; 5] = [
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Removing,
        Self::Removed,
    ];

    fn of_product(self) -> StepState {
        match self {
            Self::Running => StepState::Running,
            Self::Done => StepState::Done,
            Self::Failed => StepState::Failed,
            Self::Removing => StepState::Removing,
            Self::Removed => StepState::Removed,
        }
    }

    pub fn is_start(self) -> bool {
        matches!(self, Self::Running | Self::Removing)
    }
}

pub type Records = [Option<Record>; COUNT];

impl Record {
    pub fn new(state: State, input: SpecVersion) -> Self {
        Self {
            state,
            input,
            next_try: None,
            given_up: false,
            newer: false,
            term: 0,
        }
    }

    pub fn leaves_nothing(&self) -> bool {
        self.state.of_product().leaves_nothing()
    }

    fn recorded(&self, layout: Layout, index: usize) -> StepRecord {
        let at = |ahead| if ahead { LATER } else { EARLIER };
        StepRecord {
            driver: DRIVER.into(),
            name: NAMES[index].into(),
            position: i32::try_from(index + 1).expect("three steps"),
            total: 3,
            version: if self.newer { 2 } else { 1 },
            required: layout.requirement(index) == Requirement::Required,
            state: self.state.of_product(),
            attempt: 1,
            reason: self.given_up.then(|| "GivenUp".into()),
            message: None,
            input_hash: Some(hash(self.input)),
            started_at: None,
            finished_at: None,
            next_try_at: self.next_try.map(at),
        }
    }
}

/// The records as the product reads them.
pub fn recorded(layout: Layout, records: &Records) -> Vec<StepRecord> {
    let record = |(index, record): (usize, &Option<Record>)| {
        record.map(|record| record.recorded(layout, index))
    };
    records.iter().enumerate().filter_map(record).collect()
}

/// The facts about the steps of this layout, for a row with this spec.
pub fn facts(layout: Layout, spec: SpecVersion) -> &'static [StepFacts] {
    static FACTS: OnceLock<Vec<Vec<StepFacts>>> = OnceLock::new();
    let all = FACTS.get_or_init(|| {
        let layouts = Layout::ALL.iter();
        layouts
            .flat_map(|layout| [SpecVersion::A, SpecVersion::B].map(|spec| made(*layout, spec)))
            .collect()
    });
    &all[layout as usize * 2 + usize::from(spec == SpecVersion::B)]
}

fn made(layout: Layout, spec: SpecVersion) -> Vec<StepFacts> {
    let fact = |index| StepFacts {
        name: NAMES[index],
        version: 1,
        requirement: layout.requirement(index),
        observable: layout != Layout::OneCommand,
        input_hash: hash(spec),
    };
    layout.steps().iter().copied().map(fact).collect()
}

fn hash(spec: SpecVersion) -> String {
    format!("{spec:?}")
}

/// The input of the product's next decision about a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    pub layout: Layout,
    /// The index among the steps of the layout.
    pub position: usize,
    pub spec: SpecVersion,
    pub record: Option<Record>,
    pub purpose: Purpose,
}

impl Question {
    fn step(&self) -> usize {
        self.layout.steps()[self.position]
    }

    pub fn forward(&self, observe: impl FnOnce() -> StepObservation) -> StepDecision {
        let facts = &facts(self.layout, self.spec)[self.position];
        let record = self
            .record
            .map(|record| record.recorded(self.layout, self.step()));
        match forward(facts, record.as_ref(), None, self.purpose, NOW) {
            StepDecision::Observe => {
                forward(facts, record.as_ref(), Some(&observe()), self.purpose, NOW)
            }
            decision => decision,
        }
    }

    pub fn backward(&self, observe: impl FnOnce() -> StepObservation) -> StepDecision {
        let facts = &facts(self.layout, self.spec)[self.position];
        let record = self
            .record
            .map(|record| record.recorded(self.layout, self.step()));
        match backward(facts, record.as_ref(), None) {
            StepDecision::Observe => backward(facts, record.as_ref(), Some(&observe())),
            decision => decision,
        }
    }
}

/// The actual effects of the steps other than the cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Artifacts {
    pub network: Option<SpecVersion>,
    pub last: Option<SpecVersion>,
    /// The removal of the last one was given up, and it still exists.
    pub given_up: bool,
}

impl Artifacts {
    pub const NONE: Self = Self {
        network: None,
        last: None,
        given_up: false,
    };

    pub fn set(&mut self, index: usize, artifact: Option<SpecVersion>) {
        match index {
            NETWORK => self.network = artifact,
            LAST => {
                self.last = artifact;
                self.given_up = false;
            }
            _ => unreachable!("the cluster is not an artifact"),
        }
    }

    /// Whether something exists that was not given up.
    pub fn any_left(&self) -> bool {
        self.network.is_some() || (self.last.is_some() && !self.given_up)
    }
}

/// Whether a step is in place as declared: it exists and has this spec.
pub fn in_place(index: usize, spec: SpecVersion, host: Host, artifacts: Artifacts) -> bool {
    match index {
        NETWORK => artifacts.network == Some(spec),
        CLUSTER => host.condition == Condition::Healthy && host.spec == Some(spec),
        _ => artifacts.last == Some(spec),
    }
}

/// The observation of a step. For the last step it shows only whether it exists; its
/// spec is known from the recorded input hash alone. `blind` makes all steps so, which
/// is a defect of a driver.
pub fn observe(
    index: usize,
    spec: SpecVersion,
    host: Host,
    artifacts: Artifacts,
    blind: bool,
) -> StepObservation {
    let shown = match index {
        NETWORK if blind => artifacts.network.is_some(),
        CLUSTER if blind => host.condition == Condition::Healthy,
        LAST => artifacts.last.is_some(),
        _ => in_place(index, spec, host, artifacts),
    };
    if shown {
        StepObservation::InPlace
    } else {
        StepObservation::NotInPlace("it is not there".into())
    }
}

/// Whether a driver of this layout executes an action in steps. A stop has no steps: it
/// keeps part of the cluster's step, and a removed step must leave nothing.
pub fn has_steps(layout: Layout, action: Action) -> bool {
    match layout {
        Layout::AtOnce => false,
        Layout::OneCommand => !matches!(action, Action::Start | Action::Stop),
        Layout::BestEffortLast | Layout::AllRequired => action != Action::Stop,
    }
}
