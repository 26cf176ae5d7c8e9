//! Settings: flag, else environment, else `kindler.toml`, else default.
//!
//! Clap applies the precedence: a value from the file becomes the default of the
//! flag ([`layered`]), so `--help` shows the value in effect. Each value is
//! checked once, with an error that names the field and its limit. This module
//! opens no connection.

mod catalogue;
mod environments;
mod error;
mod explain;
mod file;
mod hosts;
mod installed;
mod layers;
mod limits;
mod native;
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
pub use explain::{DEFAULT, explained};
pub use layers::{COMMAND_ENV, for_dev, layered, log_setting, outside_dev};
pub use limits::{LimitError, address, duration_within, number_within};
pub use native::NativeArgs;
pub use secret::DatabaseUrl;
pub use settings::{
    ConnectionArgs, DaemonArgs, DriverKind, Embedded, Health, HostCommands, LISTEN, LogFormat,
    Retries, SandboxArgs, Serving,
};
pub use values::trimmed_arg;
pub use web::{AuthMode, Web};

use std::path::{Path, PathBuf};

use crate::clusters::health::HealthPolicy;
use crate::clusters::plan::Policy;
use crate::core::backoff::Backoff;
use crate::core::database::Database;
use crate::core::lease::LeasePolicy;
use crate::drivers::Deadlines;

/// Interval of a daemon's heartbeat in the database. A daemon that misses three
/// heartbeats counts as gone.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// File in the state folder with the database URL of a running `kindler dev`.
const DEV_URL_FILE: &str = "database-url";

/// Source of a database URL, for hints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag, the environment or the settings file.
    Given,
    /// The file that a running `kindler dev` wrote into the state folder.
    Dev,
    /// A file of the service that is installed on this host.
    Installed(PathBuf),
}

/// The database and the state folder: sufficient for commands that only declare
/// or read.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The database, if one is known.
    pub database_url: Option<DatabaseUrl>,
    /// Source of `database_url`.
    pub origin: Origin,
    /// Folder of logs, sandbox clusters and the embedded Postgres.
    pub state_dir: PathBuf,
}

impl Connection {
    /// The settings alone, without the URL of `kindler dev`: for the daemon.
    pub fn given(args: &ConnectionArgs) -> Self {
        Self {
            database_url: args.database_url.clone(),
            origin: Origin::Given,
            state_dir: args.state_dir.clone().unwrap_or_else(paths::state_dir),
        }
    }

    /// The settings, else the database of a running `kindler dev`, else that of the service
    /// that is installed on this host: for commands in another shell.
    ///
    /// # Errors
    /// [`ConfigError::DevUrl`] or [`ConfigError::InstalledUrl`] if the file exists and cannot
    /// be read.
    pub fn found(args: &ConnectionArgs) -> Result<Self, ConfigError> {
        let mut connection = Self::given(args);
        if connection.database_url.is_some() {
            return Ok(connection);
        }
        if let Some(url) = paths::read_url(&connection.dev_url_path())? {
            connection.database_url = Some(url);
            connection.origin = Origin::Dev;
        } else if let Some((url, path)) = installed::database_url()? {
            connection.database_url = Some(url);
            connection.origin = Origin::Installed(path);
        }
        Ok(connection)
    }

    /// The database.
    ///
    /// # Errors
    /// [`ConfigError`] if none is set, or its URL is invalid.
    pub fn database(&self) -> Result<Database, ConfigError> {
        let url = self.database_url.as_ref().ok_or(ConfigError::NoDatabase)?;
        Database::parse(url.expose()).map_err(ConfigError::DatabaseUrl)
    }

    /// The folder of the clusters' logs.
    pub fn log_dir(&self) -> PathBuf {
        self.state_dir.join("logs")
    }

    /// See [`dev_url_path`].
    pub fn dev_url_path(&self) -> PathBuf {
        dev_url_path(&self.state_dir)
    }
}

/// The file into which `kindler dev` on this state folder writes its URL. Only its
/// user can read it.
pub fn dev_url_path(state_dir: &Path) -> PathBuf {
    state_dir.join(DEV_URL_FILE)
}

/// All settings of a daemon.
#[derive(Clone, Debug)]
pub struct DaemonSettings {
    /// Database and state folder.
    pub connection: Connection,
    /// Address, driver, workers, logs.
    pub serving: Serving,
    /// The page and the API.
    pub web: Web,
    /// When clusters are health-checked.
    pub health: Health,
    /// When failed work is retried.
    pub retries: Retries,
    /// What the script driver runs.
    pub commands: HostCommands,
    /// How the native driver makes clusters.
    pub native: NativeArgs,
    /// Behaviour of the sandbox driver.
    pub sandbox: SandboxArgs,
    /// The embedded Postgres of `kindler dev`.
    pub embedded: Embedded,
}

impl DaemonSettings {
    /// Checks the rules that involve several settings.
    ///
    /// # Errors
    /// [`ConfigError`] names the fields and the limit.
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
            native,
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
            native,
            sandbox,
            embedded,
        })
    }

    /// Checks that the driver is named, so that it never changes with the state of the host.
    ///
    /// # Errors
    /// [`ConfigError::AutoDriver`].
    pub fn check_driver(&self) -> Result<(), ConfigError> {
        match self.serving.driver {
            DriverKind::Auto => Err(ConfigError::AutoDriver),
            DriverKind::Script | DriverKind::Native | DriverKind::Sandbox => Ok(()),
        }
    }

    /// The numbers that the plan depends on.
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
                suspend_for: self.health.repair_suspension,
            },
            delete_cap: self.serving.delete_cap,
            ..Policy::default()
        }
    }

    /// The database under the role of the page and the API: their own URL, else
    /// the daemon's.
    ///
    /// # Errors
    /// [`ConfigError`] if none is set, or its URL is invalid.
    pub fn api_database(&self) -> Result<Database, ConfigError> {
        match &self.web.api_database_url {
            Some(url) => Database::parse(url.expose()).map_err(ConfigError::DatabaseUrl),
            None => self.connection.database(),
        }
    }

    /// Lifetime of leases.
    pub fn lease_policy(&self) -> LeasePolicy {
        LeasePolicy {
            ttl: self.serving.lease_ttl,
        }
    }

    /// Deadline of each kind of work.
    pub fn deadlines(&self) -> Deadlines {
        Deadlines {
            create: self.commands.create_deadline,
            delete: self.commands.delete_deadline,
            probe: self.commands.probe_deadline,
            grace: self.commands.kill_grace,
        }
    }
}
