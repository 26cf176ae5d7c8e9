//! The result of a claim: the lease, the row as it was read under it, its steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::core::database::{Undecodable, column};
use crate::core::lease::Term;
use crate::core::object::Object;
use crate::core::queue::Key;
use crate::core::steps::{StepRecord, records};
use crate::core::trust::MonotonicDeadline;

/// Which rows an owner works on, by the table's conditions `selects` and `placed`; all
/// rows if both fields are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// The placement of its rows: rows that are placed with it stay with it.
    pub place: Option<String>,
    /// Which rows without a placement it selects.
    pub selector: Option<Value>,
}

/// The lease of one row, as its owner holds it. Each write checks it; each effect gets its term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The key of the row.
    pub key: Key,
    /// The UID of the row: a later row of the same key has another.
    pub uid: Uuid,
    /// The holder of the lease.
    pub owner: Arc<str>,
    /// The number of the lease.
    pub term: Term,
}

/// A row that was read under a lease, with the values that the fence of a write
/// compares.
#[derive(Clone, Debug, PartialEq)]
pub struct Leased<T> {
    /// The row, as the domain sees it.
    pub object: T,
    /// The generation that decisions about it use.
    pub generation: i64,
    /// The recorded state that decisions about it use.
    pub state: String,
    /// The database's clock when it was read.
    pub read_at: Timestamp,
    /// When it arrived here, to compute the database's clock later.
    pub received: Instant,
}

impl<T> Leased<T> {
    /// The database's clock now, computed from [`Leased::read_at`].
    pub fn now(&self) -> Timestamp {
        let since = SignedDuration::try_from(self.received.elapsed()).unwrap_or_default();
        self.read_at.checked_add(since).unwrap_or(self.read_at)
    }
}

impl<T, E> Leased<Result<T, E>> {
    /// The row as an object, with the same values for the fence.
    ///
    /// # Errors
    /// Why the row cannot be read, with the same values for the fence.
    pub fn readable(self) -> Result<Leased<T>, Leased<E>> {
        fn with<A, B>(row: Leased<A>, object: B) -> (A, Leased<B>) {
            let other = Leased {
                object,
                generation: row.generation,
                state: row.state,
                read_at: row.read_at,
                received: row.received,
            };
            (row.object, other)
        }
        match with(self, ()) {
            (Ok(object), row) => Ok(with(row, object).1),
            (Err(error), row) => Err(with(row, error).1),
        }
    }
}

/// The result of a claim.
#[derive(Debug)]
pub enum Claim<T> {
    /// The claim won the lease.
    Won(Box<Claimed<T>>),
    /// Another owner holds the lease.
    Busy {
        /// The time until that lease expires, if it is not renewed.
        expires_in: Duration,
    },
    /// The row is not due.
    NotDue {
        /// The time until it is, if it will be.
        due_in: Option<Duration>,
    },
    /// The row is placed elsewhere, or this owner does not select it.
    NotSelected,
}

/// A won claim.
#[derive(Debug)]
pub struct Claimed<T> {
    /// The lease that it won.
    pub lease: Lease,
    /// Until when the lease is trusted, counted from before its request.
    pub trust: MonotonicDeadline,
    /// The row, if it can be read. Its generation and state are known in any case, so
    /// that the error can be written to it.
    pub row: Leased<Result<T, Undecodable>>,
    /// Its steps.
    pub steps: Vec<StepRecord>,
}

/// The result of a fenced write.
#[derive(Debug)]
pub enum Written<T> {
    /// It is written; this is the row now.
    Yes(Box<Leased<T>>),
    /// Nothing is written: the lease, the UID, the generation or the state differs.
    Lost,
}

pub(super) fn claim<O: Object>(
    row: &Row,
    owner: &Arc<str>,
    trust: MonotonicDeadline,
) -> Result<Claim<O>, Undecodable> {
    if let Some(term) = column::<Option<i64>>(row, "row_term")? {
        // Steps that cannot be read make this row unreadable, as its columns do.
        let (object, steps) = match column(row, "row_steps").and_then(records) {
            Ok(steps) => (O::read(row), steps),
            Err(why) => (Err(why), Vec::new()),
        };
        return Ok(Claim::Won(Box::new(Claimed {
            lease: Lease {
                key: column::<&str>(row, "row_key")?.into(),
                uid: column(row, "row_uid")?,
                owner: owner.clone(),
                term: Term(term),
            },
            trust,
            row: read(row, object)?,
            steps,
        })));
    }
    if !column::<bool>(row, "row_selected")? {
        return Ok(Claim::NotSelected);
    }
    Ok(if column::<bool>(row, "row_due")? {
        let seconds = column::<Option<f64>>(row, "row_held_seconds")?;
        Claim::Busy {
            expires_in: duration(seconds.unwrap_or(0.0)),
        }
    } else {
        Claim::NotDue {
            due_in: column::<Option<f64>>(row, "row_due_seconds")?.map(duration),
        }
    })
}

pub(super) fn leased<O: Object>(row: &Row) -> Result<Leased<O>, Undecodable> {
    read(row, O::read(row)?)
}

fn read<T>(row: &Row, object: T) -> Result<Leased<T>, Undecodable> {
    Ok(Leased {
        object,
        generation: column(row, "row_generation")?,
        state: column(row, "row_state")?,
        read_at: column(row, "row_read_at")?,
        received: Instant::now(),
    })
}

/// Seconds of the database as a duration; zero if negative.
pub(super) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
