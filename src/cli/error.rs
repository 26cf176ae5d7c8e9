//! Why a command did not do what it was asked: one line, and a hint.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use deadpool_postgres::PoolError;

use crate::cluster::{ClusterName, SpecError};
use crate::command::LogError;
use crate::config::ConfigError;
use crate::store::{MigrateError, StoreError};

use crate::daemon::DaemonError;

use super::outcome::Exit;
use super::screen;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The database did not do its part.
    #[error("database {database}")]
    Store {
        database: String,
        hint: Option<String>,
        #[source]
        source: Box<StoreError>,
    },
    /// The database refused the input; its words need no frame.
    #[error("{0}")]
    Refused(String),
    #[error("database {database}")]
    Migrate {
        database: String,
        hint: Option<String>,
        #[source]
        source: Box<MigrateError>,
    },
    #[error("name \"{0}\" is the management cluster: Kindler shows it and never acts on it")]
    Management(ClusterName),
    #[error("no cluster is named {name}")]
    UnknownName {
        name: ClusterName,
        similar: Option<String>,
    },
    #[error("cluster {name} is declared already, with other values: {differences}")]
    Different {
        name: ClusterName,
        differences: String,
    },
    #[error("cluster {name} is being removed and declared by somebody else at this moment")]
    Contended { name: ClusterName },
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
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
    #[error("the answer cannot be read")]
    Input(#[source] io::Error),
    #[error("the async runtime cannot be started")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
}

impl CliError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Config(_)
            | Self::Spec(_)
            | Self::Store { .. }
            | Self::Refused(_)
            | Self::Management(_)
            | Self::UnknownName { .. }
            | Self::Different { .. } => Exit::BadInput,
            Self::Migrate { source, .. } => match **source {
                MigrateError::Unreachable(_) => Exit::BadInput,
                _ => Exit::Failed,
            },
            Self::Contended { .. }
            | Self::NotConfirmed { .. }
            | Self::Log(_)
            | Self::NoLog { .. }
            | Self::Output(_)
            | Self::Input(_)
            | Self::Runtime(_) => Exit::Failed,
            Self::Daemon(error) if error.is_callers() => Exit::BadInput,
            Self::Daemon(_) => Exit::Failed,
        }
    }

    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint().map(str::to_owned),
            Self::Store { hint, .. } | Self::Migrate { hint, .. } => hint.clone(),
            Self::UnknownName {
                similar: Some(name),
                ..
            } => Some(format!("did you mean {name}? `kindler list` shows all")),
            Self::UnknownName { .. } => Some("`kindler list` shows all clusters".to_owned()),
            Self::Different { name, .. } => Some(format!(
                "`kindler get {name}` shows its values; leave out what need not differ, \
                 or change the row with SQL"
            )),
            Self::Contended { .. } => Some("try again".to_owned()),
            Self::NoLog { hint, .. } => Some(hint.clone()),
            _ => None,
        }
    }

    /// Whether nobody reads the output any more.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Tells an error on stderr: `error: …` with its causes, and `hint: …`.
pub fn tell(error: &(dyn Error + 'static), hint: Option<&str>) {
    let mut text = format!("error: {}\n", chain(error));
    if let Some(hint) = hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    screen::to_stderr(&text);
}

/// An error and its causes on one line, saying nothing twice: some errors
/// repeat their cause in their own message.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut told = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        next = error.source();
        // The pool only frames what the connection says.
        if matches!(error.downcast_ref(), Some(PoolError::Backend(_))) {
            continue;
        }
        let message = error.to_string();
        if told.ends_with(&message) {
            continue;
        }
        if !told.is_empty() {
            told.push_str(": ");
        }
        told.push_str(&message);
    }
    told.lines().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_says_nothing_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("connecting failed: {0}")]
        struct Repeats(#[source] io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("database x")]
        struct Frame(#[source] Repeats);

        let error = Frame(Repeats(io::Error::other("refused")));
        assert_eq!(chain(&error), "database x: connecting failed: refused");
    }
}
