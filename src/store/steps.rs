//! Reads the recorded steps of clusters.

use tokio_postgres::Row;
use uuid::Uuid;

use crate::core::database::{DatabaseError, Undecodable, column};
use crate::core::steps::StepRecord;

use super::{Store, queries};

/// Number of clusters that have a step in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepCount {
    /// The driver.
    pub driver: String,
    /// The step.
    pub step: String,
    /// The state.
    pub state: String,
    /// Number of clusters.
    pub clusters: i64,
}

impl Store {
    /// The recorded steps of a row, in order. They are found by UID, so a reader never
    /// gets the steps of a later row of the name.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn steps(&self, uid: Uuid) -> Result<Vec<StepRecord>, DatabaseError> {
        self.each("list steps", &queries::LIST_STEPS, &[&uid], record)
            .await
    }

    /// Counts the clusters by step and step state.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn step_counts(&self) -> Result<Vec<StepCount>, DatabaseError> {
        self.each("count steps", &queries::COUNT_STEPS, &[], |row| {
            Ok(StepCount {
                driver: column(row, "driver")?,
                step: column(row, "name")?,
                state: column(row, "state")?,
                clusters: column(row, "clusters")?,
            })
        })
        .await
    }
}

fn record(row: &Row) -> Result<StepRecord, Undecodable> {
    let attempt: i32 = column(row, "attempt")?;
    Ok(StepRecord {
        driver: column(row, "driver")?,
        name: column(row, "name")?,
        position: column(row, "position")?,
        total: column(row, "total")?,
        version: column(row, "version")?,
        required: column(row, "required")?,
        state: column::<&str>(row, "state")?
            .parse()
            .map_err(Undecodable::value)?,
        attempt: u32::try_from(attempt).unwrap_or(0),
        reason: column(row, "reason")?,
        message: column(row, "message")?,
        input_hash: column(row, "input_hash")?,
        started_at: column(row, "started_at")?,
        finished_at: column(row, "finished_at")?,
        next_try_at: column(row, "next_try_at")?,
    })
}
