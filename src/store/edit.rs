//! Changing what is declared of clusters that exist: one at a time with an
//! optional generation, an earlier revision again, or many in one transaction.

use serde_json::json;
use tokio_postgres::types::ToSql;

use crate::clusters::{Cluster, ClusterName, Desired, PartialSpec};

use super::Store;
use super::declare::{Declaration, declare_locked};
use super::queries::{self, EditCluster, RollBack};
use crate::core::database::DatabaseError;
use crate::core::database::begin;
use crate::core::database::typed;

/// What changes of a cluster; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// The fields of its spec that change.
    pub spec: PartialSpec,
    /// Labels to add and change; null removes.
    pub labels: Option<serde_json::Value>,
    /// Whether it is only looked at.
    pub paused: Option<bool>,
    /// What is wanted.
    pub desired: Option<Desired>,
}

/// What is declared in one transaction: all of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// New clusters.
    pub create: Vec<Declaration>,
    /// Clusters to declare absent.
    pub delete: Vec<ClusterName>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// Everything is declared.
    All,
    /// Nothing is: these names are taken, and these are unknown.
    Nothing {
        /// Names of new clusters that exist.
        taken: Vec<ClusterName>,
        /// Names to delete that do not.
        unknown: Vec<ClusterName>,
    },
}

impl Store {
    /// Changes some of what is declared; `None` if there is no such cluster, or
    /// if it is not of `generation` any more.
    ///
    /// # Errors
    /// [`DatabaseError::Refused`] names field and limit.
    pub async fn edit(
        &self,
        name: &ClusterName,
        generation: Option<i64>,
        edit: &Edit,
    ) -> Result<Option<Cluster>, DatabaseError> {
        let params = EditCluster {
            name: &name.as_str(),
            generation: &generation,
            spec: &json!(edit.spec),
            labels: &edit.labels,
            paused: &edit.paused,
            desired: &edit.desired.map(Desired::as_str),
            declarer: &self.declarer(),
        };
        self.one("change a cluster", EditCluster::sql(), &params.values())
            .await
    }

    /// Declares the spec of an earlier revision anew, as a new revision; `None`
    /// if there is no such cluster or revision, or if the cluster is not of
    /// `generation` any more.
    ///
    /// # Errors
    /// [`DatabaseError::Refused`] when that spec is not allowed any more.
    pub async fn roll_back(
        &self,
        name: &ClusterName,
        revision: i64,
        generation: Option<i64>,
    ) -> Result<Option<Cluster>, DatabaseError> {
        let params = RollBack {
            name: &name.as_str(),
            revision: &revision,
            generation: &generation,
            declarer: &self.declarer(),
        };
        self.one("roll a cluster back", RollBack::sql(), &params.values())
            .await
    }

    /// Declares many changes in one transaction: all of them or nothing.
    ///
    /// # Errors
    /// [`DatabaseError::Refused`] names field and limit; nothing is declared then.
    pub async fn order(&self, batch: &Batch) -> Result<Ordered, DatabaseError> {
        let (operation, declarer) = ("declare a batch", self.declarer());
        self.connections
            .transact(operation, async |client| {
                let transaction = begin(client).await?;
                transaction
                    .execute_typed(queries::LOCK_DECLARATIONS.as_str(), &[])
                    .await?;
                let (mut taken, mut unknown) = (Vec::new(), Vec::new());
                for new in &batch.create {
                    let made = declare_locked(&transaction, new, &declarer).await?;
                    if made.is_none() {
                        taken.push(new.name.clone());
                    }
                }
                for name in &batch.delete {
                    let absent = Desired::Absent.as_str();
                    let params: [&(dyn ToSql + Sync); 4] =
                        [&name.as_str(), &absent, &None::<i64>, &declarer];
                    let found = transaction
                        .query_typed_opt(queries::SET_DESIRED.as_str(), &typed(&params))
                        .await?;
                    if found.is_none() {
                        unknown.push(name.clone());
                    }
                }
                if taken.is_empty() && unknown.is_empty() {
                    transaction.commit().await?;
                    return Ok(Ordered::All);
                }
                transaction.rollback().await?;
                Ok(Ordered::Nothing { taken, unknown })
            })
            .await
    }
}
