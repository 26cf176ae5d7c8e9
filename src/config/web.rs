//! The settings of the page and the API; the others are in [`settings`].
//!
//! [`settings`]: super::settings

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::environments::{Environments, environments};
use super::hosts::{domain, host};
use super::limits::origin;
use super::secret::DatabaseUrl;

/// Where whoever calls the API has to say who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthMode {
    /// On every address but the loopback ones.
    #[value(help = None::<&str>)]
    Auto,
    /// On every address.
    #[value(help = None::<&str>)]
    Required,
}

/// The page and the API.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Page and API")]
pub struct Web {
    /// Postgres as what the page and the API may declare under; without it: as the daemon
    #[arg(
        long,
        env = "KINDLER_API_DATABASE_URL",
        hide_env_values = true,
        hide_default_value = true,
        value_name = "URL",
        value_parser = DatabaseUrl::accept
    )]
    pub api_database_url: Option<DatabaseUrl>,

    /// File whose one line is that URL; systemd's credential api_database_url is used by itself
    #[arg(long, env = "KINDLER_API_DATABASE_URL_FILE", value_name = "FILE")]
    pub api_database_url_file: Option<PathBuf>,

    /// Serve page and API and reconcile nothing, as in a container beside a daemon on the host
    #[arg(
        long,
        env = "KINDLER_API_ONLY",
        default_value = "false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL",
        action = clap::ArgAction::Set
    )]
    pub api_only: bool,

    /// Further names by which this server is called, separated by commas; localhost and the address are known
    #[arg(
        long,
        env = "KINDLER_ALLOWED_HOSTS",
        value_name = "HOSTS",
        value_delimiter = ',',
        value_parser = host
    )]
    pub allowed_hosts: Vec<String>,

    /// Pages of other servers that may call the API, as https://HOST:PORT, separated by commas
    #[arg(
        long,
        env = "KINDLER_ALLOWED_ORIGINS",
        value_name = "ORIGINS",
        value_delimiter = ',',
        value_parser = origin
    )]
    pub allowed_origins: Vec<String>,

    /// Whether the API takes a token: auto on every address but loopback, or required everywhere
    #[arg(long, env = "KINDLER_AUTH", default_value = "auto", value_enum)]
    pub auth: AuthMode,

    /// Domain below which services of clusters are found, for the API's clients
    #[arg(
        long,
        env = "KINDLER_BASE_DOMAIN",
        default_value = "localhost",
        value_name = "DOMAIN",
        value_parser = domain
    )]
    pub base_domain: String,

    /// The old system's environments.csv: its clusters are declared at start, unless their names were ever known here
    #[arg(
        long,
        env = "KINDLER_SEED_CSV",
        value_name = "FILE",
        value_parser = environments
    )]
    pub seed_csv: Option<Environments>,
}
