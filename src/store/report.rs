//! What people and metrics read: lists, events, counts, who is there.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::clusters::Cluster;

use super::Store;
use super::queries::{self, AnnounceReplica};
use super::rows;
use crate::core::database::DatabaseError;
use crate::core::database::{Undecodable, column};

/// One entry of the books.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Rises with time.
    pub id: i64,
    /// Which row it is about; none if an earlier release wrote it.
    pub uid: Option<Uuid>,
    /// When it was written.
    pub at: Timestamp,
    /// `declared`, `changed`, `transition`, `attempt`, `health`, `removed` ...
    pub kind: String,
    /// Who did it.
    pub actor: String,
    /// Under which generation of the declaration.
    pub generation: i64,
    /// Under which fence, if the reconciler did it.
    pub term: Option<i64>,
    /// The state before.
    pub from_state: Option<String>,
    /// The state after.
    pub to_state: Option<String>,
    /// Failed attempts in a row.
    pub attempt: Option<i32>,
    /// Why, as a word.
    pub reason: Option<String>,
    /// Why, as a sentence.
    pub message: Option<String>,
    /// The failure, if there was one.
    pub error: Option<String>,
    /// What was declared, or which fields changed from what to what.
    pub change: Option<serde_json::Value>,
}

/// How many clusters are in a pair of states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateCount {
    /// What is wanted.
    pub desired_state: String,
    /// What is recorded.
    pub actual_state: String,
    /// So many.
    pub clusters: i64,
}

/// A cluster that failed and is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// Its name.
    pub name: String,
    /// Why, as a word.
    pub reason: String,
    /// Why, as a sentence.
    pub message: String,
    /// Failed attempts in a row.
    pub failed_attempts: i32,
    /// When it is tried next; none means at once.
    pub next_attempt_at: Option<Timestamp>,
}

/// How a daemon introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Unique to this start of this process.
    pub owner: String,
    /// The host's name.
    pub host: String,
    /// The process.
    pub pid: i32,
    /// Where its HTTP listens.
    pub listen: Option<String>,
}

/// A daemon on the list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplicaSeen {
    /// Unique to one start of one process.
    pub owner: String,
    /// The host's name.
    pub host: String,
    /// The process.
    pub pid: i32,
    /// Its release.
    pub version: String,
    /// Where its HTTP listens.
    pub listen: Option<String>,
    /// Whether its listener listens.
    pub listening: bool,
    /// Whether it begins nothing, because a later release owns the schema.
    pub aside: bool,
    /// The selector of the clusters that it works for; none: for all.
    pub selector: Option<String>,
    /// What else a person should know of it.
    pub notice: Option<String>,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// Seconds since its last heartbeat.
    pub silent_seconds: f64,
}

/// Work that is being done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseHeld {
    /// On which cluster.
    pub cluster_name: String,
    /// By whom.
    pub owner: String,
    /// Under which fence.
    pub term: i64,
    /// Since when.
    pub acquired_at: Timestamp,
    /// The cluster's state.
    pub actual_state: String,
    /// What is going on.
    pub message: String,
    /// Whether the lease still stands.
    pub live: bool,
}

/// What is left undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Unconverged {
    /// Rows that failed and wait for their next attempt.
    pub failed: i64,
    /// Rows in which desire and record differ, those included.
    pub unsettled: i64,
}

