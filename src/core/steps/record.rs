//! What is recorded of a step, and what is written of it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::core::database::Undecodable;

/// The records of a row, as one JSON value; null if it has none.
pub(crate) const OF_ROW: &str = "(SELECT jsonb_agg(to_jsonb(p) ORDER BY p.driver, p.position) \
    FROM {steps} p WHERE p.uid = {t}.uid)";

/// The reason of a step that was applied.
pub(super) const APPLIED: &str = "Applied";
/// The reason of a step that was found in place.
pub const VERIFIED: &str = "Verified";
/// The reason of a step that was removed.
pub(super) const REMOVED: &str = "Removed";

/// The reasons of steps that ended well.
pub const ENDED_WELL: [&str; 3] = [APPLIED, VERIFIED, REMOVED];

/// The reason of a step whose removal failed.
pub(super) const REMOVAL_FAILED: &str = "RemovalFailed";

/// The reason of a step that was cut short and is not tried again for now.
pub const CUT_SHORT: &str = "Interrupted";

/// The reason of a step whose removal was given up: something of it may be left.
pub const GIVEN_UP: &str = "GivenUp";

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// It was begun; how it ended is not known.
    Running,
    /// It was applied, or found in place.
    Done,
    /// Its last attempt failed.
    Failed,
    /// It does not apply here.
    Skipped,
    /// Its removal was begun; how it ended is not known.
    Removing,
    /// Nothing of it is left.
    Removed,
}

impl StepState {
    /// Every state, so that metrics and tests can name all of them.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Skipped,
        Self::Removing,
        Self::Removed,
    ];

    /// The word in the table, in labels and for people.
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

    /// Whether nothing of the step is there, as far as is recorded.
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

/// A word that names no state of a step.
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

/// What a failed step means for the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// The whole fails.
    Required,
    /// The whole goes on; the step is tried again with a backoff of its own.
    BestEffort,
}

/// One step of a row, as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Whose step it is: two drivers may have steps of one name.
    pub driver: String,
    /// Its name.
    pub name: String,
    /// Its place in the order, from 1.
    pub position: i32,
    /// How many steps its driver had.
    pub total: i32,
    /// The version of the step that wrote this.
    pub version: i32,
    /// Whether its failure fails the whole.
    pub required: bool,
    /// Where it stands.
    pub state: StepState,
    /// Attempts in a row that failed, and the one under way.
    pub attempt: u32,
    /// Why it stands there, as a word.
    pub reason: Option<String>,
    /// Why it stands there, in a sentence.
    pub message: Option<String>,
    /// The hash of what the step depended on.
    pub input_hash: Option<String>,
    /// When it last began.
    pub started_at: Option<Timestamp>,
    /// When it last ended; none while it runs.
    pub finished_at: Option<Timestamp>,
    /// When a failed best-effort step is tried again.
    pub next_try_at: Option<Timestamp>,
}

impl StepRecord {
    /// What is written of an attempt that was cut short, once nothing works on the row
    /// any more; none if the step is not recorded as begun.
    pub fn cut_short(&self) -> Option<StepChange> {
        let begun = matches!(self.state, StepState::Running | StepState::Removing);
        begun.then(|| StepChange {
            driver: self.driver.clone(),
            name: self.name.clone(),
            position: self.position,
            total: self.total,
            version: self.version,
            required: self.required,
            state: StepState::Failed,
            attempt: self.attempt,
            reason: Some(CUT_SHORT.to_owned()),
            message: Some("it was cut short; something of it may be there".to_owned()),
            input_hash: self.input_hash.clone(),
            next_try_seconds: None,
        })
    }
}

/// What is to be written of a step; the database adds the times.
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
    /// Seconds until the next try, if there is one.
    pub next_try_seconds: Option<f64>,
}

impl StepChange {
    /// What the write does to the records in memory; `now` stands for the
    /// database's clock.
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
        let begins = matches!(self.state, StepState::Running | StepState::Removing);
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
            started_at: if begins {
                Some(now)
            } else {
                before.and_then(|before| before.started_at)
            },
            finished_at: (!begins && self.state != StepState::Pending).then_some(now),
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
