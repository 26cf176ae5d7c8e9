//! The rows of one table under leases: claimed, renewed, written under the fence,
//! removed; and what of them is due. The guards are in the statements, so losing
//! is an answer and not an error. This module decides nothing.

mod claim;
mod recorder;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_postgres::Row;

use super::database::{Connections, DatabaseError, Param, column};
use super::object::Object;
use super::queue::Key;
use super::steps::{Advanced, StepChange, StepRecord, records};
use super::table::{Remove, Renew, Statements};
use super::trust::MonotonicDeadline;

use claim::{claim, duration, leased};
use recorder::{Recorder, StatusWrite};

pub use claim::{Claim, Claimed, Lease, Leased, Placement, Written};

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
    /// work on, and not leased. Keys that no row has are not in the answer.
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
        let several: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let (sql, wanted): (&str, Param<'_>) = match &several[..] {
            [one] => (&self.statements.claim, one),
            _ => (&self.statements.claim_several, &several),
        };
        self.connections
            .each(
                "claim rows",
                sql,
                &[
                    wanted,
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
                &Renew {
                    key: &&*lease.key,
                    uid: &lease.uid,
                    owner: &&*lease.owner,
                    term: &lease.term.0,
                    ttl: &ttl.as_secs_f64(),
                    place: &self.placement.place,
                }
                .values(),
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

    /// Writes a status, and the step changes that belong to it, under the fence: while
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
                &Remove {
                    key: &&*lease.key,
                    uid: &lease.uid,
                    owner: &&*lease.owner,
                    term: &lease.term.0,
                    generation: &generation,
                    place: &self.placement.place,
                }
                .values(),
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

    /// Finds rows of this owner's to work on whose lease has expired and that
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
