//! Reads for people and metrics: lists, events, counts and replicas.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::clusters::Cluster;

use super::Store;
use super::queries::{self, WriteHeartbeat};
use super::replica_settings::ReplicaSettings;
use super::rows;
use crate::core::database::DatabaseError;
use crate::core::database::{Undecodable, column};
use crate::core::refusals::RefusedWrite;
use crate::core::workload::Workload;
use crate::findings::Finding;

/// One event of the history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Rises with time.
    pub id: i64,
    /// The UID of the row; `None` if an earlier release wrote the event.
    pub uid: Option<Uuid>,
    /// When it was written.
    pub at: Timestamp,
    /// `declared`, `changed`, `transition`, `attempt`, `health`, `removed` ...
    pub kind: String,
    /// The actor.
    pub actor: String,
    /// The generation.
    pub generation: i64,
    /// The term of the lease, if a reconcile wrote the event.
    pub term: Option<i64>,
    /// The state before.
    pub from_state: Option<String>,
    /// The state after.
    pub to_state: Option<String>,
    /// Consecutive failed attempts.
    pub attempt: Option<i32>,
    /// The reason.
    pub reason: Option<String>,
    /// The message.
    pub message: Option<String>,
    /// The error, if there was one.
    pub error: Option<String>,
    /// The declared fields, or the changed fields with old and new value.
    pub change: Option<serde_json::Value>,
}

/// Number of clusters in a pair of states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateCount {
    /// The desired state.
    pub desired_state: String,
    /// The actual state.
    pub actual_state: String,
    /// Number of clusters.
    pub clusters: i64,
}

/// A cluster that failed and is retried, or that nothing can observe or remove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// The name.
    pub name: String,
    /// The reason.
    pub reason: String,
    /// The message.
    pub message: String,
    /// The recorded state.
    pub actual_state: String,
    /// Consecutive failed attempts.
    pub failed_attempts: i32,
    /// When the next attempt is due; `None`: now.
    pub next_attempt_at: Option<Timestamp>,
    /// The last error: what failed, the last lines of output, and the path of the log.
    pub error: Option<String>,
    /// Whether it is only observed until it is resumed.
    pub paused: bool,
    /// Whether it is always only observed.
    pub protected: bool,
}

/// What a daemon writes about itself in its heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Unique to this start of the process.
    pub owner: String,
    /// The host name.
    pub host: String,
    /// The process ID.
    pub pid: i32,
    /// The address of its HTTP server.
    pub listen: Option<String>,
    /// By which it is compared with others.
    pub identity: ReplicaSettings,
}

/// The latest heartbeat of a daemon.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplicaStatus {
    /// Unique to one start of a process.
    pub owner: String,
    /// The host name.
    pub host: String,
    /// The process ID.
    pub pid: i32,
    /// Its release.
    pub version: String,
    /// The address of its HTTP server.
    pub listen: Option<String>,
    /// Whether its listener is connected.
    pub listening: bool,
    /// Whether it is on standby, because the schema is newer than its release.
    pub standby: bool,
    /// The old name of `standby`.
    pub aside: bool,
    /// The selector of the clusters that it works on; `None`: all.
    pub selector: Option<String>,
    /// A notice for people.
    pub notice: Option<String>,
    /// Clusters whose writes the database refuses although their rows do not show it.
    pub refused: Vec<RefusedWrite>,
    /// What is wrong around it.
    pub findings: Vec<Finding>,
    /// What its workers do, and what waits for them.
    pub workload: Workload,
    /// The deletions that it lets begin within a minute; 0: any number. `None`: not known.
    pub delete_cap: Option<usize>,
    /// Its settings and scripts.
    #[serde(skip)]
    pub identity: ReplicaSettings,
    /// When it started.
    pub started_at: Timestamp,
    /// Seconds since its last heartbeat.
    pub silent_seconds: f64,
}

/// A lease, and the work under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseInfo {
    /// The cluster.
    pub cluster_name: String,
    /// The owner.
    pub owner: String,
    /// The term.
    pub term: i64,
    /// When it was claimed.
    pub acquired_at: Timestamp,
    /// The cluster's state.
    pub actual_state: String,
    /// The message of the row.
    pub message: String,
    /// Whether the lease has not expired.
    pub live: bool,
}

/// Number of clusters that are not as declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Unconverged {
    /// Failed rows, which wait for their next attempt.
    pub failed: i64,
    /// Rows whose desired and actual state differ, failed ones included.
    pub unsettled: i64,
}

/// The channels on which the database notifies; it derives their names from the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Of changed clusters, for the work queue.
    pub wake: String,
    /// Of all that a page shows, for servers with open streams.
    pub page: String,
}

impl Store {
    /// All clusters by name; an unreadable row is an error with its raw name.
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

    /// Counts the clusters by desired and actual state.
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

