//! Reads the rows that changed since an earlier read, exactly, whatever the order in
//! which transactions commit.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::clusters::Cluster;

use super::rows;
use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::{Undecodable, column};

/// Work in progress on a cluster: its lease.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ActiveWork {
    /// The owner of the lease.
    pub owner: String,
    /// The term of the lease.
    pub term: i64,
    /// When it was claimed.
    pub since: Timestamp,
}

/// A cluster and the work in progress on it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterWithWork {
    /// The row.
    pub cluster: Cluster,
    /// Its lease, if one is held.
    pub work: Option<ActiveWork>,
}

/// Changes since an earlier read.
#[derive(Debug)]
pub struct Changes {
    /// The rows; an unreadable one is an error with its raw name.
    pub rows: Vec<Result<ClusterWithWork, (String, Undecodable)>>,
    /// Number of all clusters.
    pub total: usize,
    /// The argument of the next read.
    pub horizon: String,
    /// Whether changes are notified: not while the server's queue is nearly full.
    pub notifies: bool,
}

impl Changes {
    /// The argument of the first read, which returns every row.
    pub const BEGINNING: &'static str = "0";
}

impl Store {
    /// The rows written since the read that returned `horizon`. An unchanged row may be
    /// returned again.
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
        let notifies = column(first, "notifies").map_err(unreadable)?;
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
            notifies,
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

    /// Requests notifications on the page's channel, for `seconds`.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn register_streams(&self, owner: &str, seconds: f64) -> Result<(), DatabaseError> {
        self.execute(
            "register open streams",
            &queries::REGISTER_STREAMS,
            &[&owner, &seconds],
        )
        .await
        .map(drop)
    }

    /// Ends the request for notifications.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn unregister_streams(&self, owner: &str) -> Result<(), DatabaseError> {
        self.execute(
            "unregister open streams",
            &queries::UNREGISTER_STREAMS,
            &[&owner],
        )
        .await
        .map(drop)
    }
}

/// Decodes the columns of a cluster and its lease.
pub(super) fn live(row: &Row) -> Result<ClusterWithWork, Undecodable> {
    let owner: Option<String> = column(row, "lease_owner")?;
    let work = match owner {
        Some(owner) => Some(ActiveWork {
            owner,
            term: column(row, "lease_term")?,
            since: column(row, "lease_since")?,
        }),
        None => None,
    };
    Ok(ClusterWithWork {
        cluster: rows::cluster(row)?,
        work,
    })
}
