//! The rows of one table under leases: claimed, renewed, written under the fence,
//! removed; and what of them is due. The guards are in the statements, so losing
//! is an answer and not an error. This module decides nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::database::{Connections, DatabaseError, Undecodable, column};
use super::lease::Term;
use super::object::Object;
use super::queue::Key;
use super::recorder::{Recorder, StatusWrite};
use super::steps::{Advanced, StepChange, StepRecord, records};
use super::table::Statements;
use super::trust::MonotonicDeadline;

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
    /// The database's clock now, as far as can be told from here.
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
    /// Another owner's to work on, or nobody's: it is placed elsewhere, or this
    /// owner does not select it.
    NotSelected,
    /// There is no such row.
    NoSuchRow,
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

/// The rows of one table; cheap to clone.
pub struct Rows<O: Object> {
    connections: Connections,
    statements: Arc<Statements>,
    placement: Arc<Placement>,
    recorder: Recorder<O>,
}

impl<O: Object> Clone for Rows<O> {
    fn clone(&self) -> Self {
        Self {
            connections: self.connections.clone(),
            statements: self.statements.clone(),
            placement: self.placement.clone(),
            recorder: self.recorder.clone(),
        }
    }
}

impl<O: Object> Rows<O> {
    /// The rows that an owner of this placement works on.
    pub fn new(connections: Connections, placement: Placement) -> Self {
        let (statements, placement) = (Arc::new(Statements::of(&O::TABLE)), Arc::new(placement));
        let recorder = Recorder::new(connections.clone(), statements.clone(), placement.clone());
        Self {
            connections,
            statements,
            placement,
            recorder,
        }
    }

    /// Claims several rows in one statement: those that are due, this owner's to
    /// work on, and held by nobody. Keys that no row has are not in the answer.
    /// `trusted_for` is how long a lease of `ttl` is trusted.
    ///
    /// # Errors
    /// [`DatabaseError`]; claims may or may not stand then, and end with their
    /// lifetime.
    pub async fn claim(
        &self,
        keys: &[Key],
        owner: &Arc<str>,
        ttl: Duration,
        trusted_for: Duration,
    ) -> Result<Vec<(Key, Claim<O>)>, DatabaseError> {
        // Trust counts from before the request that wins the lease.
        let trust = MonotonicDeadline::in_(trusted_for);
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        self.connections
            .each(
                "claim rows",
                &self.statements.claim,
                &[
                    &keys,
                    &&**owner,
                    &ttl.as_secs_f64(),
                    &self.placement.selector,
                ],
                |row| {
                    let key: &str = column(row, "row_key")?;
                    Ok((key.into(), claim::<O>(row, owner, trust)?))
                },
            )
            .await
    }

    /// Renews a lease and reads the row and its steps under it; `None` means that
    /// the lease is lost.
    ///
    /// # Errors
    /// [`DatabaseError`], also when the row cannot be read any more.
    pub async fn renew(
        &self,
        lease: &Lease,
        ttl: Duration,
    ) -> Result<Option<(Leased<O>, Vec<StepRecord>)>, DatabaseError> {
        let mut found = self
            .connections
            .each(
                "renew a lease",
                &self.statements.renew,
                &[
                    &&*lease.key,
                    &lease.uid,
                    &&*lease.owner,
                    &lease.term.0,
                    &ttl.as_secs_f64(),
                    &self.placement.place,
                ],
                |row| Ok((leased::<O>(row)?, records(column(row, "row_steps")?)?)),
            )
            .await?;
        Ok(found.pop())
    }

    /// Gives a lease back, if it still stands.
    ///
    /// # Errors
    /// [`DatabaseError`]; the lease then ends with its lifetime.
    pub async fn release(&self, lease: &Lease) -> Result<(), DatabaseError> {
        self.connections
            .execute(
                "release a lease",
                &self.statements.release,
                &[&&*lease.key, &&*lease.owner, &lease.term.0],
            )
            .await
            .map(drop)
    }

    /// Gives back every lease of an owner that is ending.
    ///
    /// # Errors
    /// [`DatabaseError`]; the leases then end with their lifetime.
    pub async fn release_all(&self, owner: &str) -> Result<u64, DatabaseError> {
        self.connections
            .execute(
                "release all leases",
                &self.statements.release_all,
                &[&owner],
            )
            .await
    }

