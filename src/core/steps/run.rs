//! Running steps in order, each recorded before it acts and after it ended.
//! The decisions are [`super::decide`]'s.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::core::backoff::Backoff;
use crate::core::database::DatabaseError;
use crate::core::metrics::StepMetrics;

use super::decide::{self, Purpose, StepFacts, StepObservation, Todo};
use super::record::{APPLIED, REMOVED, StepChange, StepRecord, StepState};
use super::step::{StepError, StepSet};

/// How long one look at one step may take; a step's own bound is shorter.
const OBSERVE_WITHIN: Duration = Duration::from_secs(60);

/// Which way a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Applies steps, first to last.
    Forward(Purpose),
    /// Removes steps, last to first.
    Backward,
}

impl Direction {
    fn operation(self) -> &'static str {
        match self {
            Self::Forward(_) => "apply",
            Self::Backward => "remove",
        }
    }

    /// The state of a step that was begun.
    pub(super) fn begun(self) -> StepState {
        match self {
            Self::Forward(_) => StepState::Running,
            Self::Backward => StepState::Removing,
        }
    }

    /// The state of a step that ended well, and its reason.
    fn done(self) -> (StepState, &'static str) {
        match self {
            Self::Forward(_) => (StepState::Done, APPLIED),
            Self::Backward => (StepState::Removed, REMOVED),
        }
    }
}

/// Whether the work may go on after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advanced {
    /// The next step's start is committed.
    GoOn,
    /// How the last step ended is committed; the row has changed, so plan again.
    PlanAgain,
    /// Nothing is committed: the lease is lost.
    LeaseLost,
}

/// Where steps are recorded in the middle of work, under the fence.
#[async_trait]
pub trait StepLog: Send + Sync {
    /// Writes how steps ended and which one begins, in one statement.
    ///
    /// # Errors
    /// [`DatabaseError`]; it may have been written then.
    async fn advance(
        &self,
        changes: &[StepChange],
        message: &str,
    ) -> Result<Advanced, DatabaseError>;
}

/// How a run ended.
#[derive(Debug)]
pub enum RunResult {
    /// Every step is in place (or gone); failed best-effort steps have a next try.
    Done,
    /// A step failed that the whole needs.
    Failed(StepError),
    /// The row has changed between two steps: plan again.
    PlanAgain,
    /// A step was cut short.
    Interrupted,
    /// The lease is lost.
    LeaseLost,
    /// A write between two steps got no answer.
    Unrecorded(DatabaseError),
}

/// Runs steps without recording them: for drivers and tests that have no row.
///
/// # Errors
/// The failure of the first step that the whole needs.
pub async fn run_unrecorded(set: &StepSet<'_>, direction: Direction) -> Result<(), StepError> {
    struct Unrecorded;
    #[async_trait]
    impl StepLog for Unrecorded {
        async fn advance(&self, _: &[StepChange], _: &str) -> Result<Advanced, DatabaseError> {
            Ok(Advanced::GoOn)
        }
    }
    let now = Timestamp::now();
    let mut run = Run::new(set, &[], direction, Backoff::default(), now, None);
    run.open().await;
    match run.go(&Unrecorded).await.result {
        RunResult::Done => Ok(()),
        RunResult::Failed(error) => Err(error),
        RunResult::PlanAgain
        | RunResult::Interrupted
        | RunResult::LeaseLost
        | RunResult::Unrecorded(_) => Err(StepError::Interrupted),
    }
}

/// A run and what is left to be written of it, with the result.
#[derive(Debug)]
pub struct RunEnd {
    /// How it ended.
    pub result: RunResult,
    /// What is to be written with the result.
    pub changes: Vec<StepChange>,
    /// Which steps could not be seen and were left as they are, each with why.
    pub unseen: Vec<String>,
}

