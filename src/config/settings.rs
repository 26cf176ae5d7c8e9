//! Every setting: flag, variable, default, limits and one line of documentation.
//! The name of the field is the key in `kindler.toml`.
//!
//! Clap fills these structs, and the daemon reads them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Command, ValueEnum};

use super::limits::{
    address, duration_within, hours, log_filter, minutes, number_within, seconds, selector,
    variable,
};
use super::native::NativeArgs;
use super::secret::DatabaseUrl;
use super::web::Web;
use crate::clusters::Selector;

/// The default listen address.
pub const LISTEN: &str = "127.0.0.1:8080";

/// The default log level.
pub(super) const LOG_LEVEL: &str = "info";

/// The lower limit of probe times.
const MIN_PROBE: Duration = Duration::from_millis(100);
/// The lower limit of backoff delays.
const MIN_BACKOFF: Duration = Duration::from_millis(10);

/// The settings of every command.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Settings file; default: the first of ./kindler.toml, ~/.config/kindler/kindler.toml, /etc/kindler/kindler.toml
    #[arg(long, global = true, env = "KINDLER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Database URL, postgresql://USER:PASSWORD@HOST/NAME; DATABASE_URL also works; the flag must not contain the password; `kindler dev` includes a database
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

    /// File with the database URL on one line; the systemd credential database_url is used automatically
    #[arg(
        long,
        global = true,
        env = "KINDLER_DATABASE_URL_FILE",
        value_name = "FILE"
    )]
    pub database_url_file: Option<PathBuf>,

    /// Folder of logs, sandbox clusters and the embedded Postgres; default: /var/lib/kindler for root, else ~/.local/state/kindler
    #[arg(long, global = true, env = "KINDLER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// The settings of a daemon.
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
    pub native: NativeArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub sandbox: SandboxArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub embedded: Embedded,
}

/// A command that has every setting as a flag.
pub(super) fn every_setting() -> Command {
    DaemonArgs::augment_args(ConnectionArgs::augment_args(Command::default()))
}

/// The driver, which makes clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DriverKind {
    /// The host's own scripts.
    #[value(help = None::<&str>)]
    Script,
    /// k3d and kind, with the container engine of this host.
    #[value(help = None::<&str>)]
    Native,
    /// A background process for each cluster, for trials and tests.
    #[value(help = None::<&str>)]
    Sandbox,
    /// Of `kindler dev` only: native where an engine and k3d or kind answer, else sandbox.
    #[value(help = None::<&str>)]
    Auto,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[value(help = None::<&str>)]
    Auto,
    /// Readable text.
    #[value(help = None::<&str>)]
    Text,
    /// One JSON object per line.
    #[value(help = None::<&str>)]
    Json,
}

/// Address, driver, workers and logs.
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

    /// Driver that makes clusters: the host's scripts, k3d and kind, sandbox processes for trials, or (dev) auto
    #[arg(long, env = "KINDLER_DRIVER", default_value = "script", value_enum)]
    pub driver: DriverKind,

    /// Number of clusters worked on at the same time (1 to 256)
    #[arg(
        long,
        env = "KINDLER_CONCURRENCY",
        default_value = "3",
        value_name = "N",
        value_parser = number_within("concurrency", 1_usize..=256)
    )]
    pub concurrency: usize,

    /// Further workers, which only deletions, stops and checks use: creates do not delay them (1 to 64)
    #[arg(
        long,
        env = "KINDLER_RESERVED_WORKERS",
        default_value = "1",
        value_name = "N",
        value_parser = number_within("reserved_workers", 1_usize..=64)
    )]
    pub reserved_workers: usize,

    /// Number of deletions that may start per minute, over all daemons (0 to 10000; 0: no limit)
    #[arg(
        long,
        env = "KINDLER_DELETE_CAP",
        default_value = "20",
        value_name = "N",
        value_parser = number_within("delete_cap", 0_usize..=10_000)
    )]
    pub delete_cap: usize,

    /// Label selector of the clusters to work on, such as host=a,tier in (dev,qa); default: every cluster
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

    /// Lifetime of the lease on a cluster without renewal (2s to 10m)
    #[arg(
        long,
        env = "KINDLER_LEASE_TTL",
        default_value = "15s",
        value_name = "DURATION",
        value_parser = duration_within("lease_ttl", seconds(2)..=minutes(10))
    )]
    pub lease_ttl: Duration,

    /// Time that running work gets at shutdown before it is cancelled (0s to 1h)
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

    /// Format of log lines, text or JSON; auto: text on a terminal, else JSON
    #[arg(long, env = "KINDLER_LOG_FORMAT", default_value = "auto", value_enum)]
    pub log_format: LogFormat,

    /// Whether /metrics has series for each cluster; with false its size does not depend on their number
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