    /// Failed clusters and others that a person has to look at, with their next attempts.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn failing(&self, limit: i64) -> Result<Vec<Failing>, DatabaseError> {
        self.each(
            "list failed clusters",
            &queries::LIST_FAILING,
            &[&limit],
            |row| {
                Ok(Failing {
                    name: column(row, "name")?,
                    reason: column(row, "reason")?,
                    message: column(row, "message")?,
                    actual_state: column(row, "actual_state")?,
                    failed_attempts: column(row, "failed_attempts")?,
                    next_attempt_at: column(row, "next_attempt_at")?,
                    error: column(row, "error")?,
                    paused: column(row, "paused")?,
                    protected: column(row, "protected")?,
                })
            },
        )
        .await
    }

    /// Writes the heartbeat of a daemon.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn heartbeat(
        &self,
        me: &Replica,
        listening: bool,
        standby: bool,
        notice: Option<&str>,
        refused: &[RefusedWrite],
        findings: &[Finding],
    ) -> Result<(), DatabaseError> {
        let version = env!("CARGO_PKG_VERSION");
        let refused = serde_json::to_value(refused).expect("it is plain data");
        let findings = serde_json::to_value(findings).expect("they are plain data");
        let settings = serde_json::to_value(&me.identity.settings).expect("they are texts");
        let scripts = serde_json::to_value(&me.identity.scripts).expect("they are texts");
        self.execute(
            "write the heartbeat",
            WriteHeartbeat::sql(),
            &WriteHeartbeat {
                owner: &me.owner,
                host: &me.host,
                pid: &me.pid,
                version: &version,
                listen: &me.listen,
                listening: &listening,
                notice: &notice,
                selector: &self.selector(),
                standby: &standby,
                refused: &refused,
                findings: &findings,
                settings: &settings,
                scripts: &scripts,
            }
            .values(),
        )
        .await
        .map(drop)
    }

    /// Removes the row of a daemon that ends.
    ///
    /// # Errors
    /// [`DatabaseError`]; the row is then removed an hour after its last heartbeat.
    pub async fn remove_replica(&self, owner: &str) -> Result<(), DatabaseError> {
        self.execute("remove the heartbeat", &queries::REMOVE_REPLICA, &[&owner])
            .await
            .map(drop)
    }

    /// The daemons of this database.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn replicas(&self) -> Result<Vec<ReplicaStatus>, DatabaseError> {
        self.each("list the daemons", &queries::LIST_REPLICAS, &[], |row| {
            let workload: serde_json::Value = column(row, "workload")?;
            let delete_cap = workload["delete_cap"].as_u64();
            Ok(ReplicaStatus {
                owner: column(row, "owner")?,
                host: column(row, "host")?,
                pid: column(row, "pid")?,
                version: column(row, "version")?,
                listen: column(row, "listen")?,
                listening: column(row, "listening")?,
                standby: column(row, "aside")?,
                aside: column(row, "aside")?,
                selector: column(row, "selector")?,
                notice: column(row, "notice")?,
                // A later release may write it in another form.
                refused: serde_json::from_value(column(row, "refused")?).unwrap_or_default(),
                findings: known_findings(column(row, "findings")?),
                workload: serde_json::from_value(workload).unwrap_or_default(),
                delete_cap: delete_cap.and_then(|cap| usize::try_from(cap).ok()),
                identity: ReplicaSettings {
                    settings: serde_json::from_value(column(row, "settings")?).unwrap_or_default(),
                    scripts: serde_json::from_value(column(row, "scripts")?).unwrap_or_default(),
                },
                started_at: column(row, "started_at")?,
                silent_seconds: column(row, "silent_seconds")?,
            })
        })
        .await
    }

    /// The leases and the work under them.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn leases(&self) -> Result<Vec<LeaseInfo>, DatabaseError> {
        self.each("list the leases", &queries::LIST_LEASES, &[], |row| {
            Ok(LeaseInfo {
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

    /// Counts this daemon's clusters that are not as declared.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn unconverged(&self) -> Result<Unconverged, DatabaseError> {
        let found = self
            .each(
                "count unconverged clusters",
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

    /// The channels on which the database notifies.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn channels(&self) -> Result<Channels, DatabaseError> {
        let operation = "name the channels";
        let sql = "SELECT kindler_channel('wake'), kindler_channel('page')";
        let found = self.rows(operation, sql, &[]).await?;
        let name = |at| {
            found
                .first()
                .and_then(|row| row.get::<_, Option<String>>(at))
        };
        let named = name(0).zip(name(1));
        // The function searches the schema that it was made in; without that it finds none, or
        // the one of temporary tables.
        let named = named.filter(|(wake, _)| !wake.starts_with("kindler_wake_pg_temp_"));
        let renamed = || DatabaseError::Refused {
            operation,
            why: "the schema of Kindler's tables was renamed: run `kindler migrate`".to_owned(),
            by_rule: false,
        };
        named
            .map(|(wake, page)| Channels { wake, page })
            .ok_or_else(renamed)
    }
}

/// The findings of another release, without the kinds that this one does not know.
fn known_findings(written: serde_json::Value) -> Vec<Finding> {
    let all: Vec<serde_json::Value> = serde_json::from_value(written).unwrap_or_default();
    all.into_iter()
        .filter_map(|one| serde_json::from_value(one).ok())
        .collect()
}

/// Decodes the columns of an event.
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

impl ReplicaStatus {
    /// The refused writes of a cluster, if it has some.
    pub fn refusal(&self, name: &str) -> Option<&RefusedWrite> {
        self.refused.iter().find(|refused| refused.key == name)
    }

    /// Whether fewer than three heartbeats were missed.
    pub fn alive(&self, heartbeat: Duration) -> bool {
        self.silent_seconds < heartbeat.as_secs_f64() * 3.0
    }
}