/// One run over the steps of one row.
pub struct Run<'a> {
    // inputs
    pub(super) set: &'a StepSet<'a>,
    pub(super) facts: Vec<StepFacts>,
    pub(super) records: &'a [StepRecord],
    pub(super) direction: Direction,
    pub(super) backoff: Backoff,
    pub(super) now: Timestamp,
    pub(super) metrics: Option<&'a StepMetrics>,
    // internal state
    /// Steps in the order of the run, those before it are through.
    pub(super) position: usize,
    /// Not written yet.
    pub(super) changes: Vec<StepChange>,
    /// The step whose start is among the changes or written.
    pub(super) begun: Option<usize>,
    pub(super) failure: Option<StepError>,
    unseen: Vec<String>,
}

impl<'a> Run<'a> {
    /// A run that has looked at nothing yet. `records` are those of the row, `now`
    /// is the database's clock.
    pub fn new(
        set: &'a StepSet<'a>,
        records: &'a [StepRecord],
        direction: Direction,
        backoff: Backoff,
        now: Timestamp,
        metrics: Option<&'a StepMetrics>,
    ) -> Self {
        Self {
            facts: set.facts(),
            set,
            records,
            direction,
            backoff,
            now,
            metrics,
            position: 0,
            changes: Vec::new(),
            begun: None,
            failure: None,
            unseen: Vec::new(),
        }
    }

    /// Looks for the first step that has to act; what is to be written with the
    /// intent. Changes nothing.
    pub async fn open(&mut self) -> Vec<StepChange> {
        self.look_on().await;
        std::mem::take(&mut self.changes)
    }

    /// Whether a step is to act: false if every step is as it should be.
    pub fn has_work(&self) -> bool {
        self.begun.is_some() || self.failure.is_some()
    }

    /// Which step begins, as in "step 1 of 5: folder"; none if none does, or if there
    /// is only one.
    pub fn begins(&self) -> Option<String> {
        let several = self.facts.len() > 1;
        self.begun
            .filter(|_| several)
            .map(|index| self.message(index))
    }

    /// Which steps could not be seen so far and were left as they are.
    pub fn unseen(&self) -> &[String] {
        &self.unseen
    }

    /// Acts, from the step that [`Run::open`] found, whose start is committed by
    /// now.
    pub async fn go(mut self, log: &dyn StepLog) -> RunEnd {
        let result = self.go_on(log).await;
        if let Some(observer) = &self.set.observer {
            let how = match &result {
                RunResult::Done => Some(Ok(())),
                RunResult::Failed(error) => Some(Err(error)),
                RunResult::PlanAgain
                | RunResult::Interrupted
                | RunResult::LeaseLost
                | RunResult::Unrecorded(_) => None,
            };
            observer.ended(how).await;
        }
        RunEnd {
            result,
            changes: self.changes,
            unseen: self.unseen,
        }
    }

    async fn go_on(&mut self, log: &dyn StepLog) -> RunResult {
        while let Some(index) = self.begun.take() {
            if let Some(cut) = self.act(index).await {
                return cut;
            }
            if self.failure.is_some() {
                break;
            }
            self.look_on().await;
            let Some(next) = self.begun else { break };
            let message = self.message(next);
            match log.advance(&self.changes, &message).await {
                Ok(Advanced::GoOn) => self.changes.clear(),
                Ok(Advanced::PlanAgain) => {
                    self.changes.clear();
                    return RunResult::PlanAgain;
                }
                Ok(Advanced::LeaseLost) => return RunResult::LeaseLost,
                Err(error) => return RunResult::Unrecorded(error),
            }
        }
        self.failure
            .take()
            .map_or(RunResult::Done, RunResult::Failed)
    }

    /// Goes on to the next step that has to act, noting on the way what is in
    /// place and what cannot be seen.
    async fn look_on(&mut self) {
        while self.position < self.set.range.len() {
            let index = self.index();
            self.position += 1;
            let (todo, why) = self.decide(index).await;
            match todo {
                Todo::Nothing | Todo::LeaveToNewer | Todo::Wait | Todo::Observe => {}
                Todo::Confirm => self.confirm(index),
                Todo::Apply(_) => {
                    debug!(step = self.facts[index].name, why, "step begins");
                    self.start(index);
                    return;
                }
                Todo::LeaveUnseen => {
                    let name = self.facts[index].name;
                    debug!(step = name, why, "step cannot be observed");
                    let unseen = format!("step {name} cannot be observed: {why}");
                    self.unseen.push(unseen);
                }
                Todo::CannotTell => {
                    let error = StepError::Transient {
                        summary: format!("it cannot be observed: {why}"),
                        detail: String::new(),
                    };
                    self.failed(index, error);
                    if self.failure.is_some() {
                        return;
                    }
                }
            }
        }
    }

