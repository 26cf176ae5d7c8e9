//! Changes to declared clusters: of one cluster with an optional generation, a
//! rollback to an earlier revision, or a batch in one transaction.

use serde_json::json;
use tokio_postgres::types::ToSql;

use crate::clusters::{Cluster, ClusterName, Desired, PartialSpec};

use super::Store;
use super::declare::{Declaration, declare_within};
use super::queries::{self, EditCluster, RollBack};
use crate::core::database::DatabaseError;
use crate::core::database::typed;

/// A change to a declared cluster; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// The fields of its spec that change.
    pub spec: PartialSpec,
    /// Labels to add or change; null removes a label.
    pub labels: Option<serde_json::Value>,
    /// Whether the cluster is only observed.
    pub paused: Option<bool>,
    /// The desired state.
    pub desired: Option<Desired>,
}

/// Declarations for one transaction: all of them are made or none.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// New clusters.
    pub create: Vec<Declaration>,
    /// Whether the new rows take over the clusters of their names that exist.
    pub adopt: bool,
    /// Clusters to declare absent.
    pub delete: Vec<ClusterName>,
}

/// The result of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// All declarations were made.
    Declared,
    /// No declaration was made.
    Rejected {
        /// Names to create that exist already.
        taken: Vec<ClusterName>,
        /// Names to delete that do not exist.
        unknown: Vec<ClusterName>,
    },
}

impl Store {
    /// Changes a declared cluster; `None` if it does not exist or is no longer at
    /// `generation`.
    ///
    /// # Errors
    /// [`DatabaseError::Rejected`] names field and limit.
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
            actor: &self.actor(),
        };
        self.one("change a cluster", EditCluster::sql(), &params.values())
            .await
    }

    /// Declares the spec of an earlier revision again, as a new revision; `None` if
    /// the cluster or revision does not exist, or the cluster is no longer at
    /// `generation`.
    ///
    /// # Errors
    /// [`DatabaseError::Rejected`] if that spec is no longer valid.
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
            actor: &self.actor(),
        };
        self.one("roll a cluster back", RollBack::sql(), &params.values())
            .await
    }

    /// Makes all declarations of a batch in one transaction, or none.
    ///
    /// # Errors
    /// [`DatabaseError::Rejected`] names field and limit; then nothing is declared.
    pub async fn declare_batch(&self, batch: &Batch) -> Result<BatchOutcome, DatabaseError> {
        let (operation, actor) = ("declare a batch", self.actor());
        self.connections
            .transact(operation, async |client| {
                let transaction = self.connections.begin(client).await?;
                transaction
                    .execute_typed(queries::LOCK_DECLARATIONS.as_str(), &[])
                    .await?;
                let (mut taken, mut unknown) = (Vec::new(), Vec::new());
                for new in &batch.create {
                    let inserted = declare_within(&transaction, new, &actor).await?;
                    if inserted.is_none() {
                        taken.push(new.name.clone());
                    } else if batch.adopt {
                        let params: [&(dyn ToSql + Sync); 3] =
                            [&new.name.as_str(), &None::<i64>, &actor];
                        transaction
                            .query_typed_opt(queries::REQUEST_ADOPT.as_str(), &typed(&params))
                            .await?;
                    }
                }
                for name in &batch.delete {
                    let absent = Desired::Absent.as_str();
                    let params: [&(dyn ToSql + Sync); 4] =
                        [&name.as_str(), &absent, &None::<i64>, &actor];
                    let found = transaction
                        .query_typed_opt(queries::SET_DESIRED.as_str(), &typed(&params))
                        .await?;
                    if found.is_none() {
                        unknown.push(name.clone());
                    }
                }
                if taken.is_empty() && unknown.is_empty() {
                    transaction.commit().await?;
                    return Ok(BatchOutcome::Declared);
                }
                transaction.rollback().await?;
                Ok(BatchOutcome::Rejected { taken, unknown })
            })
            .await
    }
}
