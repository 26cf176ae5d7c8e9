//! The settings of the page and the API; the others are in [`settings`].
//!
//! [`settings`]: mod@super::settings

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::environments::{Environments, environments};
use super::hosts::{domain, host};
use super::limits::origin;
use super::secret::DatabaseUrl;

/// On which addresses the API requires a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthMode {
    /// On every address except loopback.
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
    /// Database URL for the page and the API, with their own role; default: database_url
    #[arg(
        long,
        env = "KINDLER_API_DATABASE_URL",
        hide_env_values = true,
        hide_default_value = true,
        value_name = "URL",
        value_parser = DatabaseUrl::accept
    )]
    pub api_database_url: Option<DatabaseUrl>,

    /// File with that URL on one line; the systemd credential api_database_url is used automatically
    #[arg(long, env = "KINDLER_API_DATABASE_URL_FILE", value_name = "FILE")]
    pub api_database_url_file: Option<PathBuf>,

    /// Serve only the page and the API and reconcile nothing, for example in a container next to a daemon on the host
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

    /// Host names that requests to this server may use, separated by commas; localhost and the listen address are always allowed
    #[arg(
        long,
        env = "KINDLER_ALLOWED_HOSTS",
        value_name = "HOSTS",
        value_delimiter = ',',
        value_parser = host
    )]
    pub allowed_hosts: Vec<String>,

    /// Origins of other pages that may call the API, as https://HOST:PORT, separated by commas
    #[arg(
        long,
        env = "KINDLER_ALLOWED_ORIGINS",
        value_name = "ORIGINS",
        value_delimiter = ',',
        value_parser = origin
    )]
    pub allowed_origins: Vec<String>,

    /// When the API requires a token: auto (on every address except loopback) or required (on every address)
    #[arg(long, env = "KINDLER_AUTH", default_value = "auto", value_enum)]
    pub auth: AuthMode,

    /// Base domain of the clusters' services, which the API reports to its clients
    #[arg(
        long,
        env = "KINDLER_BASE_DOMAIN",
        default_value = "localhost",
        value_name = "DOMAIN",
        value_parser = domain
    )]
    pub base_domain: String,

    /// environments.csv of the bash system: at start, declares those of its clusters whose names were never used in this database
    #[arg(
        long,
        env = "KINDLER_SEED_CSV",
        value_name = "FILE",
        value_parser = environments
    )]
    pub seed_csv: Option<Environments>,
}
