//! The writes by which people declare clusters. Only the reconciler acts on them.

use serde_json::{Value, json};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};

use crate::clusters::{Cluster, ClusterName, Desired, PartialSpec, Spec, SpecError, SpecValue};

use super::queries::{self, DeclareCluster};
use super::spec_sql::host_ports;
use super::{Store, rows};
use crate::core::database::DatabaseError;
use crate::core::database::typed;

/// A new cluster. A port of the host that is not given gets a free one.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// The name.
    pub name: ClusterName,
    /// The fields of its spec that are given.
    pub spec: PartialSpec,
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
        let provider = self.spec.or_default().provider;
        Spec::check_name(provider, &self.name)?;
        self.spec.check_ports()
    }

    /// The declaration as an INSERT statement, for people to keep. Every value was checked, so
    /// none contains a quote.
    pub fn as_sql(&self) -> String {
        let mut columns = vec![("name", format!("'{}'", self.name))];
        for (field, value) in self.spec.listed() {
            let text = match value {
                SpecValue::Subnet(None) => continue,
                SpecValue::Flag(_) if value == field.default() => continue,
                SpecValue::Provider(_) | SpecValue::Subnet(_) => format!("'{value}'"),
                SpecValue::Port(_) | SpecValue::Flag(_) => value.to_string(),
            };
            columns.push((field.name, text));
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
}

/// A declaration in the types of the columns.
struct DeclarationParams<'a> {
    name: &'a str,
    spec: Value,
    desired: &'a str,
    new: &'a Declaration,
}

impl<'a> DeclarationParams<'a> {
    fn of(new: &'a Declaration) -> Self {
        let mut spec = json!(new.spec.or_default());
        for (field, _) in host_ports() {
            // A trigger chooses a free port in place of null.
            if !new
                .spec
                .host_ports()
                .any(|(given, _)| given.name == field.name)
            {
                spec[field.name] = Value::Null;
            }
        }
        Self {
            name: new.name.as_str(),
            spec,
            desired: new.desired.as_str(),
            new,
        }
    }

    fn parameters<'b>(&'b self, actor: &'b Option<&'b str>) -> DeclareCluster<'b> {
        DeclareCluster {
            name: &self.name,
            spec: &self.spec,
            labels: &self.new.labels,
            desired: &self.desired,
            paused: &self.new.paused,
            actor,
        }
    }
}

/// Declares a cluster in a transaction; `None` if the name is taken.
pub(super) async fn declare_within(
    transaction: &Transaction<'_>,
    new: &Declaration,
    actor: &Option<&str>,
) -> Result<Option<Row>, tokio_postgres::Error> {
    let values = DeclarationParams::of(new);
    let params = values.parameters(actor).values();
    transaction
        .query_typed_opt(DeclareCluster::sql(), &typed(&params))
        .await
}

impl Store {
    /// Declares a cluster, unless its name is taken.
    ///
    /// # Errors
    /// [`DatabaseError::Rejected`] names field and limit.
    pub async fn declare(&self, new: &Declaration) -> Result<Declared, DatabaseError> {
        let operation = "declare a cluster";
        let actor = self.actor();
        let values = DeclarationParams::of(new);
        let params = values.parameters(&actor).values();
        let rows = self.rows(operation, DeclareCluster::sql(), &params).await?;
        let inserted = rows.into_iter().next();
        if let Some(row) = inserted {
            let cluster = rows::cluster(&row)
                .map_err(|source| DatabaseError::Unreadable { operation, source })?;
            return Ok(Declared::New(cluster));
        }
        match self.get(&new.name).await? {
            Some(cluster) => Ok(Declared::Exists(cluster)),
            // The row was removed between the two statements. The caller decides
            // whether to declare again.
            None => Err(DatabaseError::Rejected(format!(
                "cluster {} was just removed: try again",
                new.name
            ))),
        }
    }

    /// Changes the desired state of a cluster; `None` if it does not exist or is no
    /// longer at `generation`.
    ///
    /// # Errors
    /// [`DatabaseError::Rejected`] for a protected cluster.
    pub async fn set_desired(
        &self,
        name: &ClusterName,
        desired: Desired,
        generation: Option<i64>,
    ) -> Result<Option<Cluster>, DatabaseError> {
        let desired = desired.as_str();
        let params: [&(dyn ToSql + Sync); 4] =
            [&name.as_str(), &desired, &generation, &self.actor()];
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
            [&name.as_str(), &paused, &generation, &self.actor()];
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
        let params: [&(dyn ToSql + Sync); 3] = [&name.as_str(), &generation, &self.actor()];
        self.one("request a retry", &queries::REQUEST_RETRY, &params)
            .await
    }

    /// Lets a row take over the cluster of its name that a daemon finds; `None` as for a retry.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn request_adopt(
        &self,
        name: &ClusterName,
        generation: Option<i64>,
    ) -> Result<Option<Cluster>, DatabaseError> {
        let params: [&(dyn ToSql + Sync); 3] = [&name.as_str(), &generation, &self.actor()];
        self.one("adopt a cluster", &queries::REQUEST_ADOPT, &params)
            .await
    }

    /// Requests that a cluster is deleted and created again; `None` as for a retry.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn request_recreate(
        &self,
        name: &ClusterName,
        generation: Option<i64>,
    ) -> Result<Option<Cluster>, DatabaseError> {
        let params: [&(dyn ToSql + Sync); 3] = [&name.as_str(), &generation, &self.actor()];
        self.one("recreate a cluster", &queries::REQUEST_RECREATE, &params)
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
    pub(super) fn actor(&self) -> Option<&str> {
        self.actor.as_deref()
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
