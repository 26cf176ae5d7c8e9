//! Rows of a table that `kindler_prepare_table` prepared: their standard columns, and a
//! status that suffices for most resources. A resource that needs more implements
//! [`Object`] with its own status, as the clusters do.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::backoff::Backoff;
use super::controller::Finished;
use super::database::{DatabaseError, Undecodable, column};
use super::object::Object;
use super::resource::Resource;
use super::rows::{Leased, Written};
use super::steps::{StepChange, StepError};
use super::table::Table;
use super::work::{CancelReason, Work};

/// The desired columns of a prepared table.
pub trait RowSpec: Send + Sync + Sized + 'static {
    /// The table: `Table::prepared(prepared_names!("folders", "name"), "t.mode")`.
    const TABLE: Table;

    /// Reads its columns.
    ///
    /// # Errors
    /// [`Undecodable`] concerns this row only.
    fn read(row: &Row) -> Result<Self, Undecodable>;
}

/// A row of a prepared table: the standard columns and the desired ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Standard<T> {
    /// The key.
    pub key: String,
    /// The UID of the row.
    pub uid: Uuid,
    /// When it was declared deleted, if it was.
    pub deleted_at: Option<Timestamp>,
    /// Failed attempts in a row.
    pub failed_attempts: u32,
    /// The generation that was last reached.
    pub observed_generation: i64,
    /// The desired columns.
    pub spec: T,
}

impl<T: RowSpec> Object for Standard<T> {
    type Status = StandardStatus;

    const TABLE: Table = T::TABLE;

    fn read(row: &Row) -> Result<Self, Undecodable> {
        Ok(Self {
            key: column(row, "row_key")?,
            uid: column(row, "row_uid")?,
            deleted_at: column(row, "deleted_at")?,
            failed_attempts: u32::try_from(column::<i32>(row, "failed_attempts")?).unwrap_or(0),
            observed_generation: column(row, "observed_generation")?,
            spec: T::read(row)?,
        })
    }

    fn unreadable(why: &Undecodable, retry: Duration) -> StandardStatus {
        StandardStatus {
            state: StandardState::Failed,
            reason: "RowInvalid",
            message: format!("the row cannot be read: {why}"),
            failed_attempts: 1,
            next_attempt_seconds: Some(retry.as_secs_f64()),
            next_check_seconds: None,
            reached: false,
        }
    }

    fn refused(
        row: &Leased<Self>,
        attempted: Option<&StandardStatus>,
        why: &str,
        backoff: &Backoff,
    ) -> Option<(StandardStatus, Duration)> {
        let attempts = row.object.failed_attempts.saturating_add(1);
        let delay = backoff.delay(attempts, fastrand::f64());
        let status = StandardStatus {
            state: StandardState::Failed,
            reason: "WriteRefused",
            message: why.to_owned(),
            failed_attempts: attempts,
            next_attempt_seconds: Some(delay.as_secs_f64()),
            next_check_seconds: None,
            // The refused result says what the effect has reached.
            reached: attempted.is_some_and(|attempted| attempted.reached),
        };
        Some((status, delay))
    }
}

/// The recorded state of a row of a prepared table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StandardState {
    /// Not reconciled yet.
    Pending,
    /// The intent to work on it is committed; after a crash it must be observed.
    Working,
    /// As declared at the last observation.
    Ready,
    /// The last attempt failed; another follows.
    Failed,
    /// The intent to remove it is committed.
    Deleting,
}

/// What a reconcile writes to a row of a prepared table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StandardStatus {
    /// The new state.
    pub state: StandardState,
    /// Why, as a word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
    /// Failed attempts in a row.
    pub failed_attempts: u32,
    /// Seconds until the next attempt; none: at once, if the row is not as declared.
    pub next_attempt_seconds: Option<f64>,
    /// Seconds until a row that is as declared is reconciled again; none: when it changes.
    pub next_check_seconds: Option<f64>,
    /// Whether this generation is reached.
    pub reached: bool,
}

