//! Changes to declared clusters: of one cluster with an optional generation, a
//! rollback to an earlier revision, or a batch in one transaction.

use tokio_postgres::types::ToSql;

use crate::clusters::{Cluster, ClusterName, Desired, Port, Subnet};

use super::declare::{Declaration, declare_locked};
use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::begin;
use crate::core::database::typed;

/// A change to a declared cluster; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// The subnet; `Some(None)`: the provider's default.
    pub subnet: Option<Option<Subnet>>,
    /// The node port.
    pub node_port: Option<Port>,
    /// The port-forward port.
    pub pf_port: Option<Port>,
    /// The HTTP port.
    pub http_port: Option<Port>,
    /// The HTTPS port.
    pub https_port: Option<Port>,
    /// Whether it is registered with Portainer.
    pub register_portainer: Option<bool>,
    /// Whether the gateway routes to it.
    pub haproxy_route: Option<bool>,
    /// Whether it is registered with Argo CD.
    pub register_argocd: Option<bool>,
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
    /// [`DatabaseError::Refused`] names field and limit.
    pub async fn edit(
        &self,
        name: &ClusterName,
        generation: Option<i64>,
        edit: &Edit,
    ) -> Result<Option<Cluster>, DatabaseError> {
        let port = |port: Option<Port>| port.map(|port| i32::from(port.get()));
        let ports = [
            edit.node_port,
            edit.pf_port,
            edit.http_port,
            edit.https_port,
        ]
        .map(port);
        let subnet = edit.subnet.flatten().map(|subnet| subnet.to_string());
        let desired = edit.desired.map(Desired::as_str);
        let params: [&(dyn ToSql + Sync); 15] = [
            &name.as_str(),
            &generation,
            &edit.subnet.is_some(),
            &subnet,
            &ports[0],
            &ports[1],
            &ports[2],
            &ports[3],
            &edit.register_portainer,
            &edit.haproxy_route,
            &edit.register_argocd,
            &edit.labels,
            &edit.paused,
            &desired,
            &self.declarer(),
        ];
        self.one("change a cluster", &queries::EDIT_CLUSTER, &params)
            .await
    }

    /// Declares the spec of an earlier revision again, as a new revision; `None` if
    /// the cluster or revision does not exist, or the cluster is no longer at
    /// `generation`.
    ///
    /// # Errors
    /// [`DatabaseError::Refused`] if that spec is no longer valid.
    pub async fn roll_back(
        &self,
        name: &ClusterName,
        revision: i64,
        generation: Option<i64>,
    ) -> Result<Option<Cluster>, DatabaseError> {
        let params: [&(dyn ToSql + Sync); 4] =
            [&name.as_str(), &revision, &generation, &self.declarer()];
        self.one("roll a cluster back", &queries::ROLL_BACK, &params)
            .await
    }

    /// Makes all declarations of a batch in one transaction, or none.
    ///
    /// # Errors
    /// [`DatabaseError::Refused`] names field and limit; then nothing is declared.
    pub async fn declare_batch(&self, batch: &Batch) -> Result<BatchOutcome, DatabaseError> {
        let (operation, declarer) = ("declare a batch", self.declarer());
        self.connections
            .transact(operation, async |client| {
                let transaction = begin(client).await?;
                transaction
                    .execute_typed(queries::LOCK_DECLARATIONS.as_str(), &[])
                    .await?;
                let (mut taken, mut unknown) = (Vec::new(), Vec::new());
                for new in &batch.create {
                    let inserted = declare_locked(&transaction, new, &declarer).await?;
                    if inserted.is_none() {
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
                    return Ok(BatchOutcome::Declared);
                }
                transaction.rollback().await?;
                Ok(BatchOutcome::Rejected { taken, unknown })
            })
            .await
    }
}
