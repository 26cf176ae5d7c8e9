//! Placement: which clusters a daemon works on, and which no daemon selects.
//!
//! A daemon with a selector works on clusters that match and are not placed yet, and
//! on clusters that are placed with it. The placement is the selector's text, so
//! daemons with the same selector share their clusters. The statements decide
//! (`kindler_takes`, `placed_by`); this module only passes the selector.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::clusters::{ClusterName, Selector};

use super::{Store, queries};
use crate::core::database::{DatabaseError, column};
use crate::core::rows::{Placement, Rows};

/// Clusters that no live daemon selects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unselected {
    /// Their number.
    pub total: i64,
    /// The first ones, by name.
    pub clusters: Vec<UnselectedCluster>,
}

/// A cluster that no live daemon selects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnselectedCluster {
    /// The name.
    pub name: String,
    /// The selector of the daemons that it is placed with, if any.
    pub placed_by: Option<String>,
}

/// How many clusters a driver has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverUse {
    /// The driver.
    pub driver: String,
    /// The number of its clusters.
    pub clusters: i64,
}

impl Store {
    /// The drivers that clusters were made with, most clusters first.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn drivers(&self) -> Result<Vec<DriverUse>, DatabaseError> {
        self.each("list the drivers", &queries::LIST_DRIVERS, &[], |row| {
            Ok(DriverUse {
                driver: column(row, "driver")?,
                clusters: column(row, "clusters")?,
            })
        })
        .await
    }

    /// The same store, which finds and claims only work on the selected clusters. An
    /// empty selector selects all. Reading is not restricted.
    #[must_use]
    pub fn selecting(&self, selector: &Selector) -> Self {
        let placement = if selector.is_empty() {
            Placement::default()
        } else {
            let place = selector.to_string();
            Placement {
                selector: Some(json!({ "place": place, "requirements": selector })),
                place: Some(place),
            }
        };
        Self {
            claims: Rows::new(self.connections.clone(), placement.clone()),
            placement: Arc::new(placement),
            ..self.clone()
        }
    }

    pub(super) fn selector(&self) -> Option<&Value> {
        self.placement.selector.as_ref()
    }

    /// The clusters that no live daemon selects, at most `limit` of them by name; with
    /// `only`, that cluster alone. A daemon without a heartbeat within `max_silence` is
    /// not live. Empty if no daemon is live.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn unselected(
        &self,
        max_silence: Duration,
        only: Option<&ClusterName>,
        limit: i64,
    ) -> Result<Unselected, DatabaseError> {
        let found = self
            .each(
                "list unselected clusters",
                &queries::LIST_UNSELECTED,
                &[
                    &max_silence.as_secs_f64(),
                    &only.map(ClusterName::as_str),
                    &limit,
                ],
                |row| {
                    let (name, placed_by) = (column(row, "name")?, column(row, "placed_by")?);
                    Ok((column(row, "total")?, UnselectedCluster { name, placed_by }))
                },
            )
            .await?;
        Ok(Unselected {
            total: found.first().map_or(0, |(total, _)| *total),
            clusters: found.into_iter().map(|(_, cluster)| cluster).collect(),
        })
    }
}
