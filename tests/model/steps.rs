//! Recorded steps in few bytes, and the product's own decisions about one step.
//!
//! Three steps: the network before the cluster, the cluster, and what comes after
//! it. Everything that decides is asked of `kindler::core::steps::decide`. Left out
//! is the count of attempts: a best-effort removal may be given up at any failure.

use std::sync::OnceLock;

use kindler::clusters::plan::Action;
use kindler::core::steps::decide::{Todo, backward, forward};
use kindler::core::steps::{
    Purpose, Requirement, StepFacts, StepObservation, StepRecord, StepState,
};

use crate::row::{EARLIER, LATER, NOW, Shape};
use crate::rules::Layout;
use crate::world::{Form, World};

pub const DRIVER: &str = "model";
pub const COUNT: usize = 3;
pub const NETWORK: usize = 0;
pub const CLUSTER: usize = 1;
pub const LAST: usize = 2;
const NAMES: [&str; COUNT] = ["network", "cluster", "last"];

/// A row of `cluster_steps`. Only what decisions depend on, and the term that
/// committed a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record {
    pub state: State,
    pub input: Shape,
    /// Whether the next try of a failed best-effort step lies ahead.
    pub next_try: Option<bool>,
    pub given_up: bool,
    /// A release wrote it that is newer than the one in the model.
    pub newer: bool,
    /// Of a start: whose it is.
    pub term: u8,
}

/// A [`StepState`] in an order.
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

    pub fn begins(self) -> bool {
        matches!(self, Self::Running | Self::Removing)
    }
}

pub type Records = [Option<Record>; COUNT];

impl Record {
    pub fn new(state: State, input: Shape) -> Self {
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

/// What is known of the steps of this layout, declared in this shape.
pub fn facts(layout: Layout, shape: Shape) -> &'static [StepFacts] {
    static FACTS: OnceLock<Vec<Vec<StepFacts>>> = OnceLock::new();
    let all = FACTS.get_or_init(|| {
        let layouts = Layout::ALL.iter();
        layouts
            .flat_map(|layout| [Shape::A, Shape::B].map(|shape| made(*layout, shape)))
            .collect()
    });
    &all[layout as usize * 2 + usize::from(shape == Shape::B)]
}

fn made(layout: Layout, shape: Shape) -> Vec<StepFacts> {
    let fact = |index| StepFacts {
        name: NAMES[index],
        version: 1,
        requirement: layout.requirement(index),
        observable: layout != Layout::OneCommand,
        input_hash: hash(shape),
    };
    layout.steps().iter().copied().map(fact).collect()
}

fn hash(shape: Shape) -> String {
    format!("{shape:?}")
}

/// What the product does next about a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    pub layout: Layout,
    /// Among the steps of the layout.
    pub position: usize,
    pub shape: Shape,
    pub record: Option<Record>,
    pub purpose: Purpose,
}

impl Question {
    fn step(&self) -> usize {
        self.layout.steps()[self.position]
    }

    pub fn forward(&self, look: impl FnOnce() -> StepObservation) -> Todo {
        let facts = &facts(self.layout, self.shape)[self.position];
        let record = self
            .record
            .map(|record| record.recorded(self.layout, self.step()));
        match forward(facts, record.as_ref(), None, self.purpose, NOW) {
            Todo::Observe => forward(facts, record.as_ref(), Some(&look()), self.purpose, NOW),
            todo => todo,
        }
    }

    pub fn backward(&self, look: impl FnOnce() -> StepObservation) -> Todo {
        let facts = &facts(self.layout, self.shape)[self.position];
        let record = self
            .record
            .map(|record| record.recorded(self.layout, self.step()));
        match backward(facts, record.as_ref(), None) {
            Todo::Observe => backward(facts, record.as_ref(), Some(&look())),
            todo => todo,
        }
    }
}

/// What is there of the steps beside the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Parts {
    pub network: Option<Shape>,
    pub last: Option<Shape>,
    /// The removal of the last one was given up, and it is still there.
    pub given_up: bool,
}

impl Parts {
    pub const NONE: Self = Self {
        network: None,
        last: None,
        given_up: false,
    };

    pub fn set(&mut self, index: usize, part: Option<Shape>) {
        match index {
            NETWORK => self.network = part,
            LAST => {
                self.last = part;
                self.given_up = false;
            }
            _ => unreachable!("the cluster is no part beside itself"),
        }
    }

    /// Whether something is there that was not given up.
    pub fn anything(&self) -> bool {
        self.network.is_some() || (self.last.is_some() && !self.given_up)
    }
}

/// Whether a step is in place as declared: what there is of it, and of which
/// shape.
pub fn in_place(index: usize, shape: Shape, world: World, parts: Parts) -> bool {
    match index {
        NETWORK => parts.network == Some(shape),
        CLUSTER => world.form == Form::Healthy && world.of == Some(shape),
        _ => parts.last == Some(shape),
    }
}

/// What a look at a step tells. The last one shows whether it is there, but not of
/// which shape: only its input hash tells that. `blind`: so do all, which is a
/// defect of a driver.
pub fn observe(
    index: usize,
    shape: Shape,
    world: World,
    parts: Parts,
    blind: bool,
) -> StepObservation {
    let shown = match index {
        NETWORK if blind => parts.network.is_some(),
        CLUSTER if blind => world.form == Form::Healthy,
        LAST => parts.last.is_some(),
        _ => in_place(index, shape, world, parts),
    };
    if shown {
        StepObservation::InPlace
    } else {
        StepObservation::NotInPlace("it is not there".into())
    }
}

/// Whether a driver of this layout does an action in steps. A stop is at once:
/// it leaves something of the cluster's step, which a removed step must not.
pub fn has_steps(layout: Layout, action: Action) -> bool {
    match layout {
        Layout::AtOnce => false,
        Layout::OneCommand => !matches!(action, Action::Start | Action::Stop),
        Layout::BestEffortLast | Layout::AllRequired => action != Action::Stop,
    }
}
