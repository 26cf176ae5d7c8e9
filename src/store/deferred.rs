//! Reads due and deferred work, and the peers whose health shows whether the host has
//! a fault.

use jiff::Timestamp;
use serde::Serialize;

use crate::clusters::Cluster;

use super::rows;
use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::column;

/// Clusters whose next action a safety limit defers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeferredCount {
    /// `DeletionHeld` or `RepairHeld`.
    pub reason: String,
    /// Their number.
    pub clusters: i64,
    /// When the first of them is reconciled again.
    pub next_at: Option<Timestamp>,
}

/// Due clusters, over all daemons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DueCount {
    /// Number of clusters that are due and not leased.
    pub due: i64,
    /// Since when the oldest of them is due.
    pub oldest_due_at: Option<Timestamp>,
    /// When the next cluster becomes due.
    pub next_due_at: Option<Timestamp>,
}

impl Store {
    /// Counts the clusters that are due and not leased.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn due_count(&self) -> Result<DueCount, DatabaseError> {
        let operation = "count due clusters";
        let found = self
            .each(operation, &queries::COUNT_DUE, &[], |row| {
                Ok(DueCount {
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

    /// Counts the deferred clusters by reason.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn deferred_counts(&self) -> Result<Vec<DeferredCount>, DatabaseError> {
        self.each(
            "count deferred clusters",
            &queries::COUNT_DEFERRED,
            &[],
            |row| {
                Ok(DeferredCount {
                    reason: column(row, "reason")?,
                    clusters: column(row, "clusters")?,
                    next_at: column(row, "next_at")?,
                })
            },
        )
        .await
    }

    /// Up to `limit` clusters of this daemon that should run, without those in `except`
    /// and without unreadable rows.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn peers(
        &self,
        except: &[String],
        limit: usize,
        driver: &str,
    ) -> Result<Vec<Cluster>, DatabaseError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = self
            .rows(
                "list peers",
                &queries::LIST_PEERS,
                &[&except, &limit, &self.selector(), &driver],
            )
            .await?;
        Ok(found
            .iter()
            .filter_map(|row| rows::cluster(row).ok())
            .collect())
    }
}
