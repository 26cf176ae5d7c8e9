//! Declares the clusters of an imported list once. Names that were ever declared in
//! this database are skipped, also of removed clusters: the list is read at every
//! start and must not bring back deleted clusters. The rows take over the clusters that exist.

use std::collections::HashSet;

use crate::clusters::ClusterName;

use super::declare::Declaration;
use super::edit::{Batch, BatchOutcome};
use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::column;

impl Store {
    /// Declares the clusters whose names were never used, all of them or none, and
    /// returns their names.
    ///
    /// # Errors
    /// [`DatabaseError::Rejected`] names field and limit; then nothing is declared.
    pub async fn seed(&self, list: &[Declaration]) -> Result<Vec<ClusterName>, DatabaseError> {
        loop {
            let used = self.used_names(list).await?;
            let create: Vec<_> = list
                .iter()
                .filter(|new| !used.contains(new.name.as_str()))
                .cloned()
                .collect();
            let declared = create.iter().map(|new| new.name.clone()).collect();
            if create.is_empty() {
                return Ok(declared);
            }
            let batch = Batch {
                create,
                // The list is of clusters that another system made.
                adopt: true,
                delete: Vec::new(),
            };
            // Another replica declared some of them meanwhile: look the names up again.
            if self.declare_batch(&batch).await? == BatchOutcome::Declared {
                return Ok(declared);
            }
        }
    }

    async fn used_names(&self, list: &[Declaration]) -> Result<HashSet<String>, DatabaseError> {
        let names: Vec<&str> = list.iter().map(|new| new.name.as_str()).collect();
        let used = self
            .each(
                "look up names",
                &queries::LIST_USED_NAMES,
                &[&names],
                |row| column(row, "name"),
            )
            .await?;
        Ok(used.into_iter().collect())
    }
}
