//! What metrics are made of: reading only, as little as they need.

use std::time::Duration;

use crate::clusters::event::Reason;
use crate::clusters::{
    Actual, ClusterName, Desired, MANAGEMENT_CLUSTER, Provider, Standing, settled,
};

use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::{Undecodable, column};

/// A cluster that fails.
#[derive(Clone, Debug, PartialEq)]
pub struct Worst {
    /// Its name.
    pub name: String,
    /// Why, as a word, if the word is known.
    pub reason: Option<Reason>,
    /// Failed attempts in a row.
    pub failed_attempts: i32,
    /// When it is tried next, in Unix time; none means at once.
    pub next_attempt: Option<f64>,
    /// Whether it is paused.
    pub paused: bool,
}

/// How one cluster stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Stands {
    /// Its name.
    pub name: String,
    /// Its provider; none if the word is not known.
    pub provider: Option<Provider>,
    /// Its states; none if a word is not known.
    pub standing: Option<Standing>,
    /// Only looked at, until resumed.
    pub paused: bool,
    /// When it was first declared, in Unix time.
    pub created: Option<f64>,
    /// When what is wanted now was declared, in Unix time.
    pub declared: Option<f64>,
    /// When a reconcile last wrote to it, in Unix time.
    pub reconciled: Option<f64>,
}

/// Those who work on the clusters, and a vital sign of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Crew {
    /// Daemons that begin work.
    pub reconciling: i64,
    /// Daemons that are there and begin none.
    pub aside: i64,
    /// How full the queue of notifications is, 0 to 1.
    pub queue_usage: f64,
}

impl Store {
    /// How long ago a generation of a cluster was declared; none if the books
    /// do not tell.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn declared_for(
        &self,
        name: &ClusterName,
        generation: i64,
    ) -> Result<Option<Duration>, DatabaseError> {
        let seconds = self
            .each(
                "read when a cluster was declared",
                &queries::READ_DECLARED,
                &[&name.as_str(), &generation],
                |row| column::<f64>(row, "seconds"),
            )
            .await?;
        let since = |seconds: &f64| Duration::try_from_secs_f64(seconds.max(0.0)).ok();
        Ok(seconds.first().and_then(since))
    }

    /// What fails, the worst first.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn worst(&self, limit: i64) -> Result<Vec<Worst>, DatabaseError> {
        self.each("list what fails", &queries::LIST_WORST, &[&limit], |row| {
            Ok(Worst {
                name: column(row, "name")?,
                reason: reason(row)?,
                failed_attempts: column(row, "failed_attempts")?,
                next_attempt: column(row, "next_attempt")?,
                paused: column(row, "paused")?,
            })
        })
        .await
    }

    /// How every cluster stands, by name. Rows that a reconcile could not read
    /// are among them, as far as they can be told.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn standings(&self) -> Result<Vec<Stands>, DatabaseError> {
        self.each(
            "list how clusters stand",
            &queries::LIST_STANDINGS,
            &[],
            stands,
        )
        .await
    }

    /// Who works on the clusters; one that was silent for `patience` does not.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn crew(&self, patience: Duration) -> Result<Crew, DatabaseError> {
        let found = self
            .each(
                "count the daemons",
                &queries::COUNT_REPLICAS,
                &[&patience.as_secs_f64()],
                |row| {
                    Ok(Crew {
                        reconciling: column(row, "reconciling")?,
                        aside: column(row, "aside")?,
                        queue_usage: column(row, "queue_usage")?,
                    })
                },
            )
            .await?;
        Ok(found.first().copied().unwrap_or_default())
    }
}

fn reason(row: &tokio_postgres::Row) -> Result<Option<Reason>, Undecodable> {
    let word: Option<&str> = column(row, "reason")?;
    Ok(word.and_then(Reason::named))
}

fn stands(row: &tokio_postgres::Row) -> Result<Stands, Undecodable> {
    let name: String = column(row, "name")?;
    let paused = column(row, "paused")?;
    let protected: bool = column(row, "protected")?;
    let (reached, applied): (bool, bool) = (column(row, "reached")?, column(row, "spec_applied")?);
    let desired = column::<&str>(row, "desired_state")?.parse::<Desired>();
    let actual = column::<&str>(row, "actual_state")?.parse::<Actual>();
    let (reason, steps_left) = (reason(row)?, column(row, "steps_left")?);
    let standing = desired
        .ok()
        .zip(actual.ok())
        .map(|(desired, actual)| Standing {
            desired,
            actual,
            reason,
            settled: settled(desired, actual, reached, applied),
            observe_only: paused || protected || name == MANAGEMENT_CLUSTER,
            steps_left,
        });
    Ok(Stands {
        name,
        provider: column::<&str>(row, "provider")?.parse().ok(),
        standing,
        paused,
        created: column(row, "created")?,
        declared: column(row, "declared")?,
        reconciled: column(row, "reconciled")?,
    })
}
