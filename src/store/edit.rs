//! Changing what is declared of clusters that exist: one at a time with an
//! optional generation, an earlier revision again, or many in one transaction.

use tokio_postgres::types::ToSql;

use crate::clusters::{Cluster, ClusterName, Desired, Port, Subnet};

use super::declare::{Declaration, declare_locked};
use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::begin;
use crate::core::database::typed;

/// What changes of a cluster; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// A network of its own (`Some(None)`: the provider's).
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
        let params: [&(dyn ToSql + Sync); 4] =
            [&name.as_str(), &revision, &generation, &self.declarer()];
        self.one("roll a cluster back", &queries::ROLL_BACK, &params)
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
