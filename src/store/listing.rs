//! Lists of clusters, filtered, sorted and paged; and free names, ports and networks.

use serde_json::json;

use crate::clusters::{ClusterName, Spec, SpecField};

use super::Store;
use super::feed::{ClusterWithWork, live};
use super::queries::{self, ListFiltered};
use super::spec_sql::{host_ports, pools};
use crate::core::database::DatabaseError;
use crate::core::database::{Undecodable, column};

/// A filter of clusters, with order and page; `None` matches any.
#[derive(Clone, Debug)]
pub struct ClusterFilter {
    /// Text that the name contains.
    pub part: Option<String>,
    /// Providers.
    pub providers: Option<Vec<String>>,
    /// Desired states.
    pub desired: Option<Vec<String>>,
    /// Actual states.
    pub actual: Option<Vec<String>>,
    /// Reasons.
    pub reasons: Option<Vec<String>>,
    /// Whether the cluster is paused.
    pub paused: Option<bool>,
    /// Label requirements, as `[{"key", "op", "values"}]`.
    pub labels: serde_json::Value,
    /// `name`, `created_at` or `actual_state`, with `-` for descending order.
    pub order: String,
    /// The largest number of rows.
    pub limit: i64,
    /// Number of rows to skip.
    pub offset: i64,
}

/// A page of a list.
#[derive(Debug)]
pub struct ClusterPage {
    /// The rows; an unreadable one is an error with its raw name.
    pub rows: Vec<Result<ClusterWithWork, (String, Undecodable)>>,
    /// Number of rows on all pages; unknown after the last page.
    pub total: Option<i64>,
}

/// Values that no declared cluster uses: at most 50 ports of each kind, lowest first;
/// empty or `None` where a range is exhausted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// A name.
    pub name: Option<String>,
    /// For each port of the host.
    pub ports: Vec<(&'static SpecField, Vec<i32>)>,
    /// A subnet.
    pub subnet: Option<String>,
}

/// A cluster that already declares a requested port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortUser {
    /// The name.
    pub name: String,
    /// The pools in which it declares one.
    pub pools: Vec<&'static str>,
}

impl Store {
    /// The clusters that match a filter.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn filtered(&self, filter: &ClusterFilter) -> Result<ClusterPage, DatabaseError> {
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
        Ok(ClusterPage { rows, total })
    }

    /// A name, ports and a subnet that no declared cluster uses.
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

    /// The clusters other than `name` that declare one of this spec's ports of the host.
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
