//! Runs steps in order and records each before it acts and after it ended.
//! [`super::decide`] decides.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::core::backoff::Backoff;
use crate::core::database::DatabaseError;
use crate::core::metrics::StepMetrics;

use super::decide::{self, Purpose, StepDecision, StepFacts, StepObservation};
use super::record::{APPLIED, REMOVED, StepChange, StepRecord, StepState};
use super::step::{StepError, StepSet};

/// How long the observation of one step may take; steps have shorter bounds of their own.
const OBSERVE_WITHIN: Duration = Duration::from_secs(60);

/// The direction of a run.
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

    /// The state of a started step.
    pub(super) fn started(self) -> StepState {
        match self {
            Self::Forward(_) => StepState::Running,
            Self::Backward => StepState::Removing,
        }
    }

    /// The state and reason of a step that succeeded.
    fn succeeded(self) -> (StepState, &'static str) {
        match self {
            Self::Forward(_) => (StepState::Done, APPLIED),
            Self::Backward => (StepState::Removed, REMOVED),
        }
    }
}

/// Whether a run continues after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advanced {
    /// The start of the next step is committed.
    GoOn,
    /// The end of the last step is committed; the row has changed, so plan again.
    PlanAgain,
    /// Nothing is committed: the lease is lost.
    LeaseLost,
}

/// Records steps during work, under the fence.
#[async_trait]
pub trait StepLog: Send + Sync {
    /// Writes the ends of steps and the start of the next one, in one statement.
    ///
    /// # Errors
    /// [`DatabaseError`]; it may be written then.
    async fn advance(
        &self,
        changes: &[StepChange],
        message: &str,
    ) -> Result<Advanced, DatabaseError>;
}

/// How a run ended.
#[derive(Debug)]
pub enum RunResult {
    /// Every step is in place, or removed; failed best-effort steps have a next attempt.
    Done,
    /// A step failed and ended the run.
    Failed(StepError),
    /// The row changed between two steps: plan again.
    PlanAgain,
    /// A step was cancelled.
    Interrupted,
    /// The lease is lost.
    LeaseLost,
    /// A write between two steps failed.
    Unrecorded(DatabaseError),
}

/// Runs steps without recording them, for drivers and tests that have no row.
///
/// # Errors
/// The failure that ended the run.
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

/// The result of a run, and the changes that are not written yet.
#[derive(Debug)]
pub struct RunEnd {
    /// How it ended.
    pub result: RunResult,
    /// The changes to write with the result.
    pub changes: Vec<StepChange>,
    /// The steps that could not be observed and were not touched, each with the reason.
    pub unobserved: Vec<String>,
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
    /// How many steps are decided, in the order of the run.
    pub(super) position: usize,
    /// Not written yet.
    pub(super) changes: Vec<StepChange>,
    /// The step whose start is among the changes or written.
    pub(super) started: Option<usize>,
    pub(super) failure: Option<StepError>,
    unobserved: Vec<String>,
}

