//! What is held back, and whom to ask whether the host is ill: reading only.

use jiff::Timestamp;
use serde::Serialize;

use crate::cluster::Cluster;

use super::rows::{self, column};
use super::{Store, StoreError, queries};

/// Clusters that wait for the same reason: one that holds back many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// `DeletionHeld` or `RepairHeld`.
    pub reason: String,
    /// So many.
    pub clusters: i64,
    /// When the first of them is looked at again.
    pub next_at: Option<Timestamp>,
}

impl Store {
    /// What is held back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn waiting(&self) -> Result<Vec<Waiting>, StoreError> {
        self.each(
            "count what is held back",
            &queries::COUNT_HELD,
            &[],
            |row| {
                Ok(Waiting {
                    reason: column(row, "reason")?,
                    clusters: column(row, "clusters")?,
                    next_at: column(row, "next_at")?,
                })
            },
        )
        .await
    }

    /// A few clusters that should run, but not these; those that cannot be
    /// read are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn peers(&self, except: &[String], limit: usize) -> Result<Vec<Cluster>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = self
            .rows("list peers", &queries::LIST_PEERS, &[&except, &limit])
            .await?;
        Ok(found
            .iter()
            .filter_map(|row| rows::cluster(row).ok())
            .collect())
    }
}
