//! Which row of a name a history belongs to. Names are reused, and the history of a
//! removed row must never count for its successor.

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::clusters::{Cluster, ClusterName, Provider};

use super::{Store, queries, rows};
use crate::core::database::DatabaseError;
use crate::core::database::{Undecodable, column};

/// One row of a name, current or removed, and where its history begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// The UID; `None` if an earlier release removed the row.
    pub uid: Option<Uuid>,
    /// The `removed` event of the previous row; 0 if there was none.
    pub after_event: i64,
    /// The generation of that event; 0 if there was none.
    pub after_generation: i64,
}

/// The removal of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// When the row was removed.
    pub at: Timestamp,
    /// The UID; `None` if an earlier release removed the row.
    pub uid: Option<Uuid>,
}

/// The revision that a task refers to.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRevision {
    /// The cluster's name.
    pub cluster_name: String,
    /// The UID of the row; `None` if an earlier release wrote the revision.
    pub uid: Option<Uuid>,
    /// The generation.
    pub generation: i64,
    /// The desired state.
    pub desired_state: String,
    /// When it was declared.
    pub at: Timestamp,
    /// The row, if it exists.
    pub row: Option<Cluster>,
    /// When the row was removed, if it was.
    pub removed_at: Option<Timestamp>,
}

impl Store {
    /// The current row of a name or, if there is none, the last one.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn incarnation(&self, name: &ClusterName) -> Result<Incarnation, DatabaseError> {
        let operation = "find a row's history";
        let params: [&(dyn ToSql + Sync); 1] = [&name.as_str()];
        let found = self
            .each(operation, &queries::FIND_INCARNATION, &params, |row| {
                Ok(Incarnation {
                    uid: column(row, "uid")?,
                    after_event: column(row, "after_event")?,
                    after_generation: column(row, "after_generation")?,
                })
            })
            .await?;
        found
            .first()
            .copied()
            .ok_or(DatabaseError::NotMigrated { operation })
    }

    /// The last removal of a row of this name, also if a new row exists.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn removal(&self, name: &ClusterName) -> Result<Option<Removal>, DatabaseError> {
        let params: [&(dyn ToSql + Sync); 1] = [&name.as_str()];
        let found = self
            .each("find a removal", &queries::FIND_REMOVAL, &params, |row| {
                Ok(Removal {
                    at: column(row, "at")?,
                    uid: column(row, "uid")?,
                })
            })
            .await?;
        Ok(found.first().copied())
    }

    /// A text that differs whenever rows of the clusters were deleted in between.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn removals(&self) -> Result<Option<String>, DatabaseError> {
        let operation = "check whether rows have gone";
        let found = self.each(operation, &queries::COUNT_REMOVED, &[], |row| {
            column(row, "mark")
        });
        Ok(found.await?.pop())
    }

    /// The names of these and of those with recent events, or of all that ever had a row, whose
    /// last row has gone although it was not declared absent; with the provider that was declared
    /// last, if that is known.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn vanished(
        &self,
        names: Option<&[&str]>,
    ) -> Result<Vec<(String, Option<Provider>)>, DatabaseError> {
        let operation = "find rows that have gone";
        self.each(operation, &queries::LIST_VANISHED, &[&names], |row| {
            let provider: Option<String> = column(row, "provider")?;
            let provider = provider.and_then(|provider| provider.parse().ok());
            Ok((column(row, "name")?, provider))
        })
        .await
    }

    /// When a row first reached what a generation or a later one declares, if it did.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn completion(
        &self,
        name: &ClusterName,
        uid: Uuid,
        generation: i64,
    ) -> Result<Option<Timestamp>, DatabaseError> {
        let params: [&(dyn ToSql + Sync); 3] = [&name.as_str(), &uid, &generation];
        let operation = "find a completion";
        let found = self.each(operation, &queries::FIND_COMPLETION, &params, |row| {
            column(row, "at")
        });
        Ok(found.await?.into_iter().next().flatten())
    }

    /// The revision of a task, with its row or the row's removal; `None` if the task is
    /// unknown.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn task_revision(&self, task: &str) -> Result<Option<TaskRevision>, DatabaseError> {
        let params: [&(dyn ToSql + Sync); 1] = [&task];
        let found = self.each("find a task", &queries::FIND_TASK, &params, task_revision);
        Ok(found.await?.into_iter().next())
    }
}

fn task_revision(row: &Row) -> Result<TaskRevision, Undecodable> {
    let name: Option<&str> = column(row, "name")?;
    Ok(TaskRevision {
        cluster_name: column(row, "task_cluster")?,
        uid: column(row, "task_uid")?,
        generation: column(row, "task_generation")?,
        desired_state: column(row, "task_desired")?,
        at: column(row, "task_at")?,
        row: name.map(|_| rows::cluster(row)).transpose()?,
        removed_at: column(row, "removed_at")?,
    })
}
