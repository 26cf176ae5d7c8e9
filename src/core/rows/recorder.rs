//! Batches status writes that happen at the same time.
//!
//! While few statements run, a status is sent at once and alone. Statuses that arrive
//! while enough statements run wait and are sent together. A batch does not wait for
//! locked rows. A status whose row is locked, or that is in a batch that fails, is sent
//! alone, so that one row neither delays the others nor makes them fail. This module
//! decides nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_postgres::Row;

use super::claim::leased;
use super::{Lease, Leased, Placement, Rows, Written};
use crate::core::database::{Connections, DatabaseError, column};
use crate::core::object::Object;
use crate::core::steps::StepChange;
use crate::core::table::Statements;

const OPERATION: &str = "write a status";

/// How many statements may run before further statuses wait for a batch.
const MAX_RUNNING: usize = 4;

/// A statement that runs longer, most likely because it waits for a lock, is not counted
/// any more, so that it does not delay other statuses.
const COUNTED_FOR: Duration = Duration::from_millis(50);

/// One status as it is sent.
pub(super) struct StatusWrite {
    key: String,
    uid: uuid::Uuid,
    term: i64,
    pub(super) status: Value,
    pub(super) steps: Value,
}

#[derive(Serialize)]
struct FencedStatus<'a, S> {
    row_key: &'a str,
    row_uid: uuid::Uuid,
    row_owner: &'a str,
    row_term: i64,
    row_generation: i64,
    row_was: &'a str,
    #[serde(flatten)]
    status: &'a S,
}

#[derive(Serialize)]
struct FencedStep<'a> {
    row_key: &'a str,
    row_uid: uuid::Uuid,
    term: i64,
    #[serde(flatten)]
    change: &'a StepChange,
}

impl StatusWrite {
    pub(super) fn new<T>(
        lease: &Lease,
        decided_on: &Leased<T>,
        status: &impl Serialize,
        steps: &[StepChange],
    ) -> Self {
        let fenced = FencedStatus {
            row_key: &lease.key,
            row_uid: lease.uid,
            row_owner: &lease.owner,
            row_term: lease.term.0,
            row_generation: decided_on.generation,
            row_was: &decided_on.state,
            status,
        };
        Self {
            key: lease.key.to_string(),
            uid: lease.uid,
            term: lease.term.0,
            status: serde_json::to_value(fenced).expect("a status is plain data"),
            steps: Self::steps(lease, steps),
        }
    }

    pub(super) fn steps(lease: &Lease, steps: &[StepChange]) -> Value {
        let fenced = |change| FencedStep {
            row_key: &lease.key,
            row_uid: lease.uid,
            term: lease.term.0,
            change,
        };
        let steps: Vec<_> = steps.iter().map(fenced).collect();
        serde_json::to_value(steps).expect("a step is plain data")
    }
}

type WriteResult<T> = Result<Written<T>, DatabaseError>;

struct PendingWrite<T> {
    write: StatusWrite,
    result: oneshot::Sender<WriteResult<T>>,
}

struct RecorderState<T> {
    pending: Vec<PendingWrite<T>>,
    running: usize,
}

/// Writes statuses of one table; cheap to clone.
pub(super) struct Recorder<O: Object> {
    inner: Arc<RecorderInner<O>>,
}

impl<O: Object> Clone for Recorder<O> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

struct RecorderInner<O: Object> {
    connections: Connections,
    statements: Arc<Statements>,
    placement: Arc<Placement>,
    state: Mutex<RecorderState<O>>,
}

impl<O: Object> Recorder<O> {
    pub(super) fn new(
        connections: Connections,
        statements: Arc<Statements>,
        placement: Arc<Placement>,
    ) -> Self {
        let state = Mutex::new(RecorderState {
            pending: Vec::new(),
            running: 0,
        });
        Self {
            inner: Arc::new(RecorderInner {
                connections,
                statements,
                placement,
                state,
            }),
        }
    }

