//! Taking over the clusters of a list that was kept elsewhere, once: a name that
//! was ever declared here is left as it is, gone ones included. A list that is
//! read at every start would otherwise bring back what people deleted.

use std::collections::HashSet;

use crate::clusters::ClusterName;

use super::declare::Declaration;
use super::edit::{Batch, Ordered};
use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::column;

impl Store {
    /// Declares those clusters whose names are new here, all of them or none;
    /// which ones those were.
    ///
    /// # Errors
    /// [`DatabaseError::Refused`] names field and limit; nothing is declared then.
    pub async fn seed(&self, list: &[Declaration]) -> Result<Vec<ClusterName>, DatabaseError> {
        loop {
            let known = self.known(list).await?;
            let create: Vec<_> = list
                .iter()
                .filter(|new| !known.contains(new.name.as_str()))
                .cloned()
                .collect();
            let declared = create.iter().map(|new| new.name.clone()).collect();
            if create.is_empty() {
                return Ok(declared);
            }
            let batch = Batch {
                create,
                delete: Vec::new(),
            };
            // Otherwise another replica was faster with some of them, which are known now.
            if self.order(&batch).await? == Ordered::All {
                return Ok(declared);
            }
        }
    }

    async fn known(&self, list: &[Declaration]) -> Result<HashSet<String>, DatabaseError> {
        let names: Vec<&str> = list.iter().map(|new| new.name.as_str()).collect();
        let known = self
            .each("look up names", &queries::LIST_KNOWN, &[&names], |row| {
                column(row, "name")
            })
            .await?;
        Ok(known.into_iter().collect())
    }
}
