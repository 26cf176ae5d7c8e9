//! History: the events of one row, the audit log of all rows, the revisions of a
//! spec.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::clusters::ClusterName;

use super::Store;
use super::incarnation::Incarnation;
use super::queries::{self, ListAudit, ListEvents};
use super::report::{Event, event};
use crate::core::database::DatabaseError;
use crate::core::database::column;

/// A filter of events; `None` matches any.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Of this cluster.
    pub cluster: Option<String>,
    /// By this actor.
    pub actor: Option<String>,
    /// Of these kinds.
    pub kinds: Option<Vec<String>>,
    /// Older than the event with this ID.
    pub before: Option<i64>,
    /// Newer than the event with this ID.
    pub after: Option<i64>,
    /// Of this row of the cluster.
    pub incarnation: Option<Incarnation>,
}

/// An event and its cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditEntry {
    /// The cluster.
    pub cluster_name: String,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// One declared version of a spec.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Revision {
    /// The generation.
    pub generation: i64,
    /// The UID of the row; `None` if an earlier release wrote the revision.
    pub uid: Option<Uuid>,
    /// When it was declared.
    pub at: Timestamp,
    /// The actor that declared it.
    pub actor: String,
    /// The desired state.
    pub desired_state: String,
    /// Provider, network and registrations.
    pub spec: serde_json::Value,
    /// The task of this revision.
    pub task_id: String,
}

impl Store {
    /// The newest `limit` events of a name after an ID, oldest first: of one row, or
    /// of all rows of the name.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn events(
        &self,
        name: &ClusterName,
        of: Option<&Incarnation>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Event>, DatabaseError> {
        let (removal, uid) = (of.map(|of| of.after_event), of.and_then(|of| of.uid));
        let params = ListEvents {
            name: &name.as_str(),
            after: &after,
            limit: &limit,
            removal: &removal,
            uid: &uid,
        };
        self.each("list events", ListEvents::sql(), &params.values(), event)
            .await
    }

    /// The newest `limit` events that match a filter, newest first.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        limit: i64,
    ) -> Result<Vec<AuditEntry>, DatabaseError> {
        let of = filter.incarnation;
        let (removal, uid) = (of.map(|of| of.after_event), of.and_then(|of| of.uid));
        let params = ListAudit {
            cluster: &filter.cluster,
            actor: &filter.actor,
            kinds: &filter.kinds,
            before: &filter.before,
            limit: &limit,
            after: &filter.after,
            removal: &removal,
            uid: &uid,
        };
        self.each(
            "list the audit log",
            ListAudit::sql(),
            &params.values(),
            |row| {
                Ok(AuditEntry {
                    cluster_name: column(row, "cluster_name")?,
                    event: event(row)?,
                })
            },
        )
        .await
    }

    /// The declared specs of a name, newest first: of one row, or of all rows of the
    /// name.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn revisions(
        &self,
        name: &ClusterName,
        of: Option<&Incarnation>,
    ) -> Result<Vec<Revision>, DatabaseError> {
        let operation = "list revisions";
        let (removed, uid) = (of.map(|of| of.after_generation), of.and_then(|of| of.uid));
        let params: [&(dyn ToSql + Sync); 3] = [&name.as_str(), &removed, &uid];
        self.each(operation, &queries::LIST_REVISIONS, &params, |row| {
            Ok(Revision {
                generation: column(row, "generation")?,
                uid: column(row, "uid")?,
                at: column(row, "at")?,
                actor: column(row, "actor")?,
                desired_state: column(row, "desired_state")?,
                spec: column(row, "spec")?,
                task_id: column(row, "task_id")?,
            })
        })
        .await
    }
}
