//! Every setting: its flag, its variable, its default, its limits, and one
//! line of documentation. The field's name is the key in `kindler.toml`.
//!
//! These structs are both what clap fills in and what the daemon is given.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Command, ValueEnum};

use super::limits::{
    address, duration_within, hours, log_filter, minutes, number_within, seconds, selector,
    variable,
};
use super::secret::DatabaseUrl;
use super::web::Web;
use crate::clusters::Selector;

/// Where the daemon listens when nobody says.
pub const LISTEN: &str = "127.0.0.1:8080";

/// What is logged when nobody says.
pub(super) const LOG_LEVEL: &str = "info";

/// A tenth of a second, the shortest time between two looks.
const TENTH: Duration = Duration::from_millis(100);
/// A hundredth, the shortest delay before another attempt.
const HUNDREDTH: Duration = Duration::from_millis(10);

/// What every command needs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Settings file; if not given: ./kindler.toml, ~/.config/kindler/kindler.toml, /etc/kindler/kindler.toml
    #[arg(long, global = true, env = "KINDLER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Postgres, as postgresql://USER:PASSWORD@HOST/NAME; DATABASE_URL works too; as a flag without the password; `kindler dev` brings its own
    #[arg(
        long,
        global = true,
        env = "KINDLER_DATABASE_URL",
        hide_env_values = true,
        hide_default_value = true,
        value_name = "URL",
        value_parser = DatabaseUrl::accept
    )]
    pub database_url: Option<DatabaseUrl>,

    /// File whose one line is the database URL; systemd's credential database_url is used by itself
    #[arg(
        long,
        global = true,
        env = "KINDLER_DATABASE_URL_FILE",
        value_name = "FILE"
    )]
    pub database_url_file: Option<PathBuf>,

    /// Folder of logs, sandbox clusters and the embedded Postgres; as root /var/lib/kindler, else ~/.local/state/kindler
    #[arg(long, global = true, env = "KINDLER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// What only a daemon needs.
#[derive(Args, Clone, Debug)]
pub struct DaemonArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub serving: Serving,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub web: Web,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub health: Health,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub retries: Retries,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub commands: HostCommands,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub sandbox: SandboxSettings,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub embedded: Embedded,
}

/// A command with every setting and nothing else.
pub(super) fn every_setting() -> Command {
    DaemonArgs::augment_args(ConnectionArgs::augment_args(Command::default()))
}

/// What makes clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DriverKind {
    /// The host's own scripts.
    #[value(help = None::<&str>)]
    Script,
    /// A background process per cluster, for trying and testing.
    #[value(help = None::<&str>)]
    Sandbox,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[value(help = None::<&str>)]
    Auto,
    /// For people.
    #[value(help = None::<&str>)]
    Text,
    /// For machines.
    #[value(help = None::<&str>)]
    Json,
}

/// How the daemon runs and is seen.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Serving")]
pub struct Serving {
    /// Address of the page, the API, /healthz, /readyz and /metrics
    #[arg(
        long,
        env = "KINDLER_LISTEN",
        default_value = LISTEN,
        value_name = "IP:PORT",
        value_parser = address
    )]
    pub listen: SocketAddr,

    /// What makes clusters: the host's scripts, or sandbox processes for trying
    #[arg(long, env = "KINDLER_DRIVER", default_value = "script", value_enum)]
    pub driver: DriverKind,

    /// Clusters worked on at the same time (1 to 256)
    #[arg(
        long,
        env = "KINDLER_CONCURRENCY",
        default_value = "3",
        value_name = "N",
        value_parser = number_within("concurrency", 1_usize..=256)
    )]
    pub concurrency: usize,

    /// Deletions that may begin within a minute, over all daemons (0 to 10000; 0: any number)
    #[arg(
        long,
        env = "KINDLER_DELETE_CAP",
        default_value = "20",
        value_name = "N",
        value_parser = number_within("delete_cap", 0_usize..=10_000)
    )]
    pub delete_cap: usize,

    /// Labels of the clusters to work on, such as host=a,tier in (dev,qa); without it: every cluster
    #[arg(
        long,
        env = "KINDLER_SELECTOR",
        default_value = "",
        hide_default_value = true,
        value_name = "SELECTOR",
        value_parser = selector
    )]
    pub selector: Selector,

    /// Time between two full passes (1s to 1h)
    #[arg(
        long,
        env = "KINDLER_RESYNC_INTERVAL",
        default_value = "30s",
        value_name = "DURATION",
        value_parser = duration_within("resync_interval", seconds(1)..=hours(1))
    )]
    pub resync_interval: Duration,

    /// How long a claim on a cluster lives without renewal (2s to 10m)
    #[arg(
        long,
        env = "KINDLER_LEASE_TTL",
        default_value = "15s",
        value_name = "DURATION",
        value_parser = duration_within("lease_ttl", seconds(2)..=minutes(10))
    )]
    pub lease_ttl: Duration,

    /// How long running work may finish at shutdown before it is cancelled (0s to 1h)
    #[arg(
        long,
        env = "KINDLER_SHUTDOWN_GRACE",
        default_value = "10s",
        value_name = "DURATION",
        value_parser = duration_within("shutdown_grace", Duration::ZERO..=hours(1))
    )]
    pub shutdown_grace: Duration,

    /// Log level, or a filter such as info,kindler=debug
    #[arg(
        long,
        env = "KINDLER_LOG",
        default_value = LOG_LEVEL,
        value_name = "LEVEL",
        value_parser = log_filter
    )]
    pub log: String,

    /// Log lines as text or JSON; auto is text on a terminal
    #[arg(long, env = "KINDLER_LOG_FORMAT", default_value = "auto", value_enum)]
    pub log_format: LogFormat,

    /// Whether /metrics tells of each cluster; with false its size does not grow with their number
    #[arg(
        long,
        env = "KINDLER_METRICS_PER_CLUSTER",
        default_value = "true",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL",
        action = clap::ArgAction::Set
    )]
    pub metrics_per_cluster: bool,
}

