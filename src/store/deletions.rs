//! Starts deletions. Each is counted in the transaction that commits its intent. A lock
//! lets one such transaction run at a time, so the replicas cannot exceed the cap together.

use std::time::{Duration, Instant};

use deadpool_postgres::Transaction;
use tokio::time::sleep;
use tokio_postgres::Row;

use crate::clusters::plan::{DeletionQueue, Status};
use crate::clusters::{Actual, Cluster};
use crate::core::database::{DatabaseError, Undecodable, column, rows_in};
use crate::core::rows::{Lease, Leased, Rows, Written};
use crate::core::steps::StepChange;

use super::object::ClusterStatus;
use super::{Store, queries};

/// The statement with which a person stops every deletion that has not begun. It can be undone,
/// and starts no cluster that was declared stopped before.
pub const STOP_DELETIONS: &str = "UPDATE clusters SET paused = true \
                                  WHERE desired_state = 'absent' AND NOT protected AND NOT paused";

const OPERATION: &str = "begin a deletion";

/// How long a deletion waits for those that begin at the same time before its caller
/// renews its lease and reads the row again; shorter than the shortest trust in a lease.
const TURN_WITHIN: Duration = Duration::from_secs(1);
/// The pause before the lock is tried again, doubled at most by jitter.
const TURN_PAUSE: Duration = Duration::from_millis(20);

impl Store {
    /// Reads the queue of deletions, calls `decide`, and writes the resulting status
    /// under the fence: the intent to delete, with its count and the first step, or a
    /// deferral. No other deletion can begin in between. If others begin for longer than a
    /// second, nothing is written: [`Written::Lost`], after which the caller reads the row
    /// again and comes back.
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
        let (give_up, mut decide) = (Instant::now() + TURN_WITHIN, Some(decide));
        loop {
            let turn = self.try_begin_deletion(lease, row, (starting, deferred), &mut decide);
            match turn.await? {
                Some(written) => return Ok(written),
                None if Instant::now() >= give_up => return Ok(Written::Lost),
                None => sleep(TURN_PAUSE.mul_f64(1.0 + fastrand::f64())).await,
            }
        }
    }

    /// One attempt, which calls `decide` once it has the lock; `None` while another deletion
    /// begins.
    async fn try_begin_deletion(
        &self,
        lease: &Lease,
        row: &Leased<Cluster>,
        (starting, deferred): (&[StepChange], &[StepChange]),
        decide: &mut Option<impl FnOnce(&DeletionQueue) -> Status>,
    ) -> Result<Option<Written<Cluster>>, DatabaseError> {
        let (name, generation) = (row.object.name.as_str(), row.generation);
        let selector = self.selector();
        let found = self
            .connections
            .in_transaction(OPERATION, async |transaction| {
                let locked = rows_in(transaction, &queries::LOCK_DELETIONS, &[]).await?;
                if !locked.first().is_some_and(|row| row.get("locked")) {
                    return Ok(Ok(None));
                }
                let keys = &[&name as _, &generation as _, &selector as _];
                let read = rows_in(transaction, &queries::READ_DELETION_QUEUE, keys).await?;
                // The statement always returns one row; without it no deletion may begin.
                let Some((read, decide)) = read.first().zip(decide.take()) else {
                    return Ok(Ok(Some(None)));
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
                Ok(Ok(Some(written)))
            })
            .await?;
        let turn = found.map_err(|source| DatabaseError::Unreadable {
            operation: OPERATION,
            source,
        })?;
        turn.map(|row| Rows::<Cluster>::written(row.as_ref()))
            .transpose()
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