impl Store {
    /// All clusters by name; rows that cannot be read stand beside the others
    /// as errors, with their raw name.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn list(&self) -> Result<Vec<Result<Cluster, (String, Undecodable)>>, DatabaseError> {
        let found = self
            .rows("list the clusters", &queries::LIST_CLUSTERS, &[])
            .await?;
        Ok(found
            .iter()
            .map(|row| rows::cluster(row).map_err(|error| (row.get("name"), error)))
            .collect())
    }

    /// How many clusters are in which pair of states.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn counts(&self) -> Result<Vec<StateCount>, DatabaseError> {
        self.each("count the clusters", &queries::COUNT_CLUSTERS, &[], |row| {
            Ok(StateCount {
                desired_state: column(row, "desired_state")?,
                actual_state: column(row, "actual_state")?,
                clusters: column(row, "clusters")?,
            })
        })
        .await
    }

    /// What failed and when it is tried next.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn failing(&self, limit: i64) -> Result<Vec<Failing>, DatabaseError> {
        self.each(
            "list what failed",
            &queries::LIST_FAILING,
            &[&limit],
            |row| {
                Ok(Failing {
                    name: column(row, "name")?,
                    reason: column(row, "reason")?,
                    message: column(row, "message")?,
                    failed_attempts: column(row, "failed_attempts")?,
                    next_attempt_at: column(row, "next_attempt_at")?,
                })
            },
        )
        .await
    }

    /// Says that a daemon is here, or still here; `aside` if it begins nothing.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn announce(
        &self,
        me: &Replica,
        listening: bool,
        aside: bool,
        notice: Option<&str>,
    ) -> Result<(), DatabaseError> {
        let version = env!("CARGO_PKG_VERSION");
        self.execute(
            "announce this daemon",
            AnnounceReplica::sql(),
            &AnnounceReplica {
                owner: &me.owner,
                host: &me.host,
                pid: &me.pid,
                version: &version,
                listen: &me.listen,
                listening: &listening,
                notice: &notice,
                selector: &self.selector(),
                aside: &aside,
            }
            .values(),
        )
        .await
        .map(drop)
    }

    /// Takes an ending daemon off the list.
    ///
    /// # Errors
    /// [`DatabaseError`]; it then looks silent, and is forgotten after an hour.
    pub async fn retire(&self, owner: &str) -> Result<(), DatabaseError> {
        self.execute("retire this daemon", &queries::RETIRE_REPLICA, &[&owner])
            .await
            .map(drop)
    }

    /// The daemons that work on this database.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn replicas(&self) -> Result<Vec<ReplicaSeen>, DatabaseError> {
        self.each("list the daemons", &queries::LIST_REPLICAS, &[], |row| {
            Ok(ReplicaSeen {
                owner: column(row, "owner")?,
                host: column(row, "host")?,
                pid: column(row, "pid")?,
                version: column(row, "version")?,
                listen: column(row, "listen")?,
                listening: column(row, "listening")?,
                aside: column(row, "aside")?,
                selector: column(row, "selector")?,
                notice: column(row, "notice")?,
                started_at: column(row, "started_at")?,
                silent_seconds: column(row, "silent_seconds")?,
            })
        })
        .await
    }

    /// What is being done now.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn leases(&self) -> Result<Vec<LeaseHeld>, DatabaseError> {
        self.each("list the leases", &queries::LIST_LEASES, &[], |row| {
            Ok(LeaseHeld {
                cluster_name: column(row, "cluster_name")?,
                owner: column(row, "owner")?,
                term: column(row, "term")?,
                acquired_at: column(row, "acquired_at")?,
                actual_state: column(row, "actual_state")?,
                message: column(row, "message")?,
                live: column(row, "live")?,
            })
        })
        .await
    }

    /// What is left undone of what is this daemon's to do.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn unconverged(&self) -> Result<Unconverged, DatabaseError> {
        let found = self
            .each(
                "count what is left",
                &queries::COUNT_UNCONVERGED,
                &[&self.selector()],
                |row| {
                    Ok(Unconverged {
                        failed: column(row, "failed")?,
                        unsettled: column(row, "unsettled")?,
                    })
                },
            )
            .await?;
        Ok(found.first().copied().unwrap_or(Unconverged {
            failed: 0,
            unsettled: 0,
        }))
    }

    /// The channel on which the database rings for changed clusters.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn wake_channel(&self) -> Result<String, DatabaseError> {
        self.channel("SELECT kindler_channel('wake')").await
    }

    /// The name of a channel, which the database makes.
    pub(super) async fn channel(&self, sql: &str) -> Result<String, DatabaseError> {
        let operation = "name a channel";
        let found = self.rows(operation, sql, &[]).await?;
        found
            .first()
            .map(|row| row.get(0))
            .ok_or(DatabaseError::NotMigrated { operation })
    }
}

/// Reads the columns of an event.
pub(super) fn event(row: &Row) -> Result<Event, Undecodable> {
    Ok(Event {
        id: column(row, "id")?,
        uid: column(row, "uid")?,
        at: column(row, "at")?,
        kind: column(row, "kind")?,
        actor: column(row, "actor")?,
        generation: column(row, "generation")?,
        term: column(row, "term")?,
        from_state: column(row, "from_state")?,
        to_state: column(row, "to_state")?,
        attempt: column(row, "attempt")?,
        reason: column(row, "reason")?,
        message: column(row, "message")?,
        error: column(row, "error")?,
        change: column(row, "change")?,
    })
}

impl ReplicaSeen {
    /// Whether it was heard of lately, given how often daemons announce
    /// themselves.
    pub fn alive(&self, heartbeat: Duration) -> bool {
        self.silent_seconds < heartbeat.as_secs_f64() * 3.0
    }
}