/// When running clusters are health-checked.
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

    /// Time between a failed check and the next one (100ms to 1h)
    #[arg(
        long,
        env = "KINDLER_HEALTH_REPROBE",
        default_value = "10s",
        value_name = "DURATION",
        value_parser = duration_within("health_reprobe", MIN_PROBE..=hours(1))
    )]
    pub health_reprobe: Duration,

    /// Consecutive failed checks after which a cluster counts as failed (1 to 100)
    #[arg(
        long,
        env = "KINDLER_HEALTH_THRESHOLD",
        default_value = "3",
        value_name = "N",
        value_parser = number_within("health_threshold", 1_u32..=100)
    )]
    pub health_threshold: u32,

    /// How long repairs are suspended while most clusters do not answer; then one is tried (0s to
    /// 24h; 0s: never suspended)
    #[arg(
        long,
        env = "KINDLER_REPAIR_SUSPENSION",
        default_value = "5m",
        value_name = "DURATION",
        value_parser = duration_within("repair_suspension", Duration::ZERO..=hours(24))
    )]
    pub repair_suspension: Duration,
}

/// When failed work is retried.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Retries")]
pub struct Retries {
    /// Delay after the first failure; it doubles with each further failure (10ms to 1h)
    #[arg(
        long,
        env = "KINDLER_BACKOFF_INITIAL",
        default_value = "5s",
        value_name = "DURATION",
        value_parser = duration_within("backoff_initial", MIN_BACKOFF..=hours(1))
    )]
    pub backoff_initial: Duration,

    /// Longest delay between two attempts (10ms to 24h)
    #[arg(
        long,
        env = "KINDLER_BACKOFF_MAX",
        default_value = "5m",
        value_name = "DURATION",
        value_parser = duration_within("backoff_max", MIN_BACKOFF..=hours(24))
    )]
    pub backoff_max: Duration,
}

/// The commands of the script driver and their deadlines.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Host commands (script driver)")]
pub struct HostCommands {
    /// Creates a cluster: PATH -n NAME -p PROVIDER --node-port N ...
    #[arg(long, env = "KINDLER_CREATE_COMMAND", value_name = "PATH")]
    pub create_command: Option<PathBuf>,

    /// Deletes a cluster: PATH -n NAME -p PROVIDER
    #[arg(long, env = "KINDLER_DELETE_COMMAND", value_name = "PATH")]
    pub delete_command: Option<PathBuf>,

    /// Checks health, exit code 0 is healthy: PATH NAME PROVIDER; default: kubectl get nodes
    #[arg(long, env = "KINDLER_PROBE_COMMAND", value_name = "PATH")]
    pub probe_command: Option<PathBuf>,

    /// Checks existence by exit code: PATH NAME PROVIDER; default: the provider's list command
    #[arg(long, env = "KINDLER_EXISTS_COMMAND", value_name = "PATH")]
    pub exists_command: Option<PathBuf>,

    /// Starts a stopped cluster: PATH NAME PROVIDER; default: the provider's start command
    #[arg(long, env = "KINDLER_START_COMMAND", value_name = "PATH")]
    pub start_command: Option<PathBuf>,

    /// Stops a cluster: PATH NAME PROVIDER; default: the provider's stop command
    #[arg(long, env = "KINDLER_STOP_COMMAND", value_name = "PATH")]
    pub stop_command: Option<PathBuf>,

    /// Additional environment variables that commands inherit, separated by commas; a final * matches any suffix
    #[arg(
        long,
        env = "KINDLER_PASS_ENV",
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = variable
    )]
    pub pass_env: Vec<String>,

    /// Deadline of a create, an update or a start (1s to 24h)
    #[arg(
        long,
        env = "KINDLER_CREATE_DEADLINE",
        default_value = "15m",
        value_name = "DURATION",
        value_parser = duration_within("create_deadline", seconds(1)..=hours(24))
    )]
    pub create_deadline: Duration,

    /// Deadline of a delete or a stop (1s to 24h)
    #[arg(
        long,
        env = "KINDLER_DELETE_DEADLINE",
        default_value = "10m",
        value_name = "DURATION",
        value_parser = duration_within("delete_deadline", seconds(1)..=hours(24))
    )]
    pub delete_deadline: Duration,

    /// Deadline of one probe of one cluster (100ms to 10m)
    #[arg(
        long,
        env = "KINDLER_PROBE_DEADLINE",
        default_value = "10s",
        value_name = "DURATION",
        value_parser = duration_within("probe_deadline", MIN_PROBE..=minutes(10))
    )]
    pub probe_deadline: Duration,

    /// Time between SIGTERM and SIGKILL when a command is ended (0s to 5m)
    #[arg(
        long,
        env = "KINDLER_KILL_GRACE",
        default_value = "10s",
        value_name = "DURATION",
        value_parser = duration_within("kill_grace", Duration::ZERO..=minutes(5))
    )]
    pub kill_grace: Duration,
}

/// Behaviour of the sandbox driver.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sandbox driver")]
pub struct SandboxArgs {
    /// Duration of a sandbox create (0s to 1h)
    #[arg(
        long,
        env = "KINDLER_SANDBOX_CREATE_DELAY",
        default_value = "0s",
        value_name = "DURATION",
        value_parser = duration_within("sandbox_create_delay", Duration::ZERO..=hours(1))
    )]
    pub sandbox_create_delay: Duration,

    /// Duration of a sandbox delete (0s to 1h)
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

    /// Sandbox clusters whose create, update and start always fail, as NAME or NAME:STEP, separated by commas
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
    /// Folder of the Postgres server programs for `kindler dev`; default: the newest installed version
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
    fn defaults_match_those_of_the_modules_that_use_them() {
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
