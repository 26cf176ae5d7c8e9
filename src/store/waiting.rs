//! What is held back, and whom to ask whether the host is ill: reading only.

use jiff::Timestamp;
use serde::Serialize;

use crate::clusters::Cluster;

use super::rows;
use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::column;

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

/// What is due, over all daemons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Due {
    /// So many clusters are due and not begun.
    pub due: i64,
    /// Since when the first of them is.
    pub oldest_due_at: Option<Timestamp>,
    /// When the next one will be.
    pub next_due_at: Option<Timestamp>,
}

impl Store {
    /// What is due and not begun.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn queue(&self) -> Result<Due, DatabaseError> {
        let operation = "count what is due";
        let found = self
            .each(operation, &queries::COUNT_DUE, &[], |row| {
                Ok(Due {
                    due: column(row, "due")?,
                    oldest_due_at: column(row, "oldest_due_at")?,
                    next_due_at: column(row, "next_due_at")?,
                })
            })
            .await?;
        found
            .into_iter()
            .next()
            .ok_or(DatabaseError::NotMigrated { operation })
    }

    /// What is held back.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn waiting(&self) -> Result<Vec<Waiting>, DatabaseError> {
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

    /// A few clusters of this daemon that should run, but not these; those that
    /// cannot be read are left out.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn peers(
        &self,
        except: &[String],
        limit: usize,
    ) -> Result<Vec<Cluster>, DatabaseError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = self
            .rows(
                "list peers",
                &queries::LIST_PEERS,
                &[&except, &limit, &self.selector()],
            )
            .await?;
        Ok(found
            .iter()
            .filter_map(|row| rows::cluster(row).ok())
            .collect())
    }
}