/// When running clusters are looked at.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Health checks")]
pub struct Health {
    /// Time between two checks of a healthy cluster (1s to 24h)
    #[arg(
        long,
        env = "KINDLER_HEALTH_INTERVAL",
        default_value = "5m",
        value_name = "DURATION",
        value_parser = duration_within("health_interval", seconds(1)..=hours(24))
    )]
    pub health_interval: Duration,

    /// Time before the next check after one that failed (100ms to 1h)
    #[arg(
        long,
        env = "KINDLER_HEALTH_REPROBE",
        default_value = "10s",
        value_name = "DURATION",
        value_parser = duration_within("health_reprobe", TENTH..=hours(1))
    )]
    pub health_reprobe: Duration,

    /// Failed checks in a row that make a cluster failed (1 to 100)
    #[arg(
        long,
        env = "KINDLER_HEALTH_THRESHOLD",
        default_value = "3",
        value_name = "N",
        value_parser = number_within("health_threshold", 1_u32..=100)
    )]
    pub health_threshold: u32,
}

/// When failed work is tried again.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Retries")]
pub struct Retries {
    /// Delay after the first failure; it doubles from there (10ms to 1h)
    #[arg(
        long,
        env = "KINDLER_BACKOFF_INITIAL",
        default_value = "5s",
        value_name = "DURATION",
        value_parser = duration_within("backoff_initial", HUNDREDTH..=hours(1))
    )]
    pub backoff_initial: Duration,

    /// Longest delay between two attempts (10ms to 24h)
    #[arg(
        long,
        env = "KINDLER_BACKOFF_MAX",
        default_value = "5m",
        value_name = "DURATION",
        value_parser = duration_within("backoff_max", HUNDREDTH..=hours(24))
    )]
    pub backoff_max: Duration,
}

/// What the script driver runs, and for how long.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Host commands (script driver)")]
pub struct HostCommands {
    /// Creates a cluster: PATH -n NAME -p PROVIDER --node-port N ...
    #[arg(long, env = "KINDLER_CREATE_COMMAND", value_name = "PATH")]
    pub create_command: Option<PathBuf>,

    /// Deletes a cluster: PATH -n NAME -p PROVIDER
    #[arg(long, env = "KINDLER_DELETE_COMMAND", value_name = "PATH")]
    pub delete_command: Option<PathBuf>,

    /// Tells health by its exit code: PATH NAME PROVIDER; without it: kubectl get nodes
    #[arg(long, env = "KINDLER_PROBE_COMMAND", value_name = "PATH")]
    pub probe_command: Option<PathBuf>,

    /// Tells existence by its exit code: PATH NAME PROVIDER; without it: the provider's own list
    #[arg(long, env = "KINDLER_EXISTS_COMMAND", value_name = "PATH")]
    pub exists_command: Option<PathBuf>,

    /// Starts a stopped cluster: PATH NAME PROVIDER; without it: the provider's own start
    #[arg(long, env = "KINDLER_START_COMMAND", value_name = "PATH")]
    pub start_command: Option<PathBuf>,

    /// Stops a cluster: PATH NAME PROVIDER; without it: the provider's own stop
    #[arg(long, env = "KINDLER_STOP_COMMAND", value_name = "PATH")]
    pub stop_command: Option<PathBuf>,

