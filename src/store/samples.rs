//! Reads the values of metrics: only the columns that they need.

use std::time::Duration;

use crate::clusters::event::Reason;
use crate::clusters::health::Flaps;
use crate::clusters::{
    Actual, ClusterName, ConditionInputs, Desired, MANAGEMENT_CLUSTER, Provider, settled,
};

use super::{Store, queries};
use crate::core::database::DatabaseError;
use crate::core::database::{Undecodable, column};

/// The values of a failing cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct FailingSample {
    /// The name.
    pub name: String,
    /// The reason; `None` if this release does not know the word.
    pub reason: Option<Reason>,
    /// Consecutive failed attempts.
    pub failed_attempts: i32,
    /// Its recoveries and losses.
    pub flaps: i32,
    /// When the next attempt is due, in Unix time; `None`: now.
    pub next_attempt: Option<f64>,
    /// Whether it is paused.
    pub paused: bool,
}

/// The values of one cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSample {
    /// The name.
    pub name: String,
    /// The provider; `None` if this release does not know the word.
    pub provider: Option<Provider>,
    /// The states; `None` if this release does not know a word.
    pub condition_inputs: Option<ConditionInputs>,
    /// Whether it is paused.
    pub paused: bool,
    /// When it was first declared, in Unix time.
    pub created: Option<f64>,
    /// When the current generation was declared, in Unix time.
    pub declared: Option<f64>,
    /// When a reconcile last wrote the row, in Unix time.
    pub reconciled: Option<f64>,
    /// The seconds since then.
    pub reconciled_age: Option<f64>,
    /// Consecutive failed probes.
    pub health_failures: f64,
}

/// The kind of a fact about the fleet.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum FactKind {
    /// A live daemon.
    Replica,
    /// A setting of a live daemon.
    Setting,
    /// A table, with its size.
    Table,
    /// A cluster that waits, with its position.
    Position,
    /// A failed step of a cluster.
    FailedStep,
    /// A cluster that was lost recently, with how often.
    Lost,
}

impl FactKind {
    /// Every kind.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;
}

/// A fact about the fleet: one series of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetFact {
    /// Which metric.
    pub kind: FactKind,
    /// The values of its labels, in order.
    pub labels: Vec<String>,
    /// Its value.
    pub value: f64,
}

/// Number of live daemons.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplicaCounts {
    /// Daemons that reconcile.
    pub reconciling: i64,
    /// Daemons on standby.
    pub standby: i64,
}

impl Store {
    /// Time since a generation of a cluster was declared; `None` if there is no such
    /// revision.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn time_since_declared(
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

    /// Failing clusters, most consecutive failures first.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn failing_samples(&self, limit: i64) -> Result<Vec<FailingSample>, DatabaseError> {
        self.each(
            "list failing clusters",
            &queries::LIST_FAILING_SAMPLES,
            &[&limit],
            |row| {
                Ok(FailingSample {
                    name: column(row, "name")?,
                    reason: reason(row)?,
                    failed_attempts: column(row, "failed_attempts")?,
                    flaps: column(row, "flaps")?,
                    next_attempt: column(row, "next_attempt")?,
                    paused: column(row, "paused")?,
                })
            },
        )
        .await
    }

    /// Every cluster by name, also rows that a reconcile cannot read.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn cluster_samples(&self) -> Result<Vec<ClusterSample>, DatabaseError> {
        self.each(
            "list clusters for metrics",
            &queries::LIST_CLUSTER_SAMPLES,
            &[],
            sample,
        )
        .await
    }

    /// Facts about the fleet; a daemon without a heartbeat within `max_silence` is gone.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn facts(&self, max_silence: Duration) -> Result<Vec<FleetFact>, DatabaseError> {
        self.each(
            "list facts for metrics",
            &queries::LIST_FACTS,
            &[&max_silence.as_secs_f64()],
            |row| {
                let kind = column::<&str>(row, "kind")?.parse();
                Ok(FleetFact {
                    kind: kind.map_err(Undecodable::value)?,
                    labels: column(row, "labels")?,
                    value: column(row, "value")?,
                })
            },
        )
        .await
    }

    /// Counts the live daemons: those with a heartbeat within `max_silence`.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn replica_counts(
        &self,
        max_silence: Duration,
    ) -> Result<ReplicaCounts, DatabaseError> {
        let found = self
            .each(
                "count the daemons",
                &queries::COUNT_REPLICAS,
                &[&max_silence.as_secs_f64()],
                |row| {
                    Ok(ReplicaCounts {
                        reconciling: column(row, "reconciling")?,
                        standby: column(row, "standby")?,
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

fn sample(row: &tokio_postgres::Row) -> Result<ClusterSample, Undecodable> {
    let name: String = column(row, "name")?;
    let paused = column(row, "paused")?;
    let protected: bool = column(row, "protected")?;
    let (reached, applied): (bool, bool) = (column(row, "reached")?, column(row, "spec_applied")?);
    let desired = column::<&str>(row, "desired_state")?.parse::<Desired>();
    let actual = column::<&str>(row, "actual_state")?.parse::<Actual>();
    let (reason, steps_left) = (reason(row)?, column(row, "steps_left")?);
    let flaps = Flaps {
        count: u32::try_from(column::<i32>(row, "flaps")?).unwrap_or(0),
        last: None,
    };
    let condition_inputs = desired
        .ok()
        .zip(actual.ok())
        .map(|(desired, actual)| ConditionInputs {
            desired,
            actual,
            reason,
            settled: settled(desired, actual, reached, applied),
            observe_only: paused || protected || name == MANAGEMENT_CLUSTER,
            steps_left,
            flapping: flaps.are_many(),
        });
    Ok(ClusterSample {
        name,
        provider: column::<&str>(row, "provider")?.parse().ok(),
        condition_inputs,
        paused,
        created: column(row, "created")?,
        declared: column(row, "declared")?,
        reconciled: column(row, "reconciled")?,
        reconciled_age: column(row, "reconciled_age")?,
        health_failures: f64::from(column::<i32>(row, "health_failures")?),
    })
}