    /// Writes one status. Dropping the future does not cancel the write.
    pub(super) async fn write(&self, write: StatusWrite) -> WriteResult<O> {
        let (result, receiver) = oneshot::channel();
        {
            let mut state = self.inner.state();
            state.pending.push(PendingWrite { write, result });
            if state.running < MAX_RUNNING {
                state.running += 1;
                tokio::spawn(self.inner.clone().flush());
            }
        }
        // The sender is dropped without a result only if its task panicked.
        receiver.await.unwrap_or(Err(DatabaseError::Late {
            operation: OPERATION,
            after: Duration::ZERO,
        }))
    }
}

impl<O: Object> RecorderInner<O> {
    fn state(&self) -> MutexGuard<'_, RecorderState<O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the pending writes. If there are none, the calling task ends and is not
    /// counted any more.
    fn next(&self) -> Option<Vec<PendingWrite<O>>> {
        let mut state = self.state();
        if state.pending.is_empty() {
            state.running -= 1;
            return None;
        }
        Some(std::mem::take(&mut state.pending))
    }

    async fn flush(self: Arc<Self>) {
        while let Some(mut pending) = self.next() {
            let mut written = tokio::spawn({
                let this = self.clone();
                async move {
                    if pending.len() == 1
                        && let Some(one) = pending.pop()
                    {
                        this.write_alone(one).await;
                    } else {
                        this.write_batch(pending).await;
                    }
                }
            });
            // A statement that still runs then ends within its own deadline.
            let _ended_or_slow = timeout(COUNTED_FOR, &mut written).await;
        }
    }

    async fn write_alone(&self, one: PendingWrite<O>) {
        let mut written = self.send(&one.write.status, &one.write.steps).await;
        if let Err(DatabaseError::Unencodable { .. }) = written {
            let status = self.connections.storable(&one.write.status).await;
            let steps = self.connections.storable(&one.write.steps).await;
            written = self.send(&status, &steps).await;
        }
        let result = match written {
            Ok(rows) => Rows::<O>::written(rows.first()),
            Err(error) => Err(error),
        };
        let _receiver_may_be_gone = one.result.send(result);
    }

    async fn send(&self, status: &Value, steps: &Value) -> Result<Vec<Row>, DatabaseError> {
        self.connections
            .rows(
                OPERATION,
                &self.statements.write_status,
                &[status, &self.placement.place, steps],
            )
            .await
    }

    async fn write_batch(&self, pending: Vec<PendingWrite<O>>) {
        let statuses: Vec<&Value> = pending.iter().map(|one| &one.write.status).collect();
        let steps = pending.iter().flat_map(|one| one.write.steps.as_array());
        let steps = Value::Array(steps.flatten().cloned().collect());
        let written = self
            .connections
            .each(
                OPERATION,
                &self.statements.write_statuses,
                &[&json!(statuses), &self.placement.place, &steps],
                |row| {
                    let (key, uid) = (column::<String>(row, "row_key")?, column(row, "row_uid")?);
                    Ok(((key, uid, column(row, "row_term")?), leased::<O>(row)))
                },
            )
            .await;
        let mut written = written.unwrap_or_default();
        let mut alone = Vec::new();
        for one in pending {
            let StatusWrite { key, uid, term, .. } = &one.write;
            let written_under = |lease: &(String, uuid::Uuid, i64)| {
                (&lease.0, &lease.1, &lease.2) == (key, uid, term)
            };
            let found = written.iter().position(|(lease, _)| written_under(lease));
            match found.map(|index| written.swap_remove(index).1) {
                Some(row) => {
                    let result = row
                        .map(|row| Written::Yes(Box::new(row)))
                        .map_err(|source| DatabaseError::Unreadable {
                            operation: OPERATION,
                            source,
                        });
                    let _receiver_may_be_gone = one.result.send(result);
                }
                // The fence is lost, the row is locked, or the batch failed.
                None => alone.push(one),
            }
        }
        join_all(alone.into_iter().map(|one| self.write_alone(one))).await;
    }
}
