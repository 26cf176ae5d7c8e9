//! Which clusters a daemon works on, and which wait for no one.
//!
//! A daemon with a selector works on what matches and is not placed yet, and on
//! what is placed with it. Its place is its selector's text, so that daemons with
//! the same selector share their clusters. The judgement is the statements' own
//! (`kindler_takes`, `placed_by`); this module only passes the selector on.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::clusters::{ClusterName, Selector};

use super::{Store, queries};
use crate::core::database::{DatabaseError, column};
use crate::core::rows::{Placement, Rows};

/// Clusters that no daemon selects which was heard of lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unselected {
    /// So many.
    pub total: i64,
    /// The first of them, by name.
    pub clusters: Vec<UnselectedCluster>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnselectedCluster {
    /// Its name.
    pub name: String,
    /// The selector of the daemons that it stays with, if it was begun.
    pub placed_by: Option<String>,
}

impl Store {
    /// The same store, through which only work on the selected clusters is found
    /// and claimed; an empty selector selects all. Reading is not narrowed.
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

    /// What waits for no one, at most `limit` of it by name, or whether `only` this
    /// one does; a daemon that was silent for `patience` is none. Nothing, where
    /// there is no daemon at all.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn unselected(
        &self,
        patience: Duration,
        only: Option<&ClusterName>,
        limit: i64,
    ) -> Result<Unselected, DatabaseError> {
        let found = self
            .each(
                "list what no daemon selects",
                &queries::LIST_UNSELECTED,
                &[
                    &patience.as_secs_f64(),
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