    /// The step at the present position of the run.
    fn index(&self) -> usize {
        match self.direction {
            Direction::Forward(_) => self.set.range.start + self.position,
            Direction::Backward => self.set.range.end - 1 - self.position,
        }
    }

    async fn decide(&self, index: usize) -> (Todo, String) {
        let todo = self.decide_with(index, None);
        if todo != Todo::Observe {
            return (todo, String::new());
        }
        let seen = self.observe(index).await;
        let todo = self.decide_with(index, Some(&seen));
        let why = match seen {
            StepObservation::InPlace => String::new(),
            StepObservation::NotInPlace(why) | StepObservation::Unknown(why) => why,
        };
        (todo, why)
    }

    fn decide_with(&self, index: usize, seen: Option<&StepObservation>) -> Todo {
        let (facts, record) = (&self.facts[index], self.record(index));
        match self.direction {
            Direction::Forward(purpose) => decide::forward(facts, record, seen, purpose, self.now),
            Direction::Backward => decide::backward(facts, record, seen),
        }
    }

    /// Looks at a step. A look that takes too long has seen nothing.
    async fn observe(&self, index: usize) -> StepObservation {
        let look = self.set.steps[index].observe();
        timeout(OBSERVE_WITHIN, look).await.unwrap_or_else(|_| {
            let within = seconds(OBSERVE_WITHIN);
            StepObservation::Unknown(format!("the look did not end within {within}"))
        })
    }

    pub(super) fn record(&self, index: usize) -> Option<&StepRecord> {
        let name = self.facts[index].name;
        self.records
            .iter()
            .find(|record| record.driver == self.set.driver && record.name == name)
    }

    /// Acts on one step; why the run must end at once, if it must.
    async fn act(&mut self, index: usize) -> Option<RunResult> {
        let (name, began) = (self.facts[index].name, Instant::now());
        let acted = self.attempt(index).await;
        let took = began.elapsed();
        let operation = self.direction.operation();
        match acted {
            Err(StepError::Interrupted) => return Some(RunResult::Interrupted),
            Ok(()) => {
                let seconds = took.as_secs_f64();
                self.count(name, took, true);
                info!(step = name, operation, seconds, "step succeeded");
                let (state, reason) = self.direction.done();
                let message = format!("{} in {seconds:.1} s", reason.to_lowercase());
                self.note(index, state, reason, &message);
            }
            Err(error) => {
                self.count(name, took, false);
                let because = error.to_string();
                warn!(step = name, operation, because, "step failed");
                self.failed(index, error);
            }
        }
        None
    }

    fn count(&self, step: &str, took: Duration, well: bool) {
        if let Some(metrics) = self.metrics {
            metrics.ended(
                self.set.driver,
                step,
                self.direction.operation(),
                took,
                well,
            );
        }
    }

    /// One attempt, within the step's deadline; what `apply` reports is believed
    /// only if the step is in place then.
    async fn attempt(&self, index: usize) -> Result<(), StepError> {
        let step = &self.set.steps[index];
        let forward = matches!(self.direction, Direction::Forward(_));
        let work = async {
            if !forward {
                return step.remove().await;
            }
            step.apply().await?;
            if !step.is_observable() {
                return Ok(());
            }
            match self.observe(index).await {
                StepObservation::InPlace => Ok(()),
                StepObservation::NotInPlace(why) | StepObservation::Unknown(why) => {
                    Err(StepError::Transient {
                        summary: format!("it reported success, but {why}"),
                        detail: String::new(),
                    })
                }
            }
        };
        let Some(deadline) = step.deadline() else {
            return work.await;
        };
        timeout(deadline, work).await.unwrap_or_else(|_| {
            Err(StepError::Late {
                summary: format!("not finished within {}", seconds(deadline)),
                detail: String::new(),
            })
        })
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