    /// Further variables that commands inherit, separated by commas; a final * stands for any ending
    #[arg(
        long,
        env = "KINDLER_PASS_ENV",
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = variable
    )]
    pub pass_env: Vec<String>,

    /// How long a create, an update or a start may take (1s to 24h)
    #[arg(
        long,
        env = "KINDLER_CREATE_DEADLINE",
        default_value = "15m",
        value_name = "DURATION",
        value_parser = duration_within("create_deadline", seconds(1)..=hours(24))
    )]
    pub create_deadline: Duration,

    /// How long a delete or a stop may take (1s to 24h)
    #[arg(
        long,
        env = "KINDLER_DELETE_DEADLINE",
        default_value = "10m",
        value_name = "DURATION",
        value_parser = duration_within("delete_deadline", seconds(1)..=hours(24))
    )]
    pub delete_deadline: Duration,

    /// How long one look at one cluster may take (100ms to 10m)
    #[arg(
        long,
        env = "KINDLER_PROBE_DEADLINE",
        default_value = "10s",
        value_name = "DURATION",
        value_parser = duration_within("probe_deadline", TENTH..=minutes(10))
    )]
    pub probe_deadline: Duration,

    /// Time between asking a command to end (TERM) and ending it (KILL) (0s to 5m)
    #[arg(
        long,
        env = "KINDLER_KILL_GRACE",
        default_value = "10s",
        value_name = "DURATION",
        value_parser = duration_within("kill_grace", Duration::ZERO..=minutes(5))
    )]
    pub kill_grace: Duration,
}

/// How the sandbox driver behaves.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sandbox driver")]
pub struct SandboxSettings {
    /// How long a sandbox create takes (0s to 1h)
    #[arg(
        long,
        env = "KINDLER_SANDBOX_CREATE_DELAY",
        default_value = "0s",
        value_name = "DURATION",
        value_parser = duration_within("sandbox_create_delay", Duration::ZERO..=hours(1))
    )]
    pub sandbox_create_delay: Duration,

    /// How long a sandbox delete takes (0s to 1h)
    #[arg(
        long,
        env = "KINDLER_SANDBOX_DELETE_DELAY",
        default_value = "0s",
        value_name = "DURATION",
        value_parser = duration_within("sandbox_delete_delay", Duration::ZERO..=hours(1))
    )]
    pub sandbox_delete_delay: Duration,

    /// Share of sandbox actions that fail (0 to 1)
    #[arg(
        long,
        env = "KINDLER_SANDBOX_FAILURE_RATE",
        default_value = "0",
        value_name = "SHARE",
        value_parser = number_within("sandbox_failure_rate", 0.0_f64..=1.0)
    )]
    pub sandbox_failure_rate: f64,

    /// Sandbox clusters that can never be made or started, as NAME or NAME:STEP, separated by commas
    #[arg(
        long,
        env = "KINDLER_SANDBOX_FAIL",
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = <crate::drivers::sandbox::InjectedFault as std::str::FromStr>::from_str
    )]
    pub sandbox_fail: Vec<crate::drivers::sandbox::InjectedFault>,

    /// Sandbox clusters that hang in every action until its deadline, as NAME or NAME:STEP, separated by commas
    #[arg(
        long,
        env = "KINDLER_SANDBOX_HANG",
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = <crate::drivers::sandbox::InjectedFault as std::str::FromStr>::from_str
    )]
    pub sandbox_hang: Vec<crate::drivers::sandbox::InjectedFault>,
}

/// The embedded Postgres.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Embedded Postgres (dev)")]
pub struct Embedded {
    /// Folder with the Postgres server programs that `kindler dev` uses; without it: the newest installed
    #[arg(long, env = "KINDLER_POSTGRES_BIN", value_name = "DIR")]
    pub postgres_bin: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::super::{Connection, DaemonSettings, DatabaseUrl, Origin};
    use super::*;
    use crate::clusters::plan::Policy;
    use crate::core::lease::LeasePolicy;
    use crate::drivers::Deadlines;

    #[test]
    fn the_defaults_are_those_of_the_modules_that_they_are_for() {
        let command = DaemonArgs::augment_args(Command::new("kindler"));
        let matches = command.try_get_matches_from(["kindler"]).unwrap();
        let connection = Connection {
            database_url: Some(DatabaseUrl::new("postgresql://h/d")),
            origin: Origin::Given,
            state_dir: "/nowhere".into(),
        };
        let args = DaemonArgs::from_arg_matches(&matches).unwrap();
        let settings = DaemonSettings::new(connection, args).unwrap();
        assert_eq!(settings.policy(), Policy::default());
        assert_eq!(settings.lease_policy(), LeasePolicy::default());
        assert_eq!(settings.deadlines(), Deadlines::default());
        assert_eq!(settings.serving.concurrency, 3);
        assert_eq!(settings.sandbox.sandbox_failure_rate, 0.0);
    }
}
