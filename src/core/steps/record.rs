//! The record of a step, and the changes that are written to it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::database::Undecodable;

/// SQL for the records of a row as one JSON value; null if there is none.
pub(crate) const OF_ROW: &str = "(SELECT jsonb_agg(to_jsonb(p) ORDER BY p.driver, p.position) \
    FROM {steps} p WHERE p.uid = {t}.uid)";

/// The reason of a step that was applied.
pub(super) const APPLIED: &str = "Applied";
/// The reason of a step that was found in place.
pub const VERIFIED: &str = "Verified";
/// The reason of a step that was removed.
pub(super) const REMOVED: &str = "Removed";

/// The reasons of steps that succeeded.
pub const ENDED_WELL: [&str; 3] = [APPLIED, VERIFIED, REMOVED];

/// The reason of a step whose removal failed.
pub(super) const REMOVAL_FAILED: &str = "RemovalFailed";

/// The reason of a step that was interrupted and is not retried for now.
pub const INTERRUPTED: &str = "Interrupted";

/// The reason of a step whose removal was given up; parts of it may be left.
pub const GIVEN_UP: &str = "GivenUp";

/// The state of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Not started.
    Pending,
    /// Started; its end is not recorded.
    Running,
    /// Applied, or found in place.
    Done,
    /// The last attempt failed.
    Failed,
    /// It does not apply.
    Skipped,
    /// Its removal is started; the end is not recorded.
    Removing,
    /// Nothing of it is left.
    Removed,
}

impl StepState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Skipped,
        Self::Removing,
        Self::Removed,
    ];

    /// The word in the table, in labels and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Removing => "removing",
            Self::Removed => "removed",
        }
    }

    /// Whether, by this record, nothing of the step exists.
    pub fn leaves_nothing(self) -> bool {
        match self {
            Self::Pending | Self::Skipped | Self::Removed => true,
            Self::Running | Self::Done | Self::Failed | Self::Removing => false,
        }
    }
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is no state of a step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("state \"{0}\" of a step is not known")]
pub struct UnknownStepState(String);

impl FromStr for StepState {
    type Err = UnknownStepState;

    fn from_str(text: &str) -> Result<Self, UnknownStepState> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| UnknownStepState(text.to_owned()))
    }
}

/// What a failed step means for its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// The object fails.
    Required,
    /// The object does not fail; the step is retried with its own backoff.
    BestEffort,
}

/// One recorded step of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its driver: two drivers may have steps of the same name.
    pub driver: String,
    /// Its name.
    pub name: String,
    /// Its position in the order, from 1.
    pub position: i32,
    /// The number of steps of its driver.
    pub total: i32,
    /// The version of the step that wrote this record.
    pub version: i32,
    /// Whether the object fails if the step fails.
    pub required: bool,
    /// Its state.
    pub state: StepState,
    /// Failed attempts in a row, plus the running one.
    pub attempt: u32,
    /// The reason of its state, as a word.
    pub reason: Option<String>,
    /// The reason of its state, as a sentence.
    pub message: Option<String>,
    /// The hash of the step's input.
    pub input_hash: Option<String>,
    /// When it last started.
    pub started_at: Option<Timestamp>,
    /// When it last ended; none while it runs.
    pub finished_at: Option<Timestamp>,
    /// When a failed best-effort step is retried.
    pub next_try_at: Option<Timestamp>,
}

impl StepRecord {
    /// The change for an interrupted attempt, to write when nothing works on the row any
    /// more; none if the step is not recorded as started.
    pub fn interrupted(&self) -> Option<StepChange> {
        let started = matches!(self.state, StepState::Running | StepState::Removing);
        started.then(|| StepChange {
            driver: self.driver.clone(),
            name: self.name.clone(),
            position: self.position,
            total: self.total,
            version: self.version,
            required: self.required,
            state: StepState::Failed,
            attempt: self.attempt,
            reason: Some(INTERRUPTED.to_owned()),
            message: Some("interrupted; parts of it may exist".to_owned()),
            input_hash: self.input_hash.clone(),
            next_try_seconds: None,
        })
    }
}

/// A change to the record of a step; the database adds the times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepChange {
    /// As in [`StepRecord`].
    pub driver: String,
    /// As in [`StepRecord`].
    pub name: String,
    /// As in [`StepRecord`].
    pub position: i32,
    /// As in [`StepRecord`].
    pub total: i32,
    /// As in [`StepRecord`].
    pub version: i32,
    /// As in [`StepRecord`].
    pub required: bool,
    /// The new state.
    pub state: StepState,
    /// As in [`StepRecord`].
    pub attempt: u32,
    /// As in [`StepRecord`].
    pub reason: Option<String>,
    /// As in [`StepRecord`].
    pub message: Option<String>,
    /// As in [`StepRecord`].
    pub input_hash: Option<String>,
    /// Seconds until the next attempt, if there is one.
    pub next_try_seconds: Option<f64>,
}

impl StepChange {
    /// Applies the change to records in memory, as the database does on a write; `now` is
    /// the database's clock.
    pub fn apply_to(&self, records: &mut Vec<StepRecord>, now: Timestamp) {
        let known = records
            .iter()
            .position(|r| r.driver == self.driver && r.name == self.name);
        let before = known.map(|index| records.remove(index));
        if let Some(before) = &before
            && before.version > self.version
        {
            records.push(before.clone());
            return;
        }
        let starts = matches!(self.state, StepState::Running | StepState::Removing);
        let record = StepRecord {
            driver: self.driver.clone(),
            name: self.name.clone(),
            position: self.position,
            total: self.total,
            version: self.version,
            required: self.required,
            state: self.state,
            attempt: self.attempt,
            reason: self.reason.clone(),
            message: self.message.clone(),
            input_hash: self.input_hash.clone(),
            started_at: if starts {
                Some(now)
            } else {
                before.and_then(|before| before.started_at)
            },
            finished_at: (!starts && self.state != StepState::Pending).then_some(now),
            next_try_at: self.next_try_seconds.and_then(|seconds| {
                let after = jiff::SignedDuration::try_from_secs_f64(seconds).ok()?;
                now.checked_add(after).ok()
            }),
        };
        records.push(record);
        records.sort_by(|a, b| (&a.driver, a.position).cmp(&(&b.driver, b.position)));
    }
}

/// Reads the value of [`OF_ROW`].
pub(crate) fn records(value: Option<serde_json::Value>) -> Result<Vec<StepRecord>, Undecodable> {
    value.map_or_else(
        || Ok(Vec::new()),
        |value| serde_json::from_value(value).map_err(Undecodable::value),
    )
}
