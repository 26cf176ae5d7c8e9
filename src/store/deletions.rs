//! Begins deletions. Each one is counted in the transaction that commits its intent,
//! and the replicas take turns by a lock, so that they cannot exceed the cap together.

use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use crate::clusters::plan::{DeletionQueue, Status};
use crate::clusters::{Actual, Cluster};
use crate::core::database::{DatabaseError, Undecodable, column, rows_in};
use crate::core::rows::{Lease, Leased, Rows, Written};
use crate::core::steps::StepChange;

use super::object::ClusterStatus;
use super::{Store, queries};

const OPERATION: &str = "begin a deletion";

impl Store {
    /// Reads the queue of deletions, calls `decide`, and writes the resulting status
    /// under the fence: the intent to delete, with its count and the first step, or a
    /// deferral. No other deletion can begin in between.
    ///
    /// The step changes are those to write if it starts, and those if it is deferred.
    ///
    /// # Errors
    /// [`DatabaseError`]; after [`DatabaseError::Late`] the status may or may not be
    /// written, so read again before acting. A written intent is always counted.
    pub async fn begin_deletion(
        &self,
        lease: &Lease,
        row: &Leased<Cluster>,
        (starting, deferred): (&[StepChange], &[StepChange]),
        decide: impl FnOnce(&DeletionQueue) -> Status,
    ) -> Result<Written<Cluster>, DatabaseError> {
        let (name, generation) = (row.object.name.as_str(), row.generation);
        let selector = self.selector();
        let found = self
            .connections
            .in_transaction(OPERATION, async |transaction| {
                rows_in(transaction, &queries::LOCK_DELETIONS, &[]).await?;
                let keys = &[&name as _, &generation as _, &selector as _];
                let read = rows_in(transaction, &queries::READ_DELETION_QUEUE, keys).await?;
                // The statement always returns one row; without it no deletion may begin.
                let Some(read) = read.first() else {
                    return Ok(Ok(None));
                };
                let status = match queue(read) {
                    Ok(queue) => decide(&queue),
                    Err(unreadable) => return Ok(Err(unreadable)),
                };
                let begins = status.actual == Actual::Deleting;
                let steps = if begins { starting } else { deferred };
                let written = self
                    .write_counted(transaction, lease, row, &status, steps)
                    .await?;
                Ok(Ok(written))
            })
            .await?;
        let row = found.map_err(|source| DatabaseError::Unreadable {
            operation: OPERATION,
            source,
        })?;
        Rows::<Cluster>::written(row.as_ref())
    }

    /// The same where no cap is set: the deletion is counted, because another replica
    /// may have a cap, and waits for no other one.
    ///
    /// # Errors
    /// As [`Store::begin_deletion`].
    pub async fn begin_uncapped_deletion(
        &self,
        lease: &Lease,
        row: &Leased<Cluster>,
        steps: &[StepChange],
        intent: &Status,
    ) -> Result<Written<Cluster>, DatabaseError> {
        let row = self
            .connections
            .in_transaction(OPERATION, async |transaction| {
                self.write_counted(transaction, lease, row, intent, steps)
                    .await
            })
            .await?;
        Rows::<Cluster>::written(row.as_ref())
    }

    /// Writes a status; an intent to delete that is written is counted.
    async fn write_counted(
        &self,
        transaction: &Transaction<'_>,
        lease: &Lease,
        row: &Leased<Cluster>,
        status: &Status,
        steps: &[StepChange],
    ) -> Result<Option<Row>, tokio_postgres::Error> {
        let written = ClusterStatus::new(status, &row.object.spec_hash);
        let (sql, (json, place, steps)) = self.claims.write_statement(lease, row, &written, steps);
        let found = rows_in(transaction, sql, &[&json, &place, &steps]).await?;
        let found = found.into_iter().next();
        if found.is_some() && status.actual == Actual::Deleting {
            let counted = &[&row.object.name.as_str() as _, &row.generation as _];
            rows_in(transaction, &queries::COUNT_DELETION, counted).await?;
        }
        Ok(found)
    }
}

fn queue(row: &Row) -> Result<DeletionQueue, Undecodable> {
    let count = |name| column::<i64>(row, name).map(|count| usize::try_from(count).unwrap_or(0));
    Ok(DeletionQueue {
        now: column(row, "read_at")?,
        counted: column(row, "counted")?,
        begun: column(row, "begun")?,
        ahead: count("ahead")?,
        behind: count("behind")?,
    })
}
