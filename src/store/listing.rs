//! Lists of clusters, filtered, sorted and paged; and free names, ports and networks.

use tokio_postgres::types::ToSql;

use crate::clusters::ClusterName;

use super::feed::{ClusterWithWork, live};
use super::{Store, queries};
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
    /// Ports for port-forwards.
    pub pf_ports: Vec<i32>,
    /// HTTP ports.
    pub http_ports: Vec<i32>,
    /// HTTPS ports.
    pub https_ports: Vec<i32>,
    /// A subnet.
    pub subnet: Option<String>,
}

/// A cluster that already declares a requested port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortUser {
    /// The name.
    pub name: String,
    /// Whether the conflict is in the port-forward port.
    pub pf: bool,
    /// Whether the conflict is in the HTTP or HTTPS port.
    pub web: bool,
}

impl Store {
    /// The clusters that match a filter.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn filtered(&self, filter: &ClusterFilter) -> Result<ClusterPage, DatabaseError> {
        let operation = "list the clusters";
        let params: [&(dyn ToSql + Sync); 10] = [
            &filter.part,
            &filter.providers,
            &filter.desired,
            &filter.actual,
            &filter.reasons,
            &filter.paused,
            &filter.labels,
            &filter.order,
            &filter.limit,
            &filter.offset,
        ];
        let found = self
            .rows(operation, &queries::LIST_FILTERED, &params)
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
                    pf_ports: column(row, "pf_ports")?,
                    http_ports: column(row, "http_ports")?,
                    https_ports: column(row, "https_ports")?,
                    subnet: column(row, "subnet")?,
                })
            })
            .await?;
        found
            .into_iter()
            .next()
            .ok_or(DatabaseError::NotMigrated { operation })
    }

    /// The clusters other than `name` that declare one of these ports.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn port_users(
        &self,
        name: &ClusterName,
        pf_port: u16,
        web_ports: [u16; 2],
    ) -> Result<Vec<PortUser>, DatabaseError> {
        let [http, https] = web_ports.map(i32::from);
        let params: [&(dyn ToSql + Sync); 4] = [&name.as_str(), &i32::from(pf_port), &http, &https];
        self.each(
            "look for port conflicts",
            &queries::LIST_PORT_USERS,
            &params,
            |row| {
                Ok(PortUser {
                    name: column(row, "name")?,
                    pf: column(row, "pf")?,
                    web: column::<bool>(row, "http")? || column::<bool>(row, "https")?,
                })
            },
        )
        .await
    }
}
