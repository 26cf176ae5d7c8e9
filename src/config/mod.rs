//! Settings: flag, else environment, else `kindler.toml`, else default.
//!
//! The precedence is clap's own: what the file says becomes the default of the
//! flag ([`layered`]), so that `--help` shows the value that would be used.
//! Every value is checked here, once, with an error that names the field and
//! the limit. Nothing here connects to anything.

mod catalogue;
mod environments;
mod error;
mod file;
mod hosts;
mod layers;
mod limits;
mod paths;
mod secret;
mod settings;
mod url_file;
mod values;
mod web;

use std::time::Duration;

pub use catalogue::{Setting, settings, settings_example, settings_table};
pub use environments::{Environments, EnvironmentsError};
pub use error::ConfigError;
pub use layers::{COMMAND_ENV, for_dev, layered, log_setting, outside_dev};
pub use limits::{LimitError, address, duration_within, number_within};
pub use secret::DatabaseUrl;
pub use settings::{
    ConnectionArgs, DaemonArgs, DriverKind, Embedded, Health, HostCommands, LISTEN, LogFormat,
    Retries, SandboxSettings, Serving,
};
pub use web::{AuthMode, Web};

use std::path::{Path, PathBuf};

use crate::clusters::health::HealthPolicy;
use crate::clusters::plan::Policy;
use crate::core::backoff::Backoff;
use crate::core::database::Database;
use crate::core::lease::LeasePolicy;
use crate::drivers::Deadlines;

/// How often a daemon says in the database that it is there; one that was
/// silent for three of these is taken for gone.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// The file in the state folder that holds the URL of a running `kindler dev`.
const DEV_URL_FILE: &str = "database-url";

/// Where a database URL came from, for hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag, the environment or the file.
    Given,
    /// A running `kindler dev` left it in the state folder.
    Dev,
}

/// How to reach the database and the state folder: all that a command which
/// only declares or reads needs.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The database, if one is known.
    pub database_url: Option<DatabaseUrl>,
    /// Where `database_url` came from.
    pub origin: Origin,
    /// Logs, sandbox clusters, the embedded Postgres.
    pub state_dir: PathBuf,
}

impl Connection {
    /// What was given, and nothing else: for the daemon.
    pub fn given(args: &ConnectionArgs) -> Self {
        Self {
            database_url: args.database_url.clone(),
            origin: Origin::Given,
            state_dir: args.state_dir.clone().unwrap_or_else(paths::state_dir),
        }
    }

    /// What was given, else the database of a running `kindler dev`: for
    /// commands in another shell.
    ///
    /// # Errors
    /// [`ConfigError::DevUrl`] if that is there and cannot be read.
    pub fn given_or_dev(args: &ConnectionArgs) -> Result<Self, ConfigError> {
        let mut connection = Self::given(args);
        if connection.database_url.is_none() {
            connection.database_url = paths::read_url(&connection.dev_url_path())?;
            connection.origin = Origin::Dev;
        }
        Ok(connection)
    }

    /// The database.
    ///
    /// # Errors
    /// [`ConfigError`] if none is known, or its URL cannot be used.
    pub fn database(&self) -> Result<Database, ConfigError> {
        let url = self.database_url.as_ref().ok_or(ConfigError::NoDatabase)?;
        Database::parse(url.expose()).map_err(ConfigError::DatabaseUrl)
    }

    /// The folder of the clusters' logs.
    pub fn log_dir(&self) -> PathBuf {
        self.state_dir.join("logs")
    }

    /// Where a running `kindler dev` leaves its URL, readable by its user only.
    pub fn dev_url_path(&self) -> PathBuf {
        dev_url_path(&self.state_dir)
    }
}

/// Where a `kindler dev` on this state folder leaves its URL.
pub fn dev_url_path(state_dir: &Path) -> PathBuf {
    state_dir.join(DEV_URL_FILE)
}

/// Everything that a daemon is told from outside.
#[derive(Clone, Debug)]
pub struct DaemonSettings {
    /// Database and state folder.
    pub connection: Connection,
    /// How it runs and is seen.
    pub serving: Serving,
    /// The page and the API.
    pub web: Web,
    /// When it looks.
    pub health: Health,
    /// When it tries again.
    pub retries: Retries,
    /// What the script driver runs.
    pub commands: HostCommands,
    /// How the sandbox driver behaves.
    pub sandbox: SandboxSettings,
    /// The embedded Postgres of `kindler dev`.
    pub embedded: Embedded,
}

impl DaemonSettings {
    /// Checks what only several settings together can tell.
    ///
    /// # Errors
    /// [`ConfigError`] names fields and limit.
    pub fn new(connection: Connection, args: DaemonArgs) -> Result<Self, ConfigError> {
        let Retries {
            backoff_initial,
            backoff_max,
        } = args.retries;
        if backoff_initial > backoff_max {
            return Err(ConfigError::BackoffOrder {
                initial: backoff_initial,
                max: backoff_max,
            });
        }
        let DaemonArgs {
            serving,
            web,
            health,
            retries,
            commands,
            sandbox,
            embedded,
        } = args;
        Ok(Self {
            connection,
            serving,
            web,
            health,
            retries,
            commands,
            sandbox,
            embedded,
        })
    }

    /// The numbers that decisions depend on.
    pub fn policy(&self) -> Policy {
        Policy {
            backoff: Backoff {
                initial: self.retries.backoff_initial,
                max: self.retries.backoff_max,
            },
            health: HealthPolicy {
                interval: self.health.health_interval,
                reprobe: self.health.health_reprobe,
                threshold: self.health.health_threshold,
            },
            delete_cap: self.serving.delete_cap,
            ..Policy::default()
        }
    }

    /// The database under the role of the page and the API: their own URL, else
    /// the daemon's.
    ///
    /// # Errors
    /// [`ConfigError`] if none is known, or its URL cannot be used.
    pub fn api_database(&self) -> Result<Database, ConfigError> {
        match &self.web.api_database_url {
            Some(url) => Database::parse(url.expose()).map_err(ConfigError::DatabaseUrl),
            None => self.connection.database(),
        }
    }

    /// How long leases live.
    pub fn lease_policy(&self) -> LeasePolicy {
        LeasePolicy {
            ttl: self.serving.lease_ttl,
        }
    }

    /// How long each kind of work may take.
    pub fn deadlines(&self) -> Deadlines {
        Deadlines {
            create: self.commands.create_deadline,
            delete: self.commands.delete_deadline,
            probe: self.commands.probe_deadline,
            grace: self.commands.kill_grace,
        }
    }
}
