//! What a claim gives: the lease, the row as it was read under it, its steps.

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

/// Which rows an owner works on, in the table's own terms (its `selects` and
/// `placed`); none: on all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// The place of the owner, which its rows stay with.
    pub place: Option<String>,
    /// Which rows that are nowhere yet it selects.
    pub selector: Option<Value>,
}

/// The right to act on one row: the fence of every write and every effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The row.
    pub key: Key,
    /// The identity of the row: another row of the same key has another.
    pub uid: Uuid,
    /// Who holds it.
    pub owner: Arc<str>,
    /// Its term.
    pub term: Term,
}

/// A row that was read under a lease, with what its fence needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Leased<T> {
    /// The row, as the domain sees it.
    pub object: T,
    /// The generation that a decision about it is made on.
    pub generation: i64,
    /// The recorded state that a decision about it is made on.
    pub state: String,
    /// The database's clock when it was read.
    pub read_at: Timestamp,
    /// When it arrived here: by as much as has passed since, the database's
    /// clock has gone on.
    pub received: Instant,
}

impl<T> Leased<T> {
    /// The database's clock now, as far as it is known here.
    pub fn now(&self) -> Timestamp {
        let since = SignedDuration::try_from(self.received.elapsed()).unwrap_or_default();
        self.read_at.checked_add(since).unwrap_or(self.read_at)
    }
}

impl<T, E> Leased<Result<T, E>> {
    /// The row as an object, or why it cannot be read; with its fence either way.
    ///
    /// # Errors
    /// The row with what was wrong with it.
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

/// What became of a claim.
#[derive(Debug)]
pub enum Claim<T> {
    /// It is ours until the lease ends.
    Won(Box<Claimed<T>>),
    /// Another owner works on it; its lease ends in so long, if not renewed.
    Busy {
        /// Until the other lease ends.
        expires_in: Duration,
    },
    /// Nothing is due; the next time, if the row has one.
    NotDue {
        /// Until it is.
        due_in: Option<Duration>,
    },
    /// Not this owner's to work on: it is placed elsewhere, or this
    /// owner does not select it.
    NotSelected,
}

/// A won claim.
#[derive(Debug)]
pub struct Claimed<T> {
    /// The fence of every write and effect.
    pub lease: Lease,
    /// Until when the lease is trusted, counted from before it was asked for.
    pub trust: MonotonicDeadline,
    /// The row, if it can be read. Its generation and state are there in any
    /// case, so that a person can be shown what is wrong with it.
    pub row: Leased<Result<T, Undecodable>>,
    /// Its steps.
    pub steps: Vec<StepRecord>,
}

/// What became of a fenced write.
#[derive(Debug)]
pub enum Written<T> {
    /// It is in the row; this is the row now.
    Yes(Box<Leased<T>>),
    /// The lease, the row, the generation or the state is another by now.
    Lost,
}

pub(super) fn claim<O: Object>(
    row: &Row,
    owner: &Arc<str>,
    trust: MonotonicDeadline,
) -> Result<Claim<O>, Undecodable> {
    if let Some(term) = column::<Option<i64>>(row, "row_term")? {
        // Steps that cannot be read are a matter of this row, as its columns are.
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

/// Seconds of the database as a duration; what has passed already is zero.
pub(super) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
