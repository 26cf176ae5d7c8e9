//! Beginning a deletion: counted in the transaction that commits its intent,
//! one at a time over all replicas, so that none overshoots the cap together
//! with another.

use tokio_postgres::Row;

use crate::clusters::Actual;
use crate::clusters::plan::{DeletionQueue, Status};
use crate::core::lease::Term;

use super::claim::{StatusWrite, Written, written};
use super::rows::HeldRow;
use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::typed;
use crate::core::database::{Undecodable, column};

impl Store {
    /// Writes, under the fence, what `decide` makes of the queue of deletions:
    /// an intent to delete, which is counted with it, or that it waits. Nobody
    /// else begins a deletion between the reading and the writing.
    ///
    /// # Errors
    /// [`DatabaseError`]; after [`DatabaseError::Late`] it may or may not be written,
    /// so read again before acting. An intent that is written is counted.
    pub async fn begin_deletion(
        &self,
        held: &HeldRow,
        term: Term,
        decide: impl FnOnce(&DeletionQueue) -> Status,
    ) -> Result<Written, DatabaseError> {
        let operation = "begin a deletion";
        let (name, generation) = (held.cluster.name.as_str(), held.cluster.generation);
        let mine = typed(&[&name, &generation]);
        let selector = self.selector();
        let asked = typed(&[&name, &generation, &selector]);
        let found = self
            .connections
            .in_transaction(operation, async |transaction| {
                transaction
                    .execute_typed(queries::LOCK_DELETIONS.as_str(), &[])
                    .await?;
                let read = transaction
                    .query_typed_one(queries::READ_DELETION_QUEUE.as_str(), &asked)
                    .await?;
                let status = match queue(&read) {
                    Ok(queue) => decide(&queue),
                    Err(unreadable) => return Ok(Err(unreadable)),
                };
                let write = StatusWrite::of(held, term, &status, self.place());
                let row = transaction
                    .query_typed_opt(queries::WRITE_STATUS.as_str(), &typed(&write.params()))
                    .await?;
                if row.is_some() && status.actual == Actual::Deleting {
                    transaction
                        .execute_typed(queries::COUNT_DELETION.as_str(), &mine)
                        .await?;
                }
                Ok(Ok(row))
            })
            .await?;
        let row = found.map_err(|source| DatabaseError::Unreadable { operation, source })?;
        written(row.as_ref())
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
