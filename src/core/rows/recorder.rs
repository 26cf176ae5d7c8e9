//! Statuses that are written at the same time go in one statement.
//!
//! While nothing is being written, a status goes at once and alone. Those that
//! come while enough statements are under way wait for the next one and go
//! together. In a batch no row waits for another writer's lock: what is locked, and
//! what makes the whole batch fail, is written alone, so that one row neither
//! delays nor spoils the others. This module decides nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::claim::leased;
use super::{Lease, Leased, Placement, Rows, Written};
use crate::core::database::{Connections, DatabaseError, column};
use crate::core::object::Object;
use crate::core::steps::StepChange;
use crate::core::table::Statements;

const OPERATION: &str = "write a status";

/// So many statements may be under way until statuses wait for each other.
const UNDER_WAY: usize = 4;

/// A statement that takes longer, most likely because it waits for a lock, does not
/// count any more: it must not hold up the others.
const COUNTED_FOR: Duration = Duration::from_millis(50);

/// One status as it is sent.
pub(super) struct StatusWrite {
    key: String,
    term: i64,
    pub(super) status: Value,
    pub(super) steps: Value,
}

#[derive(Serialize)]
struct Fenced<'a, S> {
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
struct OfRow<'a> {
    row_key: &'a str,
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
        let fenced = Fenced {
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
            term: lease.term.0,
            status: serde_json::to_value(fenced).expect("a status is plain data"),
            steps: Self::steps(lease, steps),
        }
    }

    pub(super) fn steps(lease: &Lease, steps: &[StepChange]) -> Value {
        let of_row = |change| OfRow {
            row_key: &lease.key,
            term: lease.term.0,
            change,
        };
        let steps: Vec<_> = steps.iter().map(of_row).collect();
        serde_json::to_value(steps).expect("a step is plain data")
    }
}

type Answer<T> = Result<Written<T>, DatabaseError>;

struct Waiting<T> {
    write: StatusWrite,
    answer: oneshot::Sender<Answer<T>>,
}

struct State<T> {
    waiting: Vec<Waiting<T>>,
    under_way: usize,
}

/// Writes statuses of one table; cheap to clone.
pub(super) struct Recorder<O: Object> {
    inner: Arc<Inner<O>>,
}

impl<O: Object> Clone for Recorder<O> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

struct Inner<O: Object> {
    connections: Connections,
    statements: Arc<Statements>,
    placement: Arc<Placement>,
    state: Mutex<State<O>>,
}

impl<O: Object> Recorder<O> {
    pub(super) fn new(
        connections: Connections,
        statements: Arc<Statements>,
        placement: Arc<Placement>,
    ) -> Self {
        let state = Mutex::new(State {
            waiting: Vec::new(),
            under_way: 0,
        });
        Self {
            inner: Arc::new(Inner {
                connections,
                statements,
                placement,
                state,
            }),
        }
    }

    /// Writes one status. Dropping the future does not take it back.
    pub(super) async fn write(&self, write: StatusWrite) -> Answer<O> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.inner.state();
            state.waiting.push(Waiting { write, answer });
            if state.under_way < UNDER_WAY {
                state.under_way += 1;
                tokio::spawn(self.inner.clone().flush());
            }
        }
        // The sender is dropped without an answer only if its task panicked.
        answered.await.unwrap_or(Err(DatabaseError::Late {
            operation: OPERATION,
            after: Duration::ZERO,
        }))
    }
}

impl<O: Object> Inner<O> {
    fn state(&self) -> MutexGuard<'_, State<O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits, or the end of one that was under way if nothing does.
    fn next(&self) -> Option<Vec<Waiting<O>>> {
        let mut state = self.state();
        if state.waiting.is_empty() {
            state.under_way -= 1;
            return None;
        }
        Some(std::mem::take(&mut state.waiting))
    }

    async fn flush(self: Arc<Self>) {
        while let Some(mut waiting) = self.next() {
            let mut written = tokio::spawn({
                let this = self.clone();
                async move {
                    if waiting.len() == 1
                        && let Some(one) = waiting.pop()
                    {
                        this.write_alone(one).await;
                    } else {
                        this.write_together(waiting).await;
                    }
                }
            });
            // What is still under way then ends by itself, within its deadline.
            let _ended_or_slow = timeout(COUNTED_FOR, &mut written).await;
        }
    }

    async fn write_alone(&self, one: Waiting<O>) {
        let written = self
            .connections
            .rows(
                OPERATION,
                &self.statements.write_status,
                &[&one.write.status, &self.placement.place, &one.write.steps],
            )
            .await;
        let answer = match written {
            Ok(rows) => Rows::<O>::written(rows.first()),
            Err(error) => Err(error),
        };
        let _receiver_may_be_gone = one.answer.send(answer);
    }

    async fn write_together(&self, waiting: Vec<Waiting<O>>) {
        let statuses: Vec<&Value> = waiting.iter().map(|one| &one.write.status).collect();
        let steps = waiting.iter().flat_map(|one| one.write.steps.as_array());
        let steps = Value::Array(steps.flatten().cloned().collect());
        let written = self
            .connections
            .each(
                OPERATION,
                &self.statements.write_statuses,
                &[&json!(statuses), &self.placement.place, &steps],
                |row| {
                    let lease: (String, i64) = (column(row, "row_key")?, column(row, "row_term")?);
                    Ok((lease, leased::<O>(row)))
                },
            )
            .await;
        let mut written = written.unwrap_or_default();
        let mut alone = Vec::new();
        for one in waiting {
            let written_under =
                |lease: &(String, i64)| lease.0 == one.write.key && lease.1 == one.write.term;
            let found = written.iter().position(|(lease, _)| written_under(lease));
            match found.map(|index| written.swap_remove(index).1) {
                Some(row) => {
                    let answer = row
                        .map(|row| Written::Yes(Box::new(row)))
                        .map_err(|source| DatabaseError::Unreadable {
                            operation: OPERATION,
                            source,
                        });
                    let _receiver_may_be_gone = one.answer.send(answer);
                }
                // Lost, locked by another writer, or spoilt by another row.
                None => alone.push(one),
            }
        }
        join_all(alone.into_iter().map(|one| self.write_alone(one))).await;
    }
}