    /// Writes a status, and what is told of steps with it, under the fence: while
    /// the lease holds, and only onto the row, the generation and the state that
    /// the decision was made on. Writes that are asked for at the same time go in
    /// one statement; one that others hold up, or that is refused, goes alone.
    ///
    /// # Errors
    /// [`DatabaseError`]; after [`DatabaseError::Late`] it may or may not be
    /// written, so read again before acting.
    pub async fn write<T: Sync>(
        &self,
        lease: &Lease,
        decided_on: &Leased<T>,
        status: &O::Status,
        steps: &[StepChange],
    ) -> Result<Written<O>, DatabaseError> {
        let write = StatusWrite::new(lease, decided_on, status, steps);
        self.recorder.write(write).await
    }

    /// What [`Rows::write`] sends for one row, for a caller that needs more
    /// statements in the same transaction: the text, and its parameters.
    pub fn write_statement<T>(
        &self,
        lease: &Lease,
        decided_on: &Leased<T>,
        status: &O::Status,
        steps: &[StepChange],
    ) -> (&str, (Value, Option<String>, Value)) {
        let write = StatusWrite::new(lease, decided_on, status, steps);
        let params = (write.status, self.placement.place.clone(), write.steps);
        (&self.statements.write_status, params)
    }

    /// Reads what the statement of [`Rows::write_statement`] returned.
    ///
    /// # Errors
    /// [`DatabaseError::Unreadable`].
    pub fn written(found: Option<&Row>) -> Result<Written<O>, DatabaseError> {
        let row =
            found
                .map(leased::<O>)
                .transpose()
                .map_err(|source| DatabaseError::Unreadable {
                    operation: "write a status",
                    source,
                })?;
        Ok(row.map_or(Written::Lost, |row| Written::Yes(Box::new(row))))
    }

    /// Writes how steps ended and which one begins, in the middle of work on
    /// `generation`.
    ///
    /// # Errors
    /// [`DatabaseError`]; it may have been written then.
    pub async fn advance(
        &self,
        lease: &Lease,
        generation: i64,
        steps: &[StepChange],
        message: &str,
    ) -> Result<Advanced, DatabaseError> {
        let fence = serde_json::json!({
            "row_key": &*lease.key, "row_uid": lease.uid, "row_owner": &*lease.owner,
            "row_term": lease.term.0, "row_generation": generation,
        });
        let steps = StatusWrite::steps(lease, steps);
        let found = self
            .connections
            .each(
                "write steps",
                &self.statements.advance_steps,
                &[&fence, &message, &steps],
                |row| column::<bool>(row, "row_goes_on"),
            )
            .await?;
        Ok(match found.first() {
            Some(true) => Advanced::GoOn,
            Some(false) => Advanced::PlanAgain,
            None => Advanced::LeaseLost,
        })
    }

    /// Removes a row whose object is verified gone, under the fence and only while
    /// that is declared. `false`: it is not, any more.
    ///
    /// # Errors
    /// [`DatabaseError`]; after [`DatabaseError::Late`] look whether it is there.
    pub async fn remove(&self, lease: &Lease, generation: i64) -> Result<bool, DatabaseError> {
        let removed = self
            .connections
            .execute(
                "remove a row",
                &self.statements.remove,
                &[
                    &&*lease.key,
                    &lease.uid,
                    &&*lease.owner,
                    &lease.term.0,
                    &generation,
                    &self.placement.place,
                ],
            )
            .await?;
        Ok(removed > 0)
    }

    /// Finds what is due within the horizon, this owner's to work on and not
    /// worked on, oldest first: keys, and how long until each is due.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn due(
        &self,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(String, Duration)>, DatabaseError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connections
            .each(
                "find what is due",
                &self.statements.due,
                &[&horizon.as_secs_f64(), &limit, &self.placement.selector],
                |row| {
                    Ok((
                        column(row, "row_key")?,
                        duration(column(row, "in_seconds")?),
                    ))
                },
            )
            .await
    }

    /// Finds rows of this owner's to work on whose lease nobody renewed and that
    /// are due; of others it takes away what is left of the lease.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn expired(&self, limit: i64) -> Result<Vec<String>, DatabaseError> {
        self.connections
            .each(
                "find expired leases",
                &self.statements.expired,
                &[&limit, &self.placement.selector],
                |row| column(row, "row_key"),
            )
            .await
    }
}

fn claim<O: Object>(
    row: &Row,
    owner: &Arc<str>,
    trust: MonotonicDeadline,
) -> Result<Claim<O>, Undecodable> {
    if let Some(term) = column::<Option<i64>>(row, "row_term")? {
        return Ok(Claim::Won(Box::new(Claimed {
            lease: Lease {
                key: column::<&str>(row, "row_key")?.into(),
                uid: column(row, "row_uid")?,
                owner: owner.clone(),
                term: Term(term),
            },
            trust,
            row: read(row, O::read(row))?,
            steps: records(column(row, "row_steps")?)?,
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
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
