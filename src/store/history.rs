//! What the books tell beyond one cluster's newest events: the audit trail, the
//! revisions of a spec, and the revision that a task is about.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::types::ToSql;

use crate::clusters::ClusterName;

use super::report::{Event, event};
use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::column;

/// Which events are wanted; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Of this cluster.
    pub cluster: Option<String>,
    /// By this actor.
    pub actor: Option<String>,
    /// Of these kinds.
    pub kinds: Option<Vec<String>>,
    /// Older than the event of this id.
    pub before: Option<i64>,
    /// Newer than the event of this id.
    pub after: Option<i64>,
}

/// An event and the cluster it is about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audited {
    /// The cluster.
    pub cluster_name: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A spec as it was declared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Revision {
    /// Its number.
    pub generation: i64,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub actor: String,
    /// What was wanted then.
    pub desired_state: String,
    /// Provider, network and registrations.
    pub spec: serde_json::Value,
    /// The task that this revision ordered.
    pub task_id: String,
}

/// The revision that a task is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRevision {
    /// Of this cluster.
    pub cluster_name: String,
    /// Its number.
    pub generation: i64,
    /// What was wanted.
    pub desired_state: String,
    /// When it was declared.
    pub at: Timestamp,
}

impl Store {
    /// The newest `limit` events that pass a filter, newest first.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        limit: i64,
    ) -> Result<Vec<Audited>, DatabaseError> {
        let params: [&(dyn ToSql + Sync); 6] = [
            &filter.cluster,
            &filter.actor,
            &filter.kinds,
            &filter.before,
            &limit,
            &filter.after,
        ];
        self.each(
            "list the audit trail",
            &queries::LIST_AUDIT,
            &params,
            |row| {
                Ok(Audited {
                    cluster_name: column(row, "cluster_name")?,
                    event: event(row)?,
                })
            },
        )
        .await
    }

    /// The specs of a cluster as they were declared, newest first.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn revisions(&self, name: &ClusterName) -> Result<Vec<Revision>, DatabaseError> {
        let (operation, params) = ("list revisions", [&name.as_str() as &(dyn ToSql + Sync)]);
        self.each(operation, &queries::LIST_REVISIONS, &params, |row| {
            Ok(Revision {
                generation: column(row, "generation")?,
                at: column(row, "at")?,
                actor: column(row, "actor")?,
                desired_state: column(row, "desired_state")?,
                spec: column(row, "spec")?,
                task_id: column(row, "task_id")?,
            })
        })
        .await
    }

    /// The revision that ordered a task; `None` if there is none.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn task_revision(&self, task: &str) -> Result<Option<TaskRevision>, DatabaseError> {
        let found = self
            .each("find a task", &queries::FIND_TASK, &[&task], |row| {
                Ok(TaskRevision {
                    cluster_name: column(row, "cluster_name")?,
                    generation: column(row, "generation")?,
                    desired_state: column(row, "desired_state")?,
                    at: column(row, "at")?,
                })
            })
            .await?;
        Ok(found.into_iter().next())
    }

    /// When a cluster that is not there was last removed.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn removed_at(&self, name: &ClusterName) -> Result<Option<Timestamp>, DatabaseError> {
        let found = self
            .each(
                "find a removal",
                &queries::FIND_REMOVAL,
                &[&name.as_str()],
                |row| column(row, "at"),
            )
            .await?;
        Ok(found.into_iter().next())
    }
}
