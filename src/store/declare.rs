//! The writes by which people declare clusters. Only the reconciler acts on them.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};

use crate::clusters::{Cluster, ClusterName, Desired, Port, Provider, Spec, SpecError, Subnet};

use super::{Store, queries, rows};
use crate::core::database::DatabaseError;
use crate::core::database::typed;

/// A new cluster. A port that is not set gets a default or the first free one.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// The name.
    pub name: ClusterName,
    /// The provider.
    pub provider: Provider,
    /// The subnet; `None`: the provider's default.
    pub subnet: Option<Subnet>,
    /// 30080 if not set.
    pub node_port: Option<Port>,
    /// The first free of 19001 to 19999 if not set.
    pub pf_port: Option<Port>,
    /// The first free of 18090 to 18442 if not set.
    pub http_port: Option<Port>,
    /// The first free of 18443 to 18999 if not set.
    pub https_port: Option<Port>,
    /// Whether it is registered with Portainer.
    pub register_portainer: bool,
    /// Whether the gateway routes to it.
    pub haproxy_route: bool,
    /// Whether it is registered with Argo CD.
    pub register_argocd: bool,
    /// Labels: an object of strings.
    pub labels: serde_json::Value,
    /// Whether the cluster is only observed until it is resumed.
    pub paused: bool,
    /// `present` or `stopped`.
    pub desired: Desired,
}

/// The result of a declaration.
#[derive(Debug)]
pub enum Declared {
    /// The row was inserted.
    New(Cluster),
    /// The name belongs to this row already.
    Exists(Cluster),
}

impl Declaration {
    /// Checks the rules that involve several fields.
    ///
    /// # Errors
    /// [`SpecError`] names field and limit.
    pub fn check(&self) -> Result<(), SpecError> {
        Spec::check_name(self.provider, &self.name)?;
        Spec::check_ports(self.pf_port, self.http_port, self.https_port)
    }

    /// The declaration as an INSERT statement, for people to keep. Every value was checked, so
    /// none contains a quote.
    pub fn as_sql(&self) -> String {
        let mut columns = vec![
            ("name", format!("'{}'", self.name)),
            ("provider", format!("'{}'", self.provider)),
        ];
        for (column, port) in [
            ("node_port", self.node_port),
            ("pf_port", self.pf_port),
            ("http_port", self.http_port),
            ("https_port", self.https_port),
        ] {
            columns.extend(port.map(|port| (column, port.to_string())));
        }
        columns.extend(self.subnet.map(|subnet| ("subnet", format!("'{subnet}'"))));
        for (column, on) in [
            ("register_portainer", self.register_portainer),
            ("haproxy_route", self.haproxy_route),
            ("register_argocd", self.register_argocd),
        ] {
            if !on {
                columns.push((column, "false".to_owned()));
            }
        }
        if self
            .labels
            .as_object()
            .is_some_and(|labels| !labels.is_empty())
        {
            // Correct with standard_conforming_strings = on, the default.
            let labels = self.labels.to_string().replace('\'', "''");
            columns.push(("labels", format!("'{labels}'")));
        }
        if self.paused {
            columns.push(("paused", "true".to_owned()));
        }
        if self.desired != Desired::Present {
            columns.push(("desired_state", format!("'{}'", self.desired)));
        }
        let (names, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        format!(
            "INSERT INTO clusters ({}) VALUES ({});",
            names.join(", "),
            values.join(", ")
        )
    }

    fn sets_every_port(&self) -> bool {
        let ports = [self.pf_port, self.http_port, self.https_port];
        ports.iter().all(Option::is_some)
    }

    /// The values for `sql/queries/declare_cluster.sql`.
    pub(super) fn values(&self) -> DeclarationParams<'_> {
        let ports = [
            self.node_port,
            self.pf_port,
            self.http_port,
            self.https_port,
        ];
        DeclarationParams {
            name: self.name.as_str(),
            provider: self.provider.as_str(),
            subnet: self.subnet.map(|subnet| subnet.to_string()),
            ports: ports.map(|port| port.map(|port| i32::from(port.get()))),
            new: self,
            desired: self.desired.as_str(),
        }
    }
}

/// A declaration in the types of the columns.
pub(super) struct DeclarationParams<'a> {
    name: &'a str,
    provider: &'a str,
    subnet: Option<String>,
    ports: [Option<i32>; 4],
    new: &'a Declaration,
    desired: &'a str,
}

impl DeclarationParams<'_> {
    pub(super) fn params<'a>(
        &'a self,
        declarer: &'a Option<&'a str>,
    ) -> [&'a (dyn ToSql + Sync); 14] {
        [
            &self.name,
            &self.provider,
            &self.subnet,
            &self.ports[0],
            &self.ports[1],
            &self.ports[2],
            &self.ports[3],
            &self.new.register_portainer,
            &self.new.haproxy_route,
            &self.new.register_argocd,
            &self.new.labels,
            &self.desired,
            &self.new.paused,
            declarer,
        ]
    }
}

