//! Lists for people and programs: filtered, sorted, a page at a time; and what
//! is free to declare.

use serde_json::json;

use crate::clusters::{ClusterName, Spec, SpecField};

use super::Store;
use super::feed::{Live, live};
use super::queries::{self, ListFiltered};
use super::spec_sql::{host_ports, pools};
use crate::core::database::DatabaseError;
use crate::core::database::{Undecodable, column};

/// Which clusters are wanted; `None` is any.
#[derive(Clone, Debug)]
pub struct Filter {
    /// With this in their name.
    pub part: Option<String>,
    /// Of these providers.
    pub providers: Option<Vec<String>>,
    /// Wanted so.
    pub desired: Option<Vec<String>>,
    /// Recorded so.
    pub actual: Option<Vec<String>>,
    /// For these reasons.
    pub reasons: Option<Vec<String>>,
    /// Paused or not.
    pub paused: Option<bool>,
    /// Label requirements, as `[{"key", "op", "values"}]`.
    pub labels: serde_json::Value,
    /// `name`, `created_at` or `actual_state`, with `-` for the other way.
    pub order: String,
    /// At most so many.
    pub limit: i64,
    /// After so many.
    pub offset: i64,
}

/// A page of a list.
#[derive(Debug)]
pub struct Listed {
    /// The rows; one that cannot be read stands there with its raw name.
    pub rows: Vec<Result<Live, (String, Undecodable)>>,
    /// How many there are on all pages; not known behind the last one.
    pub total: Option<i64>,
}

/// What no declared cluster uses, the lowest first, at most 50 of each; none
/// where a range is used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// A name.
    pub name: Option<String>,
    /// For each port of the host.
    pub ports: Vec<(&'static SpecField, Vec<i32>)>,
    /// A network of its own.
    pub subnet: Option<String>,
}

/// A cluster that declares a port which another one asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortUser {
    /// Its name.
    pub name: String,
    /// The pools whose ports it declares.
    pub pools: Vec<&'static str>,
}

impl Store {
    /// The clusters that pass a filter.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn filtered(&self, filter: &Filter) -> Result<Listed, DatabaseError> {
        let operation = "list the clusters";
        let params = ListFiltered {
            part: &filter.part,
            providers: &filter.providers,
            desired: &filter.desired,
            actual: &filter.actual,
            reasons: &filter.reasons,
            paused: &filter.paused,
            labels: &filter.labels,
            order: &filter.order,
            limit: &filter.limit,
            offset: &filter.offset,
        };
        let found = self
            .rows(operation, ListFiltered::sql(), &params.values())
            .await?;
        let total = match found.first() {
            Some(row) => Some(row.get("total")),
            None => (filter.offset == 0).then_some(0),
        };
        let rows = found
            .iter()
            .map(|row| live(row).map_err(|error| (row.get("name"), error)))
            .collect();
        Ok(Listed { rows, total })
    }

    /// Ports and a network that nobody declares.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn suggest(&self) -> Result<Suggestion, DatabaseError> {
        let operation = "suggest ports";
        let found = self
            .each(operation, &queries::SUGGEST, &[], |row| {
                Ok(Suggestion {
                    name: column(row, "name")?,
                    ports: host_ports()
                        .map(|(field, _)| Ok((field, column(row, field.name)?)))
                        .collect::<Result<_, Undecodable>>()?,
                    subnet: column(row, "subnet")?,
                })
            })
            .await?;
        found
            .into_iter()
            .next()
            .ok_or(DatabaseError::NotMigrated { operation })
    }

    /// Which clusters other than `name` declare a port of the host of this spec.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn port_users(
        &self,
        name: &ClusterName,
        spec: &Spec,
    ) -> Result<Vec<PortUser>, DatabaseError> {
        self.each(
            "look for port conflicts",
            &queries::LIST_PORT_USERS,
            &[&name.as_str(), &json!(spec)],
            |row| {
                let mut in_use = Vec::new();
                for pool in pools() {
                    if column(row, pool)? {
                        in_use.push(pool);
                    }
                }
                Ok(PortUser {
                    name: column(row, "name")?,
                    pools: in_use,
                })
            },
        )
        .await
    }
}
