//! Following changes: what was written since an earlier read, exactly, in
//! whatever order transactions commit.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::clusters::Cluster;

use super::rows;
use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::{Undecodable, column};

/// Somebody works on a cluster.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Work {
    /// Who.
    pub owner: String,
    /// Under which fence.
    pub term: i64,
    /// Since when.
    pub since: Timestamp,
}

/// A cluster and who works on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// The row.
    pub cluster: Cluster,
    /// Who holds its lease, if anybody does.
    pub work: Option<Work>,
}

/// What changed since an earlier read.
#[derive(Debug)]
pub struct Changes {
    /// The rows; one that cannot be read stands there with its raw name.
    pub rows: Vec<Result<Live, (String, Undecodable)>>,
    /// How many clusters there are in all.
    pub total: usize,
    /// What to give to the next read.
    pub horizon: String,
}

impl Changes {
    /// What the first read is given: everything.
    pub const BEGINNING: &'static str = "0";
}

impl Store {
    /// What was written since the read that gave `horizon`; a row may be told
    /// again although nothing of it changed.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn changes(&self, horizon: &str) -> Result<Changes, DatabaseError> {
        let operation = "follow changes";
        let unreadable = |source| DatabaseError::Unreadable { operation, source };
        let found = self
            .rows(operation, &queries::LIST_CHANGES, &[&horizon])
            .await?;
        let first = found
            .first()
            .ok_or(DatabaseError::NotMigrated { operation })?;
        let total: i64 = column(first, "total").map_err(unreadable)?;
        let horizon = column(first, "horizon").map_err(unreadable)?;
        let mut rows = Vec::with_capacity(found.len());
        for row in &found {
            let name: Option<String> = column(row, "name").map_err(unreadable)?;
            if let Some(name) = name {
                rows.push(live(row).map_err(|error| (name, error)));
            }
        }
        Ok(Changes {
            rows,
            total: usize::try_from(total).unwrap_or_default(),
            horizon,
        })
    }

    /// The names of all clusters.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn names(&self) -> Result<Vec<String>, DatabaseError> {
        self.each("list the names", &queries::LIST_NAMES, &[], |row| {
            column(row, "name")
        })
        .await
    }

    /// Asks for rings on the page's channel, for `seconds`.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn watch(&self, owner: &str, seconds: f64) -> Result<(), DatabaseError> {
        self.execute("watch", &queries::WATCH, &[&owner, &seconds])
            .await
            .map(drop)
    }

    /// Asks for no more rings.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn unwatch(&self, owner: &str) -> Result<(), DatabaseError> {
        self.execute("watch no more", &queries::UNWATCH, &[&owner])
            .await
            .map(drop)
    }

    /// The channel on which watchers are rung.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn page_channel(&self) -> Result<String, DatabaseError> {
        self.channel("SELECT kindler_channel('page')").await
    }
}

/// Reads a cluster's columns and those of its lease.
pub(super) fn live(row: &Row) -> Result<Live, Undecodable> {
    let owner: Option<String> = column(row, "lease_owner")?;
    let work = match owner {
        Some(owner) => Some(Work {
            owner,
            term: column(row, "lease_term")?,
            since: column(row, "lease_since")?,
        }),
        None => None,
    };
    Ok(Live {
        cluster: rows::cluster(row)?,
        work,
    })
}
