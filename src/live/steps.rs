//! The steps of a cluster as clients see them: the same JSON in the API and the CLI.

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
    /// Its position in the order, from 1.
    pub position: i32,
    /// How many steps the driver has.
    pub total: i32,
    /// The version of the step that wrote this record.
    pub version: i32,
    /// Whether its failure fails the cluster; a best-effort step is retried while the cluster runs.
    pub required: bool,
    /// `pending`, `running`, `done`, `failed`, `skipped`, `removing` or `removed`.
    pub state: &'static str,
    /// Failed attempts in a row, plus the one in progress.
    pub attempt: u32,
    /// The reason for the state, as one word.
    pub reason: Option<String>,
    /// The reason for the state, as a sentence.
    pub message: Option<String>,
    /// When it last started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it last ended; null while it runs.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// When a failed best-effort step is retried.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_try_at: Option<Timestamp>,
}

impl StepView {
    /// Converts step records; keeps their order.
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
