//! The right to act: claiming, renewing, writing under the fence, removing,
//! releasing; and finding what is due.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::clusters::plan::{Applied, Status};
use crate::core::lease::Term;

use super::rows::{self, HeldRow};
use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::{Undecodable, column};

/// What became of a claim.
#[derive(Debug)]
pub enum Claim {
    /// It is ours until the lease ends.
    Won(Box<Claimed>),
    /// Somebody else works on it; their lease ends in so long, if not renewed.
    Busy {
        /// Until the other lease ends.
        expires_in: Duration,
    },
    /// Nothing is due; the next time, if the row has one.
    NotDue {
        /// Until it is.
        due_in: Option<Duration>,
    },
    /// Another daemon's to work on, or nobody's: it is placed elsewhere, or does
    /// not match this daemon's selector.
    NotSelected,
    /// There is no such row.
    NoSuchRow,
}

/// A won claim.
#[derive(Debug)]
pub struct Claimed {
    /// The fence of every write and spawn.
    pub term: Term,
    /// The row, if it can be read.
    pub row: Result<HeldRow, Undecodable>,
    /// What a status needs to be written to a row that cannot be read.
    pub generation: i64,
    /// The state word as it stands in the row.
    pub actual: String,
    /// The database's clock when it was read.
    pub read_at: Timestamp,
}

/// What became of a fenced write.
#[derive(Debug)]
pub enum Written {
    /// It is in the row; this is the row now.
    Yes(Box<HeldRow>),
    /// The lease, the generation or the state is another by now.
    Lost,
}

/// What is wanted when a status is written.
const WRITE: &str = "write a status";

/// One fenced write of a status: the parameters of `write_status.sql`.
pub(super) struct StatusWrite<'a> {
    key: &'a str,
    term: Term,
    generation: i64,
    was: &'a str,
    status: &'a Status,
    actual: &'static str,
    reason: &'static str,
    failed_attempts: i32,
    health_failures: i32,
    forget: bool,
    proven: Option<&'a str>,
    place: Option<&'a str>,
}

impl<'a> StatusWrite<'a> {
    /// Onto the row that was read, under its fence, by the daemons of this place.
    pub(super) fn of(
        held: &'a HeldRow,
        term: Term,
        status: &'a Status,
        place: Option<&'a str>,
    ) -> Self {
        Self {
            key: held.cluster.name.as_str(),
            term,
            generation: held.cluster.generation,
            was: held.cluster.actual.as_str(),
            place,
            ..Self::values(&held.spec_hash, status)
        }
    }

    fn values(spec_hash: &'a str, status: &'a Status) -> Self {
        let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        Self {
            key: "",
            term: Term(0),
            generation: 0,
            was: "",
            status,
            actual: status.actual.as_str(),
            reason: status.reason.as_str(),
            failed_attempts: count(status.failed_attempts),
            health_failures: count(status.health_failures),
            forget: status.applied == Applied::Cleared,
            proven: (status.applied == Applied::Proven).then_some(spec_hash),
            place: None,
        }
    }

    pub(super) fn params(&self) -> [&(dyn ToSql + Sync); 18] {
        let status = self.status;
        [
            &self.key,
            &self.term.0,
            &self.generation,
            &self.was,
            &self.actual,
            &self.reason,
            &status.message,
            &status.error,
            &self.failed_attempts,
            &status.next_attempt_at,
            &self.health_failures,
            &status.healthy,
            &status.next_check_at,
            &self.forget,
            &self.proven,
            &status.reached,
            &self.place,
            &status.absent,
        ]
    }
}

/// What a fenced write came to.
pub(super) fn written(found: Option<&Row>) -> Result<Written, DatabaseError> {
    let row = found
        .map(rows::held)
        .transpose()
        .map_err(|source| DatabaseError::Unreadable {
            operation: WRITE,
            source,
        })?;
    Ok(row.map_or(Written::Lost, |row| Written::Yes(Box::new(row))))
}

impl Store {
    /// Claims a cluster, if it is due, this daemon's to work on, and nobody holds
    /// it.
    ///
    /// # Errors
    /// [`DatabaseError`] if the database does not answer; the claim may or may
    /// not stand then, and ends with its lifetime.
    pub async fn claim(
        &self,
        key: &str,
        owner: &str,
        ttl: Duration,
    ) -> Result<Claim, DatabaseError> {
        let operation = "claim a cluster";
        let unreadable = |source| DatabaseError::Unreadable { operation, source };
        let found = self
            .rows(
                operation,
                &queries::CLAIM_CLUSTER,
                &[&key, &owner, &ttl.as_secs_f64(), &self.selector()],
            )
            .await?;
        let Some(row) = found.first() else {
            return Ok(Claim::NoSuchRow);
        };
        if let Some(term) = column::<Option<i64>>(row, "term").map_err(unreadable)? {
            return Ok(Claim::Won(Box::new(Claimed {
                term: Term(term),
                row: rows::held(row),
                generation: column(row, "generation").map_err(unreadable)?,
                actual: column(row, "actual_state").map_err(unreadable)?,
                read_at: column(row, "read_at").map_err(unreadable)?,
            })));
        }
        if !column::<bool>(row, "mine").map_err(unreadable)? {
            return Ok(Claim::NotSelected);
        }
        let seconds = |name| column::<Option<f64>>(row, name).map_err(unreadable);
        if column::<bool>(row, "due").map_err(unreadable)? {
            let expires_in = duration(seconds("held_seconds")?.unwrap_or(0.0));
            Ok(Claim::Busy { expires_in })
        } else {
            Ok(Claim::NotDue {
                due_in: seconds("due_seconds")?.map(duration),
            })
        }
    }

