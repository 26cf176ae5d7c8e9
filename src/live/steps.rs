//! The steps of a cluster as clients see them: one shape for the API and the
//! command line.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::core::steps::StepRecord;

/// One step of the driver's work on a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct StepView {
    /// The driver that has the step.
    pub driver: String,
    /// Its name.
    pub name: String,
    /// Its place in the order, from 1.
    pub position: i32,
    /// How many steps the driver has.
    pub total: i32,
    /// The version of the step that wrote this.
    pub version: i32,
    /// Whether its failure fails the cluster; otherwise it is tried again while the cluster runs.
    pub required: bool,
    /// `pending`, `running`, `done`, `failed`, `skipped`, `removing` or `removed`.
    pub state: &'static str,
    /// Attempts in a row that failed, and the one under way.
    pub attempt: u32,
    /// Why it is in this state, as a word.
    pub reason: Option<String>,
    /// Why it is in this state, in a sentence.
    pub message: Option<String>,
    /// When it last began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it last ended; none while it runs.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// When a failed best-effort step is tried again.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_try_at: Option<Timestamp>,
}

impl StepView {
    /// Recorded steps, in the same order.
    pub fn of_records(records: Vec<StepRecord>) -> Vec<Self> {
        records.into_iter().map(Self::of).collect()
    }

    fn of(record: StepRecord) -> Self {
        Self {
            driver: record.driver,
            name: record.name,
            position: record.position,
            total: record.total,
            version: record.version,
            required: record.required,
            state: record.state.as_str(),
            attempt: record.attempt,
            reason: record.reason,
            message: record.message,
            started_at: record.started_at,
            finished_at: record.finished_at,
            next_try_at: record.next_try_at,
        }
    }
}
