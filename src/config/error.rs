//! Errors of the settings: one line that names the field and the source of its
//! value, with a hint where one helps.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::core::database::DatabaseUrlError;

/// Why the settings are rejected. Never contains a secret value.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file given by flag or environment does not exist.
    #[error("config file {} does not exist", .0.display())]
    NoFile(PathBuf),
    /// The file exists but cannot be read.
    #[error("config file {} cannot be read", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML. The line is not shown, because it may contain a password.
    #[error("{} line {line} is not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser expected.
        message: String,
    },
    /// No setting has this key.
    #[error("{}: key {key:?} is not known: did you mean {nearest}?", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The setting with the most similar name.
        nearest: String,
    },
    /// A table or a date; only plain values are allowed.
    #[error("{}: {key} is a {found}: use a string, a number or a list of strings", path.display())]
    FileType {
        /// The file.
        path: PathBuf,
        /// The setting.
        key: String,
        /// The TOML type found.
        found: &'static str,
    },
    /// The setting rejects the value in the file.
    #[error("{}: {key}: {why}", path.display())]
    FileValue {
        /// The file.
        path: PathBuf,
        /// The setting.
        key: String,
        /// The field and its limit.
        why: String,
    },
    /// No setting has this variable.
    #[error("environment variable {name} is not known: did you mean {nearest}?")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The variable with the most similar name.
        nearest: String,
    },
    /// The setting rejects the value of the variable.
    #[error("environment variable {name}: {why}")]
    Variable {
        /// The variable.
        name: String,
        /// The field and its limit.
        why: String,
    },
    /// The initial delay is longer than the longest one.
    #[error(
        "backoff_initial {} is more than backoff_max {}: use at most that",
        crate::duration::compact(*initial), crate::duration::compact(*max)
    )]
    BackoffOrder {
        /// The delay after the first failure.
        initial: Duration,
        /// The longest delay.
        max: Duration,
    },
    /// No setting names a database.
    #[error("no database is set")]
    NoDatabase,
    /// A daemon that runs for long names its driver.
    #[error("driver auto is only for `kindler dev`")]
    AutoDriver,
    /// A URL and a file with the URL are both set, by the same source.
    #[error("{url} and {url}_file are both set by {by}: use one of them")]
    TwoUrls {
        /// The setting of the URL.
        url: &'static str,
        /// The source.
        by: &'static str,
    },
    /// A flag contains a password.
    #[error(
        "--{flag} contains a password, which every user of this machine could read in the process list"
    )]
    PasswordInFlag {
        /// The flag.
        flag: String,
    },
    /// The file with the URL cannot be read.
    #[error("the database URL cannot be read from {}", path.display())]
    UrlFile {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The file does not contain a URL.
    #[error("the file of the database URL, {}, {why}: write the URL into it, on one line", path.display())]
    UrlFileContent {
        /// The file.
        path: PathBuf,
        /// What is wrong, never the content.
        why: &'static str,
    },
    /// The URL is invalid.
    #[error(transparent)]
    DatabaseUrl(DatabaseUrlError),
    /// A file of the installed service cannot be read.
    #[error("the database URL of the installed service cannot be read from {}", path.display())]
    InstalledUrl {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The URL file of `kindler dev` cannot be read.
    #[error("the database URL of `kindler dev` cannot be read from {}", path.display())]
    DevUrl {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
}

impl ConfigError {
    /// What to do, where the message does not say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoDatabase => Some(
                "set KINDLER_DATABASE_URL to \
                 postgresql://USER:PASSWORD@HOST/NAME, or start `kindler dev`, which includes a database",
            ),
            Self::AutoDriver => Some("set KINDLER_DRIVER to script, native or sandbox"),
            Self::PasswordInFlag { .. } => Some(
                "set the URL in the environment (KINDLER_DATABASE_URL, KINDLER_API_DATABASE_URL) \
                 or in a file (--database-url-file, --api-database-url-file)",
            ),
            Self::InstalledUrl { .. } => {
                Some("run this as root (sudo kindler ...), or set KINDLER_DATABASE_URL")
            }
            Self::DevUrl { .. } => {
                Some("run this as the user of `kindler dev`, or set KINDLER_DATABASE_URL")
            }
            Self::UnknownVariable { .. } => Some(
                "`kindler serve --help` lists the variables; unset this one if it is not for Kindler",
            ),
            Self::UnknownKey { .. } => {
                Some("keys are the long flags of `kindler serve --help`, with _ for -")
            }
            _ => None,
        }
    }
}