impl<R, T> Work<R>
where
    R: Resource<Object = Standard<T>>,
    T: RowSpec,
{
    /// Commits the intent, before any effect, and returns the row as it is then; none if
    /// the fence does not hold any more. A reconcile that finds everything as declared
    /// calls [`Work::ready`] without it, so that no event is written.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn begin(
        &self,
        row: Leased<Standard<T>>,
        steps: &[StepChange],
    ) -> Result<Option<Box<Leased<Standard<T>>>>, DatabaseError> {
        let (state, reason) = match row.object.deleted_at {
            None => (StandardState::Working, "Working"),
            Some(_) => (StandardState::Deleting, "Deleting"),
        };
        let status = StandardStatus {
            state,
            reason,
            message: format!("started, attempt {}", row.object.failed_attempts + 1),
            failed_attempts: row.object.failed_attempts,
            next_attempt_seconds: None,
            next_check_seconds: None,
            reached: false,
        };
        Ok(match self.write(&row, &status, steps).await? {
            Written::Yes(row) => {
                self.work_on(row.generation);
                Some(row)
            }
            Written::Lost => None,
        })
    }

    /// Writes how the effect of a reconcile ended: ready, or removed if it is declared
    /// deleted; failed, with the next attempt; nothing if it was cancelled. A ready row
    /// is reconciled again after `check_after`. `steps` are the changes that a run over
    /// steps has not written yet ([`RunEnd::changes`](super::steps::RunEnd)).
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn conclude(
        &self,
        row: &Leased<Standard<T>>,
        ended: Result<String, StepError>,
        cancelled: Option<CancelReason>,
        steps: &[StepChange],
        check_after: Option<Duration>,
        backoff: &Backoff,
    ) -> Result<Finished, DatabaseError> {
        match (ended, cancelled) {
            (_, Some(cancelled)) => Ok(cancelled.finished()),
            (Err(error), None) => self.failed(row, &error, steps, backoff).await,
            (Ok(_), None) if row.object.deleted_at.is_some() => self.gone(row).await,
            (Ok(message), None) => self.ready(row, message, steps, check_after).await,
        }
    }

    /// Writes that the object is as declared, and when it is reconciled again.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn ready(
        &self,
        row: &Leased<Standard<T>>,
        message: String,
        steps: &[StepChange],
        check_after: Option<Duration>,
    ) -> Result<Finished, DatabaseError> {
        let status = StandardStatus {
            state: StandardState::Ready,
            reason: "Ready",
            message,
            failed_attempts: 0,
            next_attempt_seconds: None,
            next_check_seconds: check_after.map(|after| after.as_secs_f64()),
            reached: true,
        };
        self.settle(row, &status, steps, Finished::Settled(check_after))
            .await
    }

    /// Writes a failure and the time of the next attempt.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn failed(
        &self,
        row: &Leased<Standard<T>>,
        error: &StepError,
        steps: &[StepChange],
        backoff: &Backoff,
    ) -> Result<Finished, DatabaseError> {
        let attempts = row.object.failed_attempts.saturating_add(1);
        let jitter = fastrand::f64();
        let delay = match error {
            StepError::Permanent { .. } => backoff.longest(jitter),
            _ => backoff.delay(attempts, jitter),
        };
        let status = StandardStatus {
            state: StandardState::Failed,
            reason: error.reason(),
            message: error.to_string(),
            failed_attempts: attempts,
            next_attempt_seconds: Some(delay.as_secs_f64()),
            next_check_seconds: None,
            reached: false,
        };
        self.settle(row, &status, steps, Finished::Failed(delay))
            .await
    }

    async fn settle(
        &self,
        row: &Leased<Standard<T>>,
        status: &StandardStatus,
        steps: &[StepChange],
        finished: Finished,
    ) -> Result<Finished, DatabaseError> {
        Ok(match self.write_result(row, status, steps).await? {
            Written::Yes(_) => finished,
            Written::Lost => Finished::AGAIN,
        })
    }

    /// Removes a row whose object is verified absent.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn gone(&self, row: &Leased<Standard<T>>) -> Result<Finished, DatabaseError> {
        Ok(if self.remove(row).await? {
            Finished::Settled(None)
        } else {
            Finished::AGAIN
        })
    }
}
