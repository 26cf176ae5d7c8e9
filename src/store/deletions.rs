//! Begins deletions. Each one is counted in the transaction that commits its intent,
//! and the replicas take turns by a lock, so that they cannot exceed the cap together.

use tokio_postgres::Row;

use crate::clusters::plan::{DeletionQueue, Status};
use crate::clusters::{Actual, Cluster};
use crate::core::database::{DatabaseError, Param, Undecodable, column};
use crate::core::rows::{Lease, Leased, Rows, Written};
use crate::core::steps::StepChange;

use super::object::ClusterStatus;
use super::{Store, queries};

impl Store {
    /// Reads the queue of deletions, calls `decide`, and writes the resulting status
    /// under the fence: the intent to delete, with its count and the first step, or a
    /// deferral. No other deletion can begin in between.
    ///
    /// # Errors
    /// [`DatabaseError`]; after [`DatabaseError::Late`] the status may or may not be
    /// written, so read again before acting. A written intent is always counted.
    pub async fn begin_deletion(
        &self,
        lease: &Lease,
        row: &Leased<Cluster>,
        steps: &[StepChange],
        decide: impl FnOnce(&DeletionQueue) -> Status,
    ) -> Result<Written<Cluster>, DatabaseError> {
        let operation = "begin a deletion";
        let (name, generation) = (row.object.name.as_str(), row.generation);
        let (connections, selector) = (&self.connections, self.selector());
        let found = connections
            .in_transaction(operation, async |transaction| {
                let run = async |sql: &str, params: &[Param<'_>]| {
                    connections.rows_in(transaction, sql, params).await
                };
                run(&queries::LOCK_DELETIONS, &[]).await?;
                let keys: &[Param<'_>] = &[&name, &generation, &selector];
                let read = run(&queries::READ_DELETION_QUEUE, keys).await?;
                // The statement always returns one row; without it no deletion may begin.
                let Some(read) = read.first() else {
                    return Ok(Ok(None));
                };
                let status = match queue(read) {
                    Ok(queue) => decide(&queue),
                    Err(unreadable) => return Ok(Err(unreadable)),
                };
                let begins = status.actual == Actual::Deleting;
                let steps = if begins { steps } else { &[] };
                let written = ClusterStatus::new(&status, &row.object.spec_hash);
                let (sql, (status, place, steps)) =
                    self.claims.write_statement(lease, row, &written, steps);
                let row = run(sql, &[&status, &place, &steps]).await?.pop();
                if row.is_some() && begins {
                    run(&queries::COUNT_DELETION, &[&name, &generation]).await?;
                }
                Ok(Ok(row))
            })
            .await?;
        let row = found.map_err(|source| DatabaseError::Unreadable { operation, source })?;
        Rows::<Cluster>::written(row.as_ref())
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
