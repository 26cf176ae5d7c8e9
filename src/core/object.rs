//! What the core needs of a row: how it is read, and which status is written to it.

use std::time::Duration;

use serde::Serialize;
use tokio_postgres::Row;

use super::backoff::Backoff;
use super::database::Undecodable;
use super::rows::Leased;
use super::table::Table;

/// A row of a reconciled table, as the domain sees it.
pub trait Object: Send + Sync + Sized + 'static {
    /// What a reconcile writes: serialized, its fields are the table's
    /// `status_columns`.
    type Status: Serialize + Clone + Send + Sync + 'static;

    /// The table, by its names in SQL.
    const TABLE: Table;

    /// Reads the table's `columns`.
    ///
    /// # Errors
    /// [`Undecodable`] concerns this row only.
    fn read(row: &Row) -> Result<Self, Undecodable>;

    /// The status of a row that cannot be read, for this reason. It is reconciled again
    /// after `retry`, and when it changes.
    fn unreadable(why: &Undecodable, retry: Duration) -> Self::Status;

    /// The status of a row after the database refused a write to it, for the reason `why`,
    /// and the delay until the next attempt. `attempted` is the refused status, if it was a
    /// status. None: the row keeps its status; the key is retried with a growing delay.
    fn refused(
        row: &Leased<Self>,
        attempted: Option<&Self::Status>,
        why: &str,
        backoff: &Backoff,
    ) -> Option<(Self::Status, Duration)> {
        let _ = (row, attempted, why, backoff);
        None
    }
}
