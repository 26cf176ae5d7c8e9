//! Why no action runs on a cluster that is not as declared, although none has failed: there
//! is no daemon for it, or it waits in a queue. Derived from the daemons' heartbeats, because
//! no daemon can write it into the row.

use std::fmt;
use std::time::Duration;

use crate::duration;

use super::event::Reason;
use super::{Actual, Cluster};

/// What a cluster waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// No daemon sends heartbeats.
    NoDaemon,
    /// All of them are on standby, and what the newest of them says of it.
    AllOnStandby(Option<String>),
    /// The cluster matches the selector of none.
    Unselected,
    /// All workers of its daemons are busy.
    Queued {
        /// The workers that are busy.
        busy: usize,
        /// All workers.
        workers: usize,
        /// Its position in the queue, if it is among the first.
        position: Option<usize>,
    },
    /// The cap on deletions defers its deletion.
    Deferred {
        /// The deletions that may begin within a minute.
        cap: usize,
        /// Its position among the deferred ones.
        position: usize,
        /// The time until it begins.
        begins_in: Duration,
    },
}

impl Waiting {
    /// What a cluster waits for; after what the row says of a failure or an interrupted action,
    /// but not of a deferred deletion, whose position was another one when it was written.
    pub fn of(&self, cluster: &Cluster) -> String {
        match &cluster.status_message {
            Some(_) if cluster.has_reason(Reason::DeletionHeld) => self.to_string(),
            Some(said) if cluster.actual == Actual::Failed || cluster.actual.is_transitional() => {
                format!("{said}; {self}")
            }
            _ => self.to_string(),
        }
    }

    /// Whether nothing happens until a person does something about the daemons.
    pub fn needs_daemon(&self) -> bool {
        matches!(
            self,
            Self::NoDaemon | Self::AllOnStandby(_) | Self::Unselected
        )
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDaemon => f.write_str(
                "no daemon is running on this database: start `kindler serve` on its host",
            ),
            Self::AllOnStandby(None) => f.write_str("all replicas are on standby"),
            Self::AllOnStandby(Some(why)) => write!(f, "all replicas are on standby: {why}"),
            Self::Unselected => f.write_str(
                "no daemon selects it: change its labels, or start a daemon that selects it",
            ),
            Self::Queued {
                busy,
                workers,
                position,
            } => {
                write!(f, "queued: {busy} of {workers} workers busy")?;
                match position {
                    Some(position) => write!(f, ", position {position}"),
                    None => Ok(()),
                }
            }
            Self::Deferred {
                cap,
                position,
                begins_in,
            } => write!(
                f,
                "deferred: {cap} deletions a minute (KINDLER_DELETE_CAP={cap}), position {position}, \
                 begins in about {}",
                duration::about(*begins_in)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_cluster_says_for_what() {
        let queued = Waiting::Queued {
            busy: 3,
            workers: 3,
            position: Some(4),
        };
        assert_eq!(
            queued.to_string(),
            "queued: 3 of 3 workers busy, position 4"
        );
        let deferred = Waiting::Deferred {
            cap: 20,
            position: 312,
            begins_in: Duration::from_secs(899),
        };
        assert_eq!(
            deferred.to_string(),
            "deferred: 20 deletions a minute (KINDLER_DELETE_CAP=20), position 312, \
             begins in about 15 min"
        );
    }
}