    /// Renews a lease and reads the row under it; `None` means that the lease
    /// is lost.
    ///
    /// # Errors
    /// [`DatabaseError`], also when the row cannot be read any more.
    pub async fn renew(
        &self,
        key: &str,
        term: Term,
        ttl: Duration,
    ) -> Result<Option<HeldRow>, DatabaseError> {
        let operation = "renew a lease";
        let found = self
            .rows(
                operation,
                &queries::RENEW_LEASE,
                &[&key, &term.0, &ttl.as_secs_f64(), &self.place()],
            )
            .await?;
        found
            .first()
            .map(rows::held)
            .transpose()
            .map_err(|source| DatabaseError::Unreadable { operation, source })
    }

    /// Gives a lease back, if it still stands.
    ///
    /// # Errors
    /// [`DatabaseError`]; the lease then ends with its lifetime.
    pub async fn release(&self, key: &str, term: Term) -> Result<(), DatabaseError> {
        self.execute("release a lease", &queries::RELEASE_LEASE, &[&key, &term.0])
            .await
            .map(drop)
    }

    /// Gives back every lease of an owner that is ending.
    ///
    /// # Errors
    /// [`DatabaseError`]; the leases then end with their lifetime.
    pub async fn release_all(&self, owner: &str) -> Result<u64, DatabaseError> {
        self.execute("release all leases", &queries::RELEASE_LEASES_OF, &[&owner])
            .await
    }

    /// Writes a status under the fence: while `term` holds, and only onto the
    /// generation and state that the decision was made on.
    ///
    /// # Errors
    /// [`DatabaseError`]; after [`DatabaseError::Late`] it may or may not be written,
    /// so read again before acting.
    pub async fn write_status(
        &self,
        held: &HeldRow,
        term: Term,
        status: &Status,
    ) -> Result<Written, DatabaseError> {
        let write = StatusWrite::of(held, term, status, self.place());
        let found = self
            .rows(WRITE, &queries::WRITE_STATUS, &write.params())
            .await?;
        written(found.first())
    }

    /// Writes a status onto a row that cannot be read, so that a person sees
    /// what is wrong with it.
    ///
    /// # Errors
    /// [`DatabaseError`], for example when the row breaks a constraint.
    pub async fn write_unreadable(
        &self,
        key: &str,
        claimed: &Claimed,
        status: &Status,
    ) -> Result<(), DatabaseError> {
        let write = StatusWrite {
            key,
            term: claimed.term,
            generation: claimed.generation,
            was: &claimed.actual,
            place: self.place(),
            ..StatusWrite::values("", status)
        };
        self.execute(WRITE, &queries::WRITE_STATUS, &write.params())
            .await
            .map(drop)
    }

    /// Removes the row of a cluster that is verified gone, under the fence and
    /// only while it is declared absent. `false`: it is not, any more.
    ///
    /// # Errors
    /// [`DatabaseError`]; after [`DatabaseError::Late`] look whether it is there.
    pub async fn remove(&self, held: &HeldRow, term: Term) -> Result<bool, DatabaseError> {
        let cluster = &held.cluster;
        let name = cluster.name.as_str();
        let removed = self
            .execute(
                "remove a cluster's row",
                &queries::REMOVE_CLUSTER,
                &[&name, &term.0, &cluster.generation, &self.place()],
            )
            .await?;
        Ok(removed > 0)
    }

    /// Finds what is due within the horizon, this daemon's to work on and not
    /// worked on, oldest first: keys, and how long until each is due.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn due(
        &self,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(String, Duration)>, DatabaseError> {
        let operation = "find what is due";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = self
            .rows(
                operation,
                &queries::LIST_DUE,
                &[&horizon.as_secs_f64(), &limit, &self.selector()],
            )
            .await?;
        found
            .iter()
            .map(|row| Ok((column(row, "name")?, duration(column(row, "in_seconds")?))))
            .collect::<Result<_, Undecodable>>()
            .map_err(|source| DatabaseError::Unreadable { operation, source })
    }

    /// Finds clusters of this daemon whose owner stopped renewing and that are
    /// due; of others it takes away what is left of the lease.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn expired(&self, limit: i64) -> Result<Vec<String>, DatabaseError> {
        let found = self
            .rows(
                "find expired leases",
                &queries::LIST_EXPIRED,
                &[&limit, &self.selector()],
            )
            .await?;
        Ok(found.iter().map(|row| row.get(0)).collect())
    }
}

/// Seconds of the database as a duration; what has passed already is zero.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
