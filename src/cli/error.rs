//! The errors of commands: one line, and a hint.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::access::TokenName;
use crate::clusters::{ClusterName, SpecError};
use crate::command::LogError;
use crate::config::ConfigError;
use crate::core::database::DatabaseError;
use crate::store::MigrateError;

use crate::daemon::DaemonError;
use crate::drivers::native::MergeError;

use super::outcome::Exit;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A database error.
    #[error("database {database}")]
    Store {
        database: String,
        hint: Option<String>,
        #[source]
        source: Box<DatabaseError>,
    },
    /// The database rejected the input; its message is shown as it is.
    #[error("{0}")]
    Rejected(String),
    #[error("database {database}")]
    Migrate {
        database: String,
        hint: Option<String>,
        #[source]
        source: Box<MigrateError>,
    },
    #[error("name \"{0}\" is the management cluster: Kindler shows it and never changes it")]
    Management(ClusterName),
    #[error("no cluster is named {name}")]
    UnknownName {
        name: ClusterName,
        similar: Option<String>,
    },
    #[error("cluster {name} is already declared with other values: {differences}")]
    Different {
        name: ClusterName,
        differences: String,
    },
    #[error("cluster {name} is being removed and declared again concurrently")]
    Contended { name: ClusterName },
    #[error("token {0} already exists")]
    TokenExists(TokenName),
    #[error("no live token is named {0}")]
    NoToken(TokenName),
    #[error("the operating system provides no random bytes")]
    Randomness(#[source] getrandom::Error),
    #[error("cluster {name} is not deleted: the answer was not yes")]
    NotConfirmed { name: ClusterName },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("no log of {name} at {}", path.display())]
    NoLog {
        name: ClusterName,
        path: PathBuf,
        hint: String,
    },
    #[error("cluster {name} has no kubeconfig on this host: {why}")]
    NoKubeconfig { name: ClusterName, why: String },
    #[error("{} cannot be read", path.display())]
    PrivateKubeconfig {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Merge(#[from] MergeError),
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
    #[error("the manual pages cannot be written to {}", folder.display())]
    Manual {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no daemon answers at {address}")]
    NoDaemon {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the confirmation cannot be read")]
    Input(#[source] io::Error),
    #[error("the async runtime cannot be started")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
}

impl CliError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            // A failed login and missing tables count as "no database".
            Self::Store { source, .. } => match **source {
                DatabaseError::Failed { .. } if !source.is_unreachable() => Exit::Failed,
                DatabaseError::Denied { .. }
                | DatabaseError::Unreadable { .. }
                | DatabaseError::Busy { .. }
                | DatabaseError::NoneFree { .. }
                | DatabaseError::Refused { .. }
                | DatabaseError::Unencodable { .. } => Exit::Failed,
                _ => Exit::BadInput,
            },
            Self::Config(_)
            | Self::Spec(_)
            | Self::Rejected(_)
            | Self::Management(_)
            | Self::UnknownName { .. }
            | Self::TokenExists(_)
            | Self::NoToken(_)
            | Self::Different { .. } => Exit::BadInput,
            Self::Migrate { source, .. } => match **source {
                MigrateError::Unreachable(_) => Exit::BadInput,
                _ => Exit::Failed,
            },
            Self::Contended { .. }
            | Self::NotConfirmed { .. }
            | Self::Log(_)
            | Self::NoLog { .. }
            | Self::NoKubeconfig { .. }
            | Self::PrivateKubeconfig { .. }
            | Self::Merge(_)
            | Self::Output(_)
            | Self::Manual { .. }
            | Self::NoDaemon { .. }
            | Self::Input(_)
            | Self::Randomness(_)
            | Self::Runtime(_) => Exit::Failed,
            Self::Daemon(error) if error.is_callers() => Exit::BadInput,
            Self::Daemon(_) => Exit::Failed,
        }
    }

    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint().map(str::to_owned),
            Self::Daemon(error) => error.hint().map(str::to_owned),
            Self::Store { hint, .. } | Self::Migrate { hint, .. } => hint.clone(),
            Self::UnknownName {
                similar: Some(name),
                ..
            } => Some(format!(
                "did you mean {name}? `kindler list` shows all clusters"
            )),
            Self::UnknownName { .. } => Some("`kindler list` shows all clusters".to_owned()),
            Self::Different { name, .. } => Some(format!(
                "`kindler get {name}` shows its values; omit the flags that differ, or change the \
                 row with SQL"
            )),
            Self::Contended { .. } => Some("try again".to_owned()),
            Self::TokenExists(name) => Some(format!(
                "`kindler token revoke {name}` revokes it; for a second token use another name"
            )),
            Self::NoToken(_) => Some("`kindler token list` shows all tokens".to_owned()),
            Self::NoLog { hint, .. } => Some(hint.clone()),
            Self::NoKubeconfig { name, .. } => Some(format!(
                "run it on the host of the daemon that made {name}, as its user"
            )),
            Self::PrivateKubeconfig { .. } => Some(
                "run it as the daemon's user (sudo -u), or ask the API with a token of scope admin"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// Whether the reader of the output closed the pipe.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
