//! Keeps the server running: brings it up, and up again when it dies.
//!
//! A death is answered with a restart after a growing delay; a server that keeps dying is given
//! up, visibly. This module must not know what the database is used for.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::error::PostgresError;
use super::lock::{StateLock, remove_leftovers, surviving_server};
use super::postmaster::{Postmaster, Setup};
use super::processes;

/// How long a server may take to accept connections; recovery after a crash is the slow case.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long a server found running may take to answer before it is replaced.
const ADOPTION_DEADLINE: Duration = Duration::from_secs(10);

/// How long the children of a killed server may take to notice before they are killed.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(5);

/// Restarts in a row before a server is given up; with the delays below after about a minute.
const MOST_RESTARTS: u32 = 10;

/// A server that ran this long was healthy: its next death starts a new count.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// How the embedded server fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It accepts connections.
    Running {
        /// Its process id.
        pid: i32,
    },
    /// It died, and is being started again.
    Restarting {
        /// Which restart in a row this is, from 1.
        attempt: u32,
        /// Why, for a person.
        reason: String,
    },
    /// It keeps dying and was given up.
    Failed {
        /// Why, for a person.
        reason: String,
    },
    /// It was told to stop, and did.
    Stopped,
}

impl Status {
    /// Whether nothing more will happen.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Running { .. } | Self::Restarting { .. } => false,
            Self::Failed { .. } | Self::Stopped => true,
        }
    }
}

/// Brings the server up: adopts one that runs, or clears what a dead one left and launches.
pub(super) async fn bring_up(
    setup: &Setup,
    stop: &CancellationToken,
) -> Result<(Postmaster, Client), PostgresError> {
    if let Some(adopted) = adopt(setup, stop).await? {
        return Ok(adopted);
    }
    let data = &setup.layout.data;
    let left = processes::clear(data, ORPHAN_PATIENCE).await;
    if !left.is_empty() {
        let pids: Vec<_> = left
            .iter()
            .map(|pid| pid.as_raw_nonzero().to_string())
            .collect();
        return Err(PostgresError::StillRunning {
            data_dir: data.clone(),
            pids: pids.join(", "),
        });
    }
    remove_leftovers(&setup.layout)?;
    let mut postmaster = Postmaster::launch(setup)?;
    match postmaster
        .ready(&setup.layout.socket_dir, START_DEADLINE, stop)
        .await
    {
        Ok(client) => Ok((postmaster, client)),
        Err(error) => {
            postmaster.stop().await;
            Err(error)
        }
    }
}

/// Takes over a server that an earlier Kindler left running; stops it if it is of no use.
async fn adopt(
    setup: &Setup,
    stop: &CancellationToken,
) -> Result<Option<(Postmaster, Client)>, PostgresError> {
    let Some(found) = surviving_server(&setup.layout) else {
        return Ok(None);
    };
    let mut postmaster = Postmaster::adopt(found.pid, &setup.layout);
    let socket_dir = &setup.layout.socket_dir;
    let listens_here = found.socket_dir.as_ref() == Some(socket_dir);
    if listens_here && setup.layout.socket().exists() {
        match postmaster.ready(socket_dir, ADOPTION_DEADLINE, stop).await {
            Ok(client) => {
                tracing::info!(
                    pid = postmaster.pid(),
                    "adopted the Postgres of an earlier run"
                );
                return Ok(Some((postmaster, client)));
            }
            Err(error @ PostgresError::StoppedWhileStarting) => {
                postmaster.stop().await;
                return Err(error);
            }
            Err(error) => tracing::debug!(%error, "the Postgres of an earlier run is of no use"),
        }
    }
    tracing::warn!(
        pid = postmaster.pid(),
        "stopping the Postgres of an earlier run"
    );
    postmaster.stop().await;
    Ok(None)
}

/// Watches a running server until it is told to stop or given up. Holds the state lock so long.
pub(super) async fn supervise(
    setup: Setup,
    mut postmaster: Postmaster,
    stop: CancellationToken,
    status: watch::Sender<Status>,
    lock: StateLock,
) {
    let mut restarts = 0;
    let end = loop {
        let running_since = Instant::now();
        let outcome = tokio::select! {
            outcome = postmaster.exited() => outcome,
            () = stop.cancelled() => {
                postmaster.stop().await;
                break Status::Stopped;
            }
        };
        if running_since.elapsed() >= HEALTHY_AFTER {
            restarts = 0;
        }
        tracing::error!(
            pid = postmaster.pid(),
            outcome,
            log = postmaster.last_words(),
            "Postgres ended unexpectedly"
        );
        match restart(&setup, &stop, &status, &mut restarts, outcome).await {
            Ok(next) => postmaster = next,
            Err(end) => break end,
        }
    };
    if setup.layout.socket_is_elsewhere() {
        // Nothing else lies in it, and it is made again at the next start.
        let _ = std::fs::remove_dir(&setup.layout.socket_dir);
    }
    // Only now may another Kindler have the folder; and only then may anyone hear of the end.
    drop(lock);
    status.send_replace(end);
}

/// Starts the server again, as often as allowed; on failure returns the status to end with.
async fn restart(
    setup: &Setup,
    stop: &CancellationToken,
    status: &watch::Sender<Status>,
    restarts: &mut u32,
    mut reason: String,
) -> Result<Postmaster, Status> {
    while *restarts < MOST_RESTARTS {
        *restarts += 1;
        let delay = delay_before(*restarts);
        status.send_replace(Status::Restarting {
            attempt: *restarts,
            reason: reason.clone(),
        });
        tokio::select! {
            () = sleep(delay) => {}
            () = stop.cancelled() => return Err(Status::Stopped),
        }
        match bring_up(setup, stop).await {
            Ok((postmaster, _client)) => {
                let pid = postmaster.pid();
                tracing::info!(pid, attempt = *restarts, "Postgres runs again");
                status.send_replace(Status::Running { pid });
                return Ok(postmaster);
            }
            Err(PostgresError::StoppedWhileStarting) => return Err(Status::Stopped),
            Err(error) => {
                tracing::error!(attempt = *restarts, %error, "could not restart Postgres");
                reason = error.to_string();
            }
        }
    }
    tracing::error!(
        restarts = *restarts,
        reason,
        "Postgres keeps dying; giving it up"
    );
    Err(Status::Failed { reason })
}

/// The delay before the given restart in a row: 0.1 s, 0.2 s, 0.4 s and so on, at most 10 s.
fn delay_before(restart: u32) -> Duration {
    let doublings = restart.saturating_sub(1).min(16);
    (FIRST_DELAY * 2_u32.pow(doublings)).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_come_quickly_at_first_and_never_rarer_than_the_cap() {
        assert_eq!(delay_before(1), Duration::from_millis(100));
        assert_eq!(delay_before(2), Duration::from_millis(200));
        assert_eq!(delay_before(8), Duration::from_secs(10));
        assert_eq!(delay_before(u32::MAX), Duration::from_secs(10));
    }
}
