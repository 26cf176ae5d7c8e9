//! The database session of a command, and its errors.

use std::env;
use std::fs;
use std::sync::Arc;

use serde::Serialize;

use crate::clusters::{Cluster, ClusterName, Waiting};
use crate::config::{Connection, HEARTBEAT, Origin};
use crate::core::database::{Database, DatabaseError};
use crate::store::{FleetView, MigrateError, Store};

use super::error::CliError;
use super::screen::remark;
use super::text;

/// A command runs one statement at a time; the second connection names what blocks it.
const CONNECTIONS: usize = 2;

/// Maximum edit distance of a name to suggest.
const MAX_DISTANCE: usize = 2;

const READ_ONLY_HINT: &str = "name the server that accepts writes, or all servers of the \
                              database, in KINDLER_DATABASE_URL (or --database-url)";

const DENIED_HINT: &str = "use a login in the role kindler_api to declare clusters, in \
                           kindler_reader to read, and in kindler_owner for migrate and token \
                           (sql/roles.sql); for example: GRANT kindler_api TO the login";

const MIGRATOR_HINT: &str = "use the login that owns the tables, or one in the role kindler_owner \
                             (sql/roles.sql); for the first migration, one that may create \
                             tables: GRANT CREATE, USAGE ON SCHEMA public TO the login";

/// A configured database, which may be unreachable.
pub(super) struct CliSession {
    pub store: Store,
    pub database: Database,
    pub connection: Connection,
}

impl CliSession {
    pub(super) fn new(connection: Connection) -> Result<Self, CliError> {
        let database = connection.database()?;
        let store = Store::new(&database, CONNECTIONS, &actor());
        Ok(Self {
            store,
            database,
            connection,
        })
    }

    /// A database error with the database's name and a hint.
    pub(super) fn failed(&self, source: DatabaseError) -> CliError {
        match source {
            DatabaseError::Rejected(message) => CliError::Rejected(message),
            source => {
                let hint = match &source {
                    DatabaseError::ReadOnly { .. } => Some(READ_ONLY_HINT.to_owned()),
                    DatabaseError::Denied { .. } => Some(DENIED_HINT.to_owned()),
                    source => source.is_unreachable().then(|| self.unreachable_hint()),
                };
                CliError::Store {
                    database: self.database.to_string(),
                    hint,
                    source: Box::new(source),
                }
            }
        }
    }

    pub(super) fn migrate_failed(&self, source: MigrateError) -> CliError {
        let hint = match source {
            MigrateError::Unreachable(_) => Some(self.unreachable_hint()),
            MigrateError::Operation { denied: true, .. } => Some(MIGRATOR_HINT.to_owned()),
            _ => None,
        };
        CliError::Migrate {
            database: self.database.to_string(),
            hint,
            source: Box::new(source),
        }
    }

    /// The daemons, if they can be read.
    pub(super) async fn fleet(&self) -> Option<Arc<FleetView>> {
        self.store.recent_fleet(HEARTBEAT).await
    }

    /// Notes on stderr that no daemon works, if so.
    pub(super) async fn remark_idle(&self) {
        if let Some(idle) = self.fleet().await.and_then(|fleet| fleet.idle()) {
            remark(&text::line(&idle.to_string()));
        }
    }

    /// Notes on stderr why nothing begins on a cluster, if a person has to do something about it.
    pub(super) async fn remark_waiting(&self, cluster: &Cluster) {
        let waiting = self.fleet().await.and_then(|fleet| fleet.waiting(cluster));
        if let Some(waiting) = waiting.filter(Waiting::needs_daemon) {
            remark(&text::line(&waiting.to_string()));
        }
    }

    pub(super) fn unreachable_hint(&self) -> String {
        match &self.connection.origin {
            Origin::Given => "check KINDLER_DATABASE_URL (or --database-url), and that Postgres \
                              runs and accepts the login"
                .to_owned(),
            Origin::Dev => format!(
                "`kindler dev` wrote this URL to {}: is it still running?",
                self.connection.dev_url_path().display()
            ),
            Origin::Installed(path) => format!(
                "this is the URL of the installed service, from {}: check that Postgres runs and \
                 accepts the login",
                path.display()
            ),
        }
    }

    /// The row of an answer, or the error for an unknown name.
    pub(super) async fn found(
        &self,
        name: &ClusterName,
        answer: Result<Option<Cluster>, DatabaseError>,
    ) -> Result<Cluster, CliError> {
        match answer.map_err(|error| self.failed(error))? {
            Some(cluster) => Ok(cluster),
            None => Err(self.unknown(name).await),
        }
    }

    /// The error for an unknown name, with a similar one as a suggestion.
    pub(super) async fn unknown(&self, name: &ClusterName) -> CliError {
        let rows = self.store.list().await.unwrap_or_default();
        let similar = rows
            .into_iter()
            .filter_map(Result::ok)
            .map(|row| {
                (
                    strsim::damerau_levenshtein(name.as_str(), row.name.as_str()),
                    row.name,
                )
            })
            .filter(|(distance, _)| *distance <= MAX_DISTANCE)
            .min();
        CliError::UnknownName {
            name: name.clone(),
            similar: similar.map(|(_, name)| name.to_string()),
        }
    }
}

/// A cluster and what it waits for, as JSON.
#[derive(Serialize)]
pub(super) struct WaitingCluster {
    #[serde(flatten)]
    cluster: Cluster,
    /// What it waits for, if no action runs on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<String>,
}

impl WaitingCluster {
    pub(super) fn of(cluster: Cluster, fleet: Option<&FleetView>) -> Self {
        let waiting = fleet.and_then(|fleet| fleet.waiting(&cluster));
        Self {
            cluster,
            waiting: waiting.map(|waiting| waiting.to_string()),
        }
    }
}

/// The actor for the audit log: user and host.
fn actor() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| env::var(name).ok().filter(|user| !user.is_empty()))
        .unwrap_or_else(|| match rustix::process::getuid() {
            uid if uid.is_root() => "root".to_owned(),
            uid => format!("uid {uid}"),
        });
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => user,
        host => format!("{user}@{host}"),
    }
}
