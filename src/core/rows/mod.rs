//! The rows of one table under leases: finds due rows, claims them, renews and releases
//! leases, writes and removes rows under the fence. The statements check the fence, so a
//! lost lease is a result and not an error. This module decides nothing.

mod claim;
mod recorder;

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
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

/// How many statements of results that are written again may run at once, so that they
/// leave connections for others.
const RETRIES_AT_ONCE: usize = 2;

/// The rows of one table; cheap to clone.
pub struct Rows<O: Object> {
    connections: Connections,
    statements: Arc<Statements>,
    placement: Arc<Placement>,
    recorder: Recorder<O>,
    retries: Arc<Semaphore>,
    /// A database that has issued fewer terms has gone back, and no row is claimed on it.
    seen_terms: Arc<AtomicI64>,
    /// The keys whose last claim has no answer: it may have won.
    unanswered: Arc<Mutex<HashSet<Key>>>,
}

impl<O: Object> Clone for Rows<O> {
    fn clone(&self) -> Self {
        Self {
            connections: self.connections.clone(),
            statements: self.statements.clone(),
            placement: self.placement.clone(),
            recorder: self.recorder.clone(),
            retries: self.retries.clone(),
            seen_terms: self.seen_terms.clone(),
            unanswered: self.unanswered.clone(),
        }
    }
}

impl<O: Object> Rows<O> {
    /// The rows that an owner with this placement works on.
    pub fn new(connections: Connections, placement: Placement) -> Self {
        let (statements, placement) = (Arc::new(Statements::of(&O::TABLE)), Arc::new(placement));
        let recorder = Recorder::new(connections.clone(), statements.clone(), placement.clone());
        Self {
            connections,
            statements,
            placement,
            recorder,
            retries: Arc::new(Semaphore::new(RETRIES_AT_ONCE)),
            seen_terms: Arc::default(),
            unanswered: Arc::default(),
        }
    }

    /// From now on no row is claimed on a database that has issued fewer terms: it was
    /// restored, or promoted without its last commits, and its terms must be raised first.
    pub fn require_terms(&self, seen: i64) {
        self.seen_terms.store(seen, Ordering::Relaxed);
    }

    /// Claims rows in one statement: those that are due, that this owner selects and that
    /// are not leased. The answer omits keys without a row. `trusted_for` is how long a
    /// lease of `ttl` is trusted.
    ///
    /// # Errors
    /// [`DatabaseError`]; the leases may exist then, and expire.
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
        let unanswered: Vec<String> = {
            let unanswered = self.unanswered();
            let ours = keys.iter().filter(|key| unanswered.contains(*key));
            ours.map(ToString::to_string).collect()
        };
        let claims = self
            .connections
            .each(
                "claim rows",
                sql,
                &[
                    wanted,
                    &&**owner,
                    &ttl.as_secs_f64(),
                    &self.placement.selector,
                    &self.seen_terms.load(Ordering::Relaxed),
                    &unanswered,
                ],
                |row| {
                    let key: &str = column(row, "row_key")?;
                    Ok((key.into(), claim::<O>(row, owner, trust)?))
                },
            )
            .await;
        match &claims {
            Ok(_) => keys.iter().for_each(|key| {
                self.unanswered().remove(key);
            }),
            Err(error) if error.is_unreachable() => {
                self.unanswered().extend(keys.iter().cloned());
            }
            Err(_) => {}
        }
        claims
    }

    fn unanswered(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.unanswered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Renews a lease and reads the row and its steps under it; `None` if the lease is
    /// lost.
    ///
    /// # Errors
    /// [`DatabaseError`], also if the row cannot be read any more.
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

    /// Releases a lease, if it is still held under this term.
    ///
    /// # Errors
    /// [`DatabaseError`]; the lease then expires.
    pub async fn release(&self, lease: &Lease) -> Result<(), DatabaseError> {
        self.connections
            .execute(
                "release a lease",
                &self.statements.release,
                &[&&*lease.key, &lease.uid, &&*lease.owner, &lease.term.0],
            )
            .await
            .map(drop)
    }

    /// Releases all leases of an owner that ends.
    ///
    /// # Errors
    /// [`DatabaseError`]; the leases then expire.
    pub async fn release_all(&self, owner: &str) -> Result<u64, DatabaseError> {
        self.connections
            .execute(
                "release all leases",
                &self.statements.release_all,
                &[&owner],
            )
            .await
    }

    /// Writes a status and its step changes under the fence: only while the lease is held,
    /// and only to a row with the UID, generation and state of the decision. Writes that
    /// arrive at the same time share one statement; one whose row is locked, or that
    /// fails in a batch, is sent alone.
    ///
    /// # Errors
    /// [`DatabaseError`]; after [`DatabaseError::Late`] it may or may not be written, so
    /// read again before acting.
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

    /// The statement and parameters that [`Rows::write`] sends for one row, for a caller
    /// that needs more statements in the same transaction.
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

    /// Reads the result of the statement of [`Rows::write_statement`].
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

    /// Writes the ends of steps and the start of the next one, during work on
    /// `generation`.
    ///
    /// # Errors
    /// [`DatabaseError`]; it may be written then.
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
        let write = async |message: &str, steps: &Value| {
            self.connections
                .each(
                    "write steps",
                    &self.statements.advance_steps,
                    &[&fence, &message, steps],
                    |row| column::<bool>(row, "row_goes_on"),
                )
                .await
        };
        let steps = StatusWrite::steps(lease, steps);
        let found = match write(message, &steps).await {
            Err(DatabaseError::Unencodable { .. }) => {
                let message = self.connections.storable(&message.into()).await;
                let steps = self.connections.storable(&steps).await;
                write(message.as_str().unwrap_or_default(), &steps).await?
            }
            written => written?,
        };
        Ok(match found.first() {
            Some(true) => Advanced::GoOn,
            Some(false) => Advanced::PlanAgain,
            None => Advanced::LeaseLost,
        })
    }

    /// Waits for the turn to write a result again.
    pub(super) async fn turn_to_retry(&self) -> Option<SemaphorePermit<'_>> {
        // An error only means that the semaphore is closed, which it never is.
        self.retries.acquire().await.ok()
    }

    /// Whether another session has locked a row, so that a write would wait for it.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub(super) async fn is_locked(&self, lease: &Lease) -> Result<bool, DatabaseError> {
        let found = self
            .connections
            .each(
                "check the lock of a row",
                &self.statements.is_locked,
                &[&&*lease.key],
                |row| column(row, "row_locked"),
            )
            .await?;
        Ok(found.first() == Some(&true))
    }

    /// Removes a row whose object is verified absent, under the fence and only while it is
    /// declared deleted. `false` if the fence or the declaration does not hold any more.
    ///
    /// # Errors
    /// [`DatabaseError`]; after [`DatabaseError::Late`] check whether the row exists.
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

    /// Finds rows that are due within the horizon, that this owner selects and that are
    /// not leased, oldest first in each class, the classes in turn: keys, each with the time
    /// until it is due.
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

    /// Finds due rows that this owner selects and whose lease has expired. Deletes the
    /// expired leases of rows that are not due.
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
