//! The right to act: claiming, renewing, writing under the fence, removing,
//! releasing; and finding what is due.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::lease::Term;
use crate::plan::{Applied, Status};

use super::rows::{self, HeldRow, Undecodable, column};
use super::{Store, StoreError, queries};

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

impl Store {
    /// Claims a cluster, if it is due and nobody holds it.
    ///
    /// # Errors
    /// [`StoreError`] if the database does not answer; the claim may or may
    /// not stand then, and ends with its lifetime.
    pub async fn claim(&self, key: &str, owner: &str, ttl: Duration) -> Result<Claim, StoreError> {
        let operation = "claim a cluster";
        let unreadable = |source| StoreError::Unreadable { operation, source };
        let found = self
            .rows(
                operation,
                &queries::CLAIM_CLUSTER,
                &[&key, &owner, &ttl.as_secs_f64()],
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
    /// [`StoreError`], also when the row cannot be read any more.
    pub async fn renew(
        &self,
        key: &str,
        term: Term,
        ttl: Duration,
    ) -> Result<Option<HeldRow>, StoreError> {
        let operation = "renew a lease";
        let found = self
            .rows(
                operation,
                &queries::RENEW_LEASE,
                &[&key, &term.0, &ttl.as_secs_f64()],
            )
            .await?;
        found
            .first()
            .map(rows::held)
            .transpose()
            .map_err(|source| StoreError::Unreadable { operation, source })
    }

    /// Gives a lease back, if it still stands.
    ///
    /// # Errors
    /// [`StoreError`]; the lease then ends with its lifetime.
    pub async fn release(&self, key: &str, term: Term) -> Result<(), StoreError> {
        self.execute("release a lease", &queries::RELEASE_LEASE, &[&key, &term.0])
            .await
            .map(drop)
    }

    /// Gives back every lease of an owner that is ending.
    ///
    /// # Errors
    /// [`StoreError`]; the leases then end with their lifetime.
    pub async fn release_all(&self, owner: &str) -> Result<u64, StoreError> {
        self.execute("release all leases", &queries::RELEASE_LEASES_OF, &[&owner])
            .await
    }

    /// Writes a status under the fence: while `term` holds, and only onto the
    /// generation and state that the decision was made on.
    ///
    /// # Errors
    /// [`StoreError`]; after [`StoreError::Late`] it may or may not be written,
    /// so read again before acting.
    pub async fn write_status(
        &self,
        held: &HeldRow,
        term: Term,
        status: &Status,
    ) -> Result<Written, StoreError> {
        let cluster = &held.cluster;
        let found = self
            .write(
                cluster.name.as_str(),
                term,
                cluster.generation,
                cluster.actual.as_str(),
                &held.spec_hash,
                status,
            )
            .await?;
        let row = found
            .first()
            .map(rows::held)
            .transpose()
            .map_err(|source| StoreError::Unreadable {
                operation: "write a status",
                source,
            })?;
        Ok(row.map_or(Written::Lost, |row| Written::Yes(Box::new(row))))
    }

    /// Writes a status onto a row that cannot be read, so that a person sees
    /// what is wrong with it.
    ///
    /// # Errors
    /// [`StoreError`], for example when the row breaks a constraint.
    pub async fn write_unreadable(
        &self,
        key: &str,
        claimed: &Claimed,
        status: &Status,
    ) -> Result<(), StoreError> {
        self.write(
            key,
            claimed.term,
            claimed.generation,
            &claimed.actual,
            "",
            status,
        )
        .await
        .map(drop)
    }

    async fn write(
        &self,
        key: &str,
        term: Term,
        generation: i64,
        was: &str,
        spec_hash: &str,
        status: &Status,
    ) -> Result<Vec<Row>, StoreError> {
        let forget = status.applied == Applied::Cleared;
        let proven = (status.applied == Applied::Proven).then_some(spec_hash);
        let counts = [status.failed_attempts, status.health_failures]
            .map(|count| i32::try_from(count).unwrap_or(i32::MAX));
        self.rows(
            "write a status",
            &queries::WRITE_STATUS,
            &[
                &key,
                &term.0,
                &generation,
                &was,
                &status.actual.as_str(),
                &status.reason.as_str(),
                &status.message,
                &status.error,
                &counts[0],
                &status.next_attempt_at,
                &counts[1],
                &status.healthy,
                &status.next_check_at,
                &forget,
                &proven,
                &status.reached,
            ],
        )
        .await
    }

    /// Removes the row of a cluster that is verified gone, under the fence and
    /// only while it is declared absent. `false`: it is not, any more.
    ///
    /// # Errors
    /// [`StoreError`]; after [`StoreError::Late`] look whether it is there.
    pub async fn remove(&self, held: &HeldRow, term: Term) -> Result<bool, StoreError> {
        let cluster = &held.cluster;
        let name = cluster.name.as_str();
        let removed = self
            .execute(
                "remove a cluster's row",
                &queries::REMOVE_CLUSTER,
                &[&name, &term.0, &cluster.generation],
            )
            .await?;
        Ok(removed > 0)
    }

    /// Finds what is due within the horizon and not worked on, oldest first:
    /// keys, and how long until each is due.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due(
        &self,
        horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(String, Duration)>, StoreError> {
        let operation = "find what is due";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = self
            .rows(
                operation,
                &queries::LIST_DUE,
                &[&horizon.as_secs_f64(), &limit],
            )
            .await?;
        found
            .iter()
            .map(|row| Ok((column(row, "name")?, duration(column(row, "in_seconds")?))))
            .collect::<Result<_, Undecodable>>()
            .map_err(|source| StoreError::Unreadable { operation, source })
    }

    /// Finds clusters whose owner stopped renewing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expired(&self, limit: i64) -> Result<Vec<String>, StoreError> {
        let found = self
            .rows("find expired leases", &queries::LIST_EXPIRED, &[&limit])
            .await?;
        Ok(found.iter().map(|row| row.get(0)).collect())
    }
}

/// Seconds of the database as a duration; what has passed already is zero.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
