//! What people declare: the writes behind the commands. They only declare;
//! the reconciler acts.

use tokio_postgres::types::ToSql;

use crate::cluster::{Cluster, ClusterName, Desired, Port, Provider, Spec, SpecError, Subnet};

use super::unnamed::typed;
use super::{Store, StoreError, queries, rows};

/// A new cluster; what is left out gets a default, ports the first free ones.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// Its name.
    pub name: ClusterName,
    /// Which tool makes it.
    pub provider: Provider,
    /// A network of its own.
    pub subnet: Option<Subnet>,
    /// 30080 if left out.
    pub node_port: Option<Port>,
    /// The first free of 19001 to 19999 if left out.
    pub pf_port: Option<Port>,
    /// The first free of 18090 to 18442 if left out.
    pub http_port: Option<Port>,
    /// The first free of 18443 to 18999 if left out.
    pub https_port: Option<Port>,
    /// Whether it is registered with Portainer.
    pub register_portainer: bool,
    /// Whether the gateway routes to it.
    pub haproxy_route: bool,
    /// Whether it is registered with Argo CD.
    pub register_argocd: bool,
}

/// What became of a declaration.
#[derive(Debug)]
pub enum Declared {
    /// A new row.
    New(Cluster),
    /// The name is taken, by this row.
    Exists(Cluster),
}

impl Declaration {
    /// Checks what only name and provider together can tell.
    ///
    /// # Errors
    /// [`SpecError`] names field and limit.
    pub fn check(&self) -> Result<(), SpecError> {
        Spec::check_name(self.provider, &self.name)
    }
}

impl Store {
    /// Declares a cluster present, unless its name is taken.
    ///
    /// # Errors
    /// [`StoreError::Refused`] names field and limit.
    pub async fn declare(&self, new: &Declaration) -> Result<Declared, StoreError> {
        let operation = "declare a cluster";
        let port = |port: Option<Port>| port.map(|port| i32::from(port.get()));
        let (name, provider) = (new.name.as_str(), new.provider.as_str());
        let subnet = new.subnet.map(|subnet| subnet.to_string());
        let ports = [new.node_port, new.pf_port, new.http_port, new.https_port].map(port);
        let labels = serde_json::json!({});
        let desired = Desired::Present.as_str();
        let params: [&(dyn ToSql + Sync); 12] = [
            &name,
            &provider,
            &subnet,
            &ports[0],
            &ports[1],
            &ports[2],
            &ports[3],
            &new.register_portainer,
            &new.haproxy_route,
            &new.register_argocd,
            &labels,
            &desired,
        ];
        let made = self
            .in_transaction(operation, async |transaction| {
                transaction
                    .execute_typed(queries::LOCK_DECLARATIONS.as_str(), &[])
                    .await?;
                transaction
                    .query_typed_opt(queries::DECLARE_CLUSTER.as_str(), &typed(&params))
                    .await
            })
            .await?;
        if let Some(row) = made {
            let cluster = rows::cluster(&row)
                .map_err(|source| StoreError::Unreadable { operation, source })?;
            return Ok(Declared::New(cluster));
        }
        match self.get(&new.name).await? {
            Some(cluster) => Ok(Declared::Exists(cluster)),
            // It went between the two statements: the name is free after all,
            // but the caller should decide that, not a loop here.
            None => Err(StoreError::Refused(format!(
                "cluster {} was just being removed: try again",
                new.name
            ))),
        }
    }

    /// Changes what is wanted of a cluster; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a protected cluster.
    pub async fn set_desired(
        &self,
        name: &ClusterName,
        desired: Desired,
    ) -> Result<Option<Cluster>, StoreError> {
        self.one(
            "declare a state",
            &queries::SET_DESIRED,
            &[&name.as_str(), &desired.as_str()],
        )
        .await
    }

    /// Pauses or resumes a cluster; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_paused(
        &self,
        name: &ClusterName,
        paused: bool,
    ) -> Result<Option<Cluster>, StoreError> {
        self.one(
            "pause or resume a cluster",
            &queries::SET_PAUSED,
            &[&name.as_str(), &paused],
        )
        .await
    }

    /// Asks for an attempt at once; `None` if there is no such cluster.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn request_retry(&self, name: &ClusterName) -> Result<Option<Cluster>, StoreError> {
        self.one(
            "request a retry",
            &queries::REQUEST_RETRY,
            &[&name.as_str()],
        )
        .await
    }

    /// Reads one cluster; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`], also when its row cannot be read.
    pub async fn get(&self, name: &ClusterName) -> Result<Option<Cluster>, StoreError> {
        self.one("read a cluster", &queries::GET_CLUSTER, &[&name.as_str()])
            .await
    }

    async fn one(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Cluster>, StoreError> {
        let found = self.rows(operation, sql, params).await?;
        found
            .first()
            .map(rows::cluster)
            .transpose()
            .map_err(|source| StoreError::Unreadable { operation, source })
    }
}