/// Declares a cluster. The caller holds the lock that prevents two declarations from
/// choosing the same free ports. `None` if the name is taken.
pub(super) async fn declare_locked(
    transaction: &Transaction<'_>,
    new: &Declaration,
    declarer: &Option<&str>,
) -> Result<Option<Row>, tokio_postgres::Error> {
    let mut values = new.values();
    if !new.sets_every_port() {
        let [_, host_ports @ ..] = &values.ports;
        let host_ports: Vec<&(dyn ToSql + Sync)> =
            host_ports.iter().map(|port| port as _).collect();
        let found = transaction
            .query_typed(queries::FIND_PORTS.as_str(), &typed(&host_ports))
            .await?;
        if let Some(found) = found.first() {
            for (port, column) in values.ports[1..].iter_mut().zip(["pf", "http", "https"]) {
                *port = found.try_get(column)?;
            }
        }
    }
    let params = values.params(declarer);
    transaction
        .query_typed_opt(queries::DECLARE_CLUSTER.as_str(), &typed(&params))
        .await
}

impl Store {
    /// Declares a cluster, unless its name is taken.
    ///
    /// # Errors
    /// [`DatabaseError::Refused`] names field and limit.
    pub async fn declare(&self, new: &Declaration) -> Result<Declared, DatabaseError> {
        let operation = "declare a cluster";
        let declarer = self.declarer();
        let inserted = if new.sets_every_port() {
            // No free port is searched, so one statement suffices.
            let values = new.values();
            let params = values.params(&declarer);
            let rows = self
                .rows(operation, &queries::DECLARE_CLUSTER, &params)
                .await?;
            rows.into_iter().next()
        } else {
            self.connections
                .in_transaction(operation, async |transaction| {
                    transaction
                        .execute_typed(queries::LOCK_DECLARATIONS.as_str(), &[])
                        .await?;
                    declare_locked(transaction, new, &declarer).await
                })
                .await?
        };
        if let Some(row) = inserted {
            let cluster = rows::cluster(&row)
                .map_err(|source| DatabaseError::Unreadable { operation, source })?;
            return Ok(Declared::New(cluster));
        }
        match self.get(&new.name).await? {
            Some(cluster) => Ok(Declared::Exists(cluster)),
            // The row was removed between the two statements. The caller decides
            // whether to declare again.
            None => Err(DatabaseError::Refused(format!(
                "cluster {} was just removed: try again",
                new.name
            ))),
        }
    }

    /// Changes the desired state of a cluster; `None` if it does not exist or is no
    /// longer at `generation`.
    ///
    /// # Errors
    /// [`DatabaseError::Refused`] for a protected cluster.
    pub async fn set_desired(
        &self,
        name: &ClusterName,
        desired: Desired,
        generation: Option<i64>,
    ) -> Result<Option<Cluster>, DatabaseError> {
        let desired = desired.as_str();
        let params: [&(dyn ToSql + Sync); 4] =
            [&name.as_str(), &desired, &generation, &self.declarer()];
        self.one("declare a state", &queries::SET_DESIRED, &params)
            .await
    }

    /// Pauses or resumes a cluster; `None` if it does not exist or is no longer at
    /// `generation`.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn set_paused(
        &self,
        name: &ClusterName,
        paused: bool,
        generation: Option<i64>,
    ) -> Result<Option<Cluster>, DatabaseError> {
        let params: [&(dyn ToSql + Sync); 4] =
            [&name.as_str(), &paused, &generation, &self.declarer()];
        self.one("pause or resume a cluster", &queries::SET_PAUSED, &params)
            .await
    }

    /// Requests an attempt now; `None` if the cluster does not exist or is no longer at
    /// `generation`.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn request_retry(
        &self,
        name: &ClusterName,
        generation: Option<i64>,
    ) -> Result<Option<Cluster>, DatabaseError> {
        let params: [&(dyn ToSql + Sync); 3] = [&name.as_str(), &generation, &self.declarer()];
        self.one("request a retry", &queries::REQUEST_RETRY, &params)
            .await
    }

    /// Reads one cluster; `None` if it does not exist.
    ///
    /// # Errors
    /// [`DatabaseError`], also if the row is unreadable.
    pub async fn get(&self, name: &ClusterName) -> Result<Option<Cluster>, DatabaseError> {
        self.one("read a cluster", &queries::GET_CLUSTER, &[&name.as_str()])
            .await
    }

    /// Actor written to the audit log, if it is not the session's.
    pub(super) fn declarer(&self) -> Option<&str> {
        self.declarer.as_deref()
    }

    pub(super) async fn one(
        &self,
        operation: &'static str,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Cluster>, DatabaseError> {
        let found = self.rows(operation, sql, params).await?;
        found
            .first()
            .map(rows::cluster)
            .transpose()
            .map_err(|source| DatabaseError::Unreadable { operation, source })
    }
}
