//! Lists for people and programs: filtered, sorted, a page at a time; and what
//! is free to declare.

use tokio_postgres::types::ToSql;

use crate::clusters::ClusterName;

use super::feed::{Live, live};
use super::{Store, queries};
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
    /// For port-forwards.
    pub pf_ports: Vec<i32>,
    /// For HTTP.
    pub http_ports: Vec<i32>,
    /// For HTTPS.
    pub https_ports: Vec<i32>,
    /// A network of its own.
    pub subnet: Option<String>,
}

/// A cluster that declares a port which another one asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortUser {
    /// Its name.
    pub name: String,
    /// It is the port-forward port.
    pub pf: bool,
    /// It is the HTTP port or the HTTPS port.
    pub web: bool,
}

impl Store {
    /// The clusters that pass a filter.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn filtered(&self, filter: &Filter) -> Result<Listed, DatabaseError> {
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

    /// Which clusters other than `name` declare one of these ports.
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
