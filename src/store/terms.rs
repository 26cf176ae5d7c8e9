//! Which terms the database has issued. They only rise; a database that has issued fewer than
//! a daemon has seen has gone back: it was restored, or promoted without its last commits.

use std::time::Duration;

use crate::core::database::{DatabaseError, column};

use super::{Store, queries};

/// How far the terms are raised after that, by `kindler_went_back` and
/// `sql/after_restore.sql`. Claims never issue so many between two looks of a daemon.
pub const RAISED_BY: i64 = 1_000_000_000;

/// The terms of one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedTerms {
    /// The same for a database and what is restored from its backups.
    pub origin: String,
    /// The largest term that was issued; 0 if none was.
    pub issued: i64,
    /// How long ago the database moved to its server, or was restored; long ago if it never was.
    pub since_failover: Duration,
}

impl Store {
    /// Reads which terms were issued.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn issued_terms(&self) -> Result<IssuedTerms, DatabaseError> {
        let operation = "read the issued terms";
        let read = self.each(operation, &queries::READ_TERMS, &[], |row| {
            Ok(IssuedTerms {
                origin: column(row, "origin")?,
                issued: column(row, "issued")?,
                since_failover: column::<Option<f64>>(row, "since_failover")?
                    .and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok())
                    .unwrap_or(Duration::MAX),
            })
        });
        let found = read.await?.pop();
        found.ok_or(DatabaseError::NotMigrated { operation })
    }

    /// Raises the terms above `seen`, and pauses the rows that say `absent`, if fewer terms
    /// were issued. Returns the names of the paused rows.
    ///
    /// # Errors
    /// [`DatabaseError`]; nothing is changed then.
    pub async fn went_back(&self, seen: i64) -> Result<Vec<String>, DatabaseError> {
        let operation = "handle a database that has gone back";
        self.each(operation, &queries::WENT_BACK, &[&seen], |row| {
            column(row, "paused")
        })
        .await
    }
}
