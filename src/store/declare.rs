//! What people declare: the writes behind the commands. They only declare;
//! the reconciler acts.

use serde_json::{Value, json};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};

use crate::clusters::{Cluster, ClusterName, Desired, PartialSpec, Spec, SpecError, SpecValue};

use super::queries::{self, DeclareCluster};
use super::spec_sql::host_ports;
use super::{Store, rows};
use crate::core::database::DatabaseError;
use crate::core::database::typed;

/// A new cluster; what is left out gets a default, ports the first free ones.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// Its name.
    pub name: ClusterName,
    /// What of its spec is given.
    pub spec: PartialSpec,
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
        let provider = self.spec.or_default().provider;
        Spec::check_name(provider, &self.name)?;
        self.spec.check_ports()
    }

    /// The same as a statement, for people to keep. Every value was checked, so none holds a
    /// quote.
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
}

/// A declaration in the types of its columns.
struct DeclarationValues<'a> {
    name: &'a str,
    spec: Value,
    desired: &'a str,
    new: &'a Declaration,
}

impl<'a> DeclarationValues<'a> {
    fn of(new: &'a Declaration) -> Self {
        Self {
            name: new.name.as_str(),
            spec: json!(new.spec.or_default()),
            desired: new.desired.as_str(),
            new,
        }
    }

    fn parameters<'b>(&'b self, declarer: &'b Option<&'b str>) -> DeclareCluster<'b> {
        DeclareCluster {
            name: &self.name,
            spec: &self.spec,
            labels: &self.new.labels,
            desired: &self.desired,
            paused: &self.new.paused,
            declarer,
        }
    }
}

/// Declares a cluster under the lock that keeps others from the same free ports;
/// no row if the name is taken.
pub(super) async fn declare_locked(
    transaction: &Transaction<'_>,
    new: &Declaration,
    declarer: &Option<&str>,
) -> Result<Option<Row>, tokio_postgres::Error> {
    let mut values = DeclarationValues::of(new);
    if !new.spec.names_every_host_port() {
        let found = transaction
            .query_typed(queries::FIND_PORTS.as_str(), &typed(&[&json!(new.spec)]))
            .await?;
        if let Some(found) = found.first() {
            for (field, _) in host_ports() {
                // No free one is left: the table refuses the null.
                let port: Option<i32> = found.try_get(field.name)?;
                values.spec[field.name] = json!(port);
            }
        }
    }
    let params = values.parameters(declarer).values();
    transaction
        .query_typed_opt(DeclareCluster::sql(), &typed(&params))
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
        let made = if new.spec.names_every_host_port() {
            // Nothing is looked for, so one statement is the whole transaction.
            let values = DeclarationValues::of(new);
            let params = values.parameters(&declarer).values();
            let made = self.rows(operation, DeclareCluster::sql(), &params).await?;
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
