//! Which clusters a daemon works on, and which wait for no one.
//!
//! A daemon with a selector works on what matches and is not placed yet, and on
//! what is placed with it. Its place is its selector's text, so that daemons with
//! the same selector share their clusters. The judgement is the statements' own
//! (`kindler_takes`, `placed_by`); this only says who asks.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::clusters::{ClusterName, Selector};

use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::column;

/// Where a daemon works.
#[derive(Debug)]
pub(super) struct Place {
    /// As it stands in `placed_by`.
    name: String,
    /// What `kindler_takes` is given.
    selector: Value,
}

/// Clusters that no daemon selects which was heard of lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unselected {
    /// So many.
    pub total: i64,
    /// The first of them, by name.
    pub clusters: Vec<Forsaken>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forsaken {
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
        let place = (!selector.is_empty()).then(|| {
            let name = selector.to_string();
            let selector = json!({ "place": name, "requirements": selector });
            Arc::new(Place { name, selector })
        });
        Self {
            selects: place,
            ..self.clone()
        }
    }

    pub(super) fn selector(&self) -> Option<&Value> {
        self.selects.as_deref().map(|place| &place.selector)
    }

    pub(super) fn place(&self) -> Option<&str> {
        self.selects.as_deref().map(|place| place.name.as_str())
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
                    Ok((column(row, "total")?, Forsaken { name, placed_by }))
                },
            )
            .await?;
        Ok(Unselected {
            total: found.first().map_or(0, |(total, _)| *total),
            clusters: found.into_iter().map(|(_, cluster)| cluster).collect(),
        })
    }
}