impl<'a> Run<'a> {
    /// A run that has observed nothing yet. `records` are those of the row, `now` is the
    /// database's clock.
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
            started: None,
            failure: None,
            unobserved: Vec::new(),
        }
    }

    /// Finds the first step that must act, and returns the changes to write with the
    /// intent. Has no effect.
    pub async fn open(&mut self) -> Vec<StepChange> {
        self.find_next().await;
        std::mem::take(&mut self.changes)
    }

    /// Whether a step must act, or has failed.
    pub fn has_work(&self) -> bool {
        self.started.is_some() || self.failure.is_some()
    }

    /// The step that starts, as in "step 1 of 5: folder"; none if none does, or if there
    /// is only one.
    pub fn started_step(&self) -> Option<String> {
        let several = self.facts.len() > 1;
        self.started
            .filter(|_| several)
            .map(|index| self.message(index))
    }

    /// The steps that could not be observed so far and were not touched, each with the
    /// reason.
    pub fn unobserved(&self) -> &[String] {
        &self.unobserved
    }

    /// Acts, from the step that [`Run::open`] found. Its start must be committed.
    pub async fn go(mut self, log: &dyn StepLog) -> RunEnd {
        let result = self.run_steps(log).await;
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
            unobserved: self.unobserved,
        }
    }

    async fn run_steps(&mut self, log: &dyn StepLog) -> RunResult {
        while let Some(index) = self.started.take() {
            if let Some(result) = self.act(index).await {
                return result;
            }
            if self.failure.is_some() {
                break;
            }
            self.find_next().await;
            let Some(next) = self.started else { break };
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

    /// Finds the next step that must act, and notes steps before it that are in place or
    /// cannot be observed.
    async fn find_next(&mut self) {
        while self.position < self.set.range.len() {
            let index = self.index();
            self.position += 1;
            let (decision, why) = self.decide(index).await;
            match decision {
                StepDecision::Nothing
                | StepDecision::LeaveToNewer
                | StepDecision::Wait
                | StepDecision::Observe => {}
                StepDecision::Confirm => self.confirm(index),
                StepDecision::Apply(_) => {
                    debug!(step = self.facts[index].name, why, "step starts");
                    self.start(index);
                    return;
                }
                StepDecision::LeaveUnobserved => {
                    let name = self.facts[index].name;
                    debug!(step = name, why, "step cannot be observed");
                    let reason = format!("step {name} cannot be observed: {why}");
                    self.unobserved.push(reason);
                }
                StepDecision::CannotTell => {
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

    /// The index of the step at the current position.
    fn index(&self) -> usize {
        match self.direction {
            Direction::Forward(_) => self.set.range.start + self.position,
            Direction::Backward => self.set.range.end - 1 - self.position,
        }
    }

    async fn decide(&self, index: usize) -> (StepDecision, String) {
        let decision = self.decide_with(index, None);
        if decision != StepDecision::Observe {
            return (decision, String::new());
        }
        let seen = self.observe(index).await;
        let decision = self.decide_with(index, Some(&seen));
        let why = match seen {
            StepObservation::InPlace => String::new(),
            StepObservation::NotInPlace(why) | StepObservation::Unknown(why) => why,
        };
        (decision, why)
    }

    fn decide_with(&self, index: usize, seen: Option<&StepObservation>) -> StepDecision {
        let (facts, record) = (&self.facts[index], self.record(index));
        match self.direction {
            Direction::Forward(purpose) => decide::forward(facts, record, seen, purpose, self.now),
            Direction::Backward => decide::backward(facts, record, seen),
        }
    }

    /// Observes a step; the result is unknown if it takes too long.
    async fn observe(&self, index: usize) -> StepObservation {
        let observation = self.set.steps[index].observe();
        timeout(OBSERVE_WITHIN, observation)
            .await
            .unwrap_or_else(|_| {
                let within = seconds(OBSERVE_WITHIN);
                StepObservation::Unknown(format!("not observed within {within}"))
            })
    }

    pub(super) fn record(&self, index: usize) -> Option<&StepRecord> {
        let name = self.facts[index].name;
        self.records
            .iter()
            .find(|record| record.driver == self.set.driver && record.name == name)
    }

    /// Acts on one step; returns a result if the run must end at once.
    async fn act(&mut self, index: usize) -> Option<RunResult> {
        let (name, started) = (self.facts[index].name, Instant::now());
        let ended = self.attempt(index).await;
        let took = started.elapsed();
        let operation = self.direction.operation();
        match ended {
            Err(StepError::Interrupted) => return Some(RunResult::Interrupted),
            Ok(()) => {
                let seconds = took.as_secs_f64();
                self.count(name, took, true);
                info!(step = name, operation, seconds, "step succeeded");
                let (state, reason) = self.direction.succeeded();
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

    fn count(&self, step: &str, took: Duration, success: bool) {
        if let Some(metrics) = self.metrics {
            metrics.ended(
                self.set.driver,
                step,
                self.direction.operation(),
                took,
                success,
            );
        }
    }

    /// One attempt, within the step's deadline. A success of `apply` counts only if the
    /// step is then observed in place.
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
            let setting = step.deadline_setting();
            let setting = setting
                .as_deref()
                .unwrap_or("no setting changes this limit");
            Err(StepError::Late {
                summary: format!("not finished within {} ({setting})", seconds(deadline)),
                detail: String::new(),
            })
        })
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
