//! Ports of the host: which a declaration would get, and which are declared twice.

use serde_json::json;

use crate::clusters::{ClusterName, PartialSpec, Port, SpecValue};

use super::spec_sql::host_ports;
use super::{Store, queries};
use crate::core::database::{DatabaseError, Undecodable, column};

/// A port of the host that several clusters declare. They cannot all run on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConflict {
    /// The cluster.
    pub name: String,
    /// The field of its spec.
    pub field: String,
    /// The port.
    pub port: i32,
    /// One of the others.
    pub other: String,
    /// Number of ports in conflict, of all clusters.
    pub total: i64,
}

impl PortConflict {
    /// What is wrong.
    pub fn what(&self) -> String {
        let Self {
            name,
            field,
            port,
            other,
            ..
        } = self;
        format!("{field} {port} of cluster {name} is also declared by cluster {other}")
    }

    /// The statement that gives the cluster a free port.
    pub fn mend(&self) -> String {
        let (name, field) = (self.name.replace('\'', "''"), &self.field);
        format!("UPDATE clusters SET {field} = DEFAULT WHERE name = '{name}'")
    }
}

impl Store {
    /// The given fields, with the free port for each port of the host that a declaration would
    /// get now. A later declaration may get another one.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn with_free_ports(&self, given: &PartialSpec) -> Result<PartialSpec, DatabaseError> {
        let found = self
            .each(
                "find free ports",
                &queries::FIND_PORTS,
                &[&json!(given)],
                |row| {
                    let mut spec = given.clone();
                    for (field, _) in host_ports() {
                        if let Some(port) = column::<Option<i32>>(row, field.name)? {
                            let port = Port::new(field.name, i64::from(port));
                            spec.set(field, SpecValue::Port(port.map_err(Undecodable::value)?));
                        }
                    }
                    Ok(spec)
                },
            )
            .await?;
        Ok(found.into_iter().next().unwrap_or_else(|| given.clone()))
    }

    /// The ports of these clusters, or of all, that another cluster of the same placement
    /// declares; at most `limit`, the youngest clusters first.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn port_conflicts(
        &self,
        names: Option<&[ClusterName]>,
        limit: i64,
    ) -> Result<Vec<PortConflict>, DatabaseError> {
        let names: Option<Vec<&str>> =
            names.map(|names| names.iter().map(ClusterName::as_str).collect());
        self.each(
            "look for port conflicts",
            &queries::LIST_PORT_CONFLICTS,
            &[&names, &limit],
            |row| {
                Ok(PortConflict {
                    name: column(row, "name")?,
                    field: column(row, "field")?,
                    port: column(row, "port")?,
                    other: column(row, "other")?,
                    total: column(row, "total")?,
                })
            },
        )
        .await
    }
}
