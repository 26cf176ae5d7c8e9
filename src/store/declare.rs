//! What people declare: the writes behind the commands. They only declare;
//! the reconciler acts.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};

use crate::clusters::{Cluster, ClusterName, Desired, Port, Provider, Spec, SpecError, Subnet};

use super::{Store, queries, rows};
use crate::core::database::DatabaseError;
use crate::core::database::typed;

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
    /// Labels: an object of texts.
    pub labels: serde_json::Value,
    /// Only looked at until it is resumed.
    pub paused: bool,
    /// Present or stopped.
    pub desired: Desired,
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
    /// Checks what only several fields together can tell.
    ///
    /// # Errors
    /// [`SpecError`] names field and limit.
    pub fn check(&self) -> Result<(), SpecError> {
        Spec::check_name(self.provider, &self.name)?;
        Spec::check_ports(self.pf_port, self.http_port, self.https_port)
    }

    /// The same as a statement, for people to keep. Every value was checked, so none holds a
    /// quote.
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
            // Quoted as standard_conforming_strings wants it, which is the default.
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

    fn names_every_port(&self) -> bool {
        let ports = [self.pf_port, self.http_port, self.https_port];
        ports.iter().all(Option::is_some)
    }

    /// The columns in the order of `sql/queries/declare_cluster.sql`.
    pub(super) fn values(&self) -> Values<'_> {
        let ports = [
            self.node_port,
            self.pf_port,
            self.http_port,
            self.https_port,
        ];
        Values {
            name: self.name.as_str(),
            provider: self.provider.as_str(),
            subnet: self.subnet.map(|subnet| subnet.to_string()),
            ports: ports.map(|port| port.map(|port| i32::from(port.get()))),
            new: self,
            desired: self.desired.as_str(),
        }
    }
}

/// A declaration in the types of its columns.
pub(super) struct Values<'a> {
    name: &'a str,
    provider: &'a str,
    subnet: Option<String>,
    ports: [Option<i32>; 4],
    new: &'a Declaration,
    desired: &'a str,
}

impl Values<'_> {
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

/// Declares a cluster under the lock that keeps others from the same free ports;
/// no row if the name is taken.
pub(super) async fn declare_locked(
    transaction: &Transaction<'_>,
    new: &Declaration,
    declarer: &Option<&str>,
) -> Result<Option<Row>, tokio_postgres::Error> {
    let mut values = new.values();
    if !new.names_every_port() {
        let [_, named @ ..] = &values.ports;
        let named: Vec<&(dyn ToSql + Sync)> = named.iter().map(|port| port as _).collect();
        let found = transaction
            .query_typed(queries::FIND_PORTS.as_str(), &typed(&named))
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
        let made = if new.names_every_port() {
            // Nothing is looked for, so one statement is the whole transaction.
            let values = new.values();
            let params = values.params(&declarer);
            let made = self
                .rows(operation, &queries::DECLARE_CLUSTER, &params)
                .await?;
            made.into_iter().next()
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
        if let Some(row) = made {
            let cluster = rows::cluster(&row)
                .map_err(|source| DatabaseError::Unreadable { operation, source })?;
            return Ok(Declared::New(cluster));
        }
        match self.get(&new.name).await? {
            Some(cluster) => Ok(Declared::Exists(cluster)),
            // It went between the two statements: the name is free after all,
            // but the caller should decide that, not a loop here.
            None => Err(DatabaseError::Refused(format!(
                "cluster {} was just being removed: try again",
                new.name
            ))),
        }
    }

    /// Changes what is wanted of a cluster; `None` if there is none, or if it is
    /// not of `generation` any more.
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

    /// Pauses or resumes a cluster; `None` if there is none, or if it is not of
    /// `generation` any more.
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

    /// Asks for an attempt at once; `None` if there is no such cluster, or if it
    /// is not of `generation` any more.
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

    /// Reads one cluster; `None` if there is none.
    ///
    /// # Errors
    /// [`DatabaseError`], also when its row cannot be read.
    pub async fn get(&self, name: &ClusterName) -> Result<Option<Cluster>, DatabaseError> {
        self.one("read a cluster", &queries::GET_CLUSTER, &[&name.as_str()])
            .await
    }

    /// Whom the books name, if not the session's actor.
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
