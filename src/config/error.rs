//! Why the settings cannot be used: one line that names the field and where
//! its value came from, and a hint where there is one.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::core::database::DatabaseUrlError;

/// Why the settings cannot be used. Never contains a secret value.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was asked for is not there.
    #[error("config file {} does not exist", .0.display())]
    NoFile(PathBuf),
    /// It is there, but cannot be read.
    #[error("config file {} cannot be read", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not TOML. The line itself is not shown, it may hold a password.
    #[error("{} line {line} is not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What the parser expected.
        message: String,
    },
    /// A key that no setting has.
    #[error("{}: key {key:?} is not known: did you mean {nearest}?", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// As it stands there.
        key: String,
        /// The setting whose name is nearest.
        nearest: String,
    },
    /// A table or a date, where only plain values can stand.
    #[error("{}: {key} is a {found}: use a text, a number or a list of texts", path.display())]
    FileType {
        /// The file.
        path: PathBuf,
        /// The setting.
        key: String,
        /// What stands there.
        found: &'static str,
    },
    /// A value that its setting refuses.
    #[error("{}: {key}: {why}", path.display())]
    FileValue {
        /// The file.
        path: PathBuf,
        /// The setting.
        key: String,
        /// Field and limit.
        why: String,
    },
    /// A variable that no setting has.
    #[error("environment variable {name} is not known: did you mean {nearest}?")]
    UnknownVariable {
        /// As it is set.
        name: String,
        /// The variable whose name is nearest.
        nearest: String,
    },
    /// A value that its setting refuses.
    #[error("environment variable {name}: {why}")]
    Variable {
        /// As it is set.
        name: String,
        /// Field and limit.
        why: String,
    },
    /// The two bounds are the wrong way round.
    #[error(
        "backoff_initial {} is more than backoff_max {}: use at most that",
        crate::duration::compact(*initial), crate::duration::compact(*max)
    )]
    BackoffOrder {
        /// After the first failure.
        initial: Duration,
        /// The longest.
        max: Duration,
    },
    /// Nobody said where the database is.
    #[error("no database is set")]
    NoDatabase,
    /// A URL and the file that holds it are both given in the same place.
    #[error("{url} and {url}_file are both set by {by}: use one of them")]
    TwoUrls {
        /// The setting of the URL.
        url: &'static str,
        /// The place.
        by: &'static str,
    },
    /// A flag holds a password.
    #[error("--{flag} holds a password, which the process list would show to everybody here")]
    PasswordInFlag {
        /// The flag.
        flag: String,
    },
    /// The file that holds the URL cannot be read.
    #[error("the database URL cannot be read from {}", path.display())]
    UrlFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What it holds cannot be a URL.
    #[error("the file of the database URL, {}, {why}: it holds one line, the URL", path.display())]
    UrlFileContent {
        /// The file.
        path: PathBuf,
        /// What is wrong, never what it holds.
        why: &'static str,
    },
    /// The URL cannot be used.
    #[error(transparent)]
    DatabaseUrl(DatabaseUrlError),
    /// What `kindler dev` left cannot be read.
    #[error("the database URL of `kindler dev` cannot be read from {}", path.display())]
    DevUrl {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ConfigError {
    /// What to do about it, where that is not in the message.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoDatabase => Some(
                "set KINDLER_DATABASE_URL to \
                 postgresql://USER:PASSWORD@HOST/NAME, or start `kindler dev`, which brings its own",
            ),
            Self::PasswordInFlag { .. } => Some(
                "give the URL in the environment (KINDLER_DATABASE_URL, KINDLER_API_DATABASE_URL) \
                 or in a file (--database-url-file, --api-database-url-file)",
            ),
            Self::DevUrl { .. } => {
                Some("run this as the user who runs `kindler dev`, or set KINDLER_DATABASE_URL")
            }
            Self::UnknownVariable { .. } => {
                Some("`kindler serve --help` lists the variables; unset what is not meant for it")
            }
            Self::UnknownKey { .. } => {
                Some("keys are the long flags of `kindler serve --help`, with _ for -")
            }
            _ => None,
        }
    }
}
