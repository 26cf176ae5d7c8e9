//! The embedded Postgres server of `kindler dev`, in its state folder.
//!
//! Finds installed server programs, makes a data folder with `initdb`, starts and stops the server,
//! and starts it again when it dies. The server listens on a Unix socket only, in a
//! folder that only its user and root can enter. A server that outlived its Kindler is adopted by
//! the next one; a second Kindler on the same state folder is rejected. This module does not know
//! Kindler's tables and does not install software.
//!
//! ```text
//! STATE/lock                    locked while a Kindler uses STATE
//! STATE/postgres/data           the data
//! STATE/postgres/run            the socket, unless its path would be too long
//! STATE/postgres/postgres.log   the server's log; one older log beside it
//! ```

mod account;
mod binaries;
mod error;
mod server;
mod socket;
mod state_dir;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::core::backoff::Backoff;

pub use account::Account;
pub use binaries::{Binaries, OLDEST_VERSION};
pub use error::PostgresError;
pub use server::{server_arguments, serving};
pub use socket::socket_url;
pub use state_dir::initdb;

use server::ServerProcess;
use state_dir::StateDir;

/// The superuser of every server.
pub const SUPERUSER: &str = "postgres";

/// The database that exists once the server has started.
pub const DATABASE: &str = "kindler";

/// The delay before a restart: 0.1 s, then doubling.
const RESTART_DELAY: Backoff = Backoff {
    initial: Duration::from_millis(100),
    max: Duration::from_secs(10),
};

/// Restarts in a row before a server is given up, after about a minute.
const MOST_RESTARTS: u32 = 10;

/// A server that ran this long was healthy: its next end starts a new count.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// The state of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostgresStatus {
    /// It accepts connections.
    Running {
        /// The PID of its main process.
        pid: i32,
    },
    /// It ended, and is being started again.
    Restarting {
        /// Which restart in a row this is, from 1.
        attempt: u32,
        /// Why, for a person.
        reason: String,
    },
    /// It ended too often and is not started again.
    Failed {
        /// Why, for a person.
        reason: String,
    },
    /// It stopped on request.
    Stopped,
}

/// A running server, supervised by a task of its own.
///
/// # Guarantees
/// - While it exists, no other one runs on the same state folder.
/// - Dropping it asks the server to stop but does not wait; [`PostgresServer::stop`] waits.
#[derive(Debug)]
pub struct PostgresServer {
    socket_dir: PathBuf,
    log: PathBuf,
    status: watch::Receiver<PostgresStatus>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl PostgresServer {
    /// Starts the server, making what is missing, and returns when it accepts connections and has
    /// the database [`DATABASE`].
    ///
    /// `bin_dir` holds the server programs; without it the usual folders are searched. `durable`
    /// is whether commits survive a power cut; they always survive a killed process.
    pub async fn start(
        state_dir: &Path,
        bin_dir: Option<&Path>,
        durable: bool,
    ) -> Result<Self, PostgresError> {
        let state = StateDir::lock(state_dir)?;
        let server = ServerProcess::prepare(state, bin_dir, durable).await?;
        let started = server.start().await?;
        let pid = started.as_raw_pid();
        tracing::info!(pid, log = %server.log.display(), "Postgres is ready");
        let stop = CancellationToken::new();
        let (sender, status) = watch::channel(PostgresStatus::Running { pid });
        let postgres = Self {
            socket_dir: server.socket_dir.clone(),
            log: server.log.clone(),
            status,
            _stop_on_drop: stop.clone().drop_guard(),
            stop: stop.clone(),
        };
        tokio::spawn(supervise(server, Ok(started), stop, sender));
        Ok(postgres)
    }

    /// The private folder with the socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The server's log.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// A URL for the superuser and the database [`DATABASE`].
    pub fn admin_url(&self) -> String {
        socket_url(&self.socket_dir, SUPERUSER, DATABASE)
    }

    /// The state of the server, now and at each change.
    pub fn status(&self) -> watch::Receiver<PostgresStatus> {
        self.status.clone()
    }

    /// Waits until the server has ended and is not started again, and returns the final status:
    /// [`PostgresStatus::Stopped`] or [`PostgresStatus::Failed`]. Cancel-safe.
    pub async fn exited(&self) -> PostgresStatus {
        use PostgresStatus::{Failed, Stopped};
        let mut status = self.status();
        let is_final = |status: &_| matches!(status, Failed { .. } | Stopped);
        let ended = status.wait_for(is_final).await;
        let reason = "its supervisor ended".into();
        ended.map_or(Failed { reason }, |status| status.clone())
    }

    /// Stops the server, after a restart that is under way, and waits for its end, at most some 20
    /// seconds: connected clients are cut off, and a server that hangs is killed. A second call
    /// changes nothing.
    pub async fn stop(&self) -> PostgresStatus {
        self.stop.cancel();
        self.exited().await
    }
}

/// Starts the server again when it ends, until it is stopped or ends too often.
async fn supervise(
    server: ServerProcess,
    mut started: Result<Pid, PostgresError>,
    stop: CancellationToken,
    status: watch::Sender<PostgresStatus>,
) {
    let mut attempt = 0;
    let end = loop {
        let began = Instant::now();
        let reason = match started {
            Ok(main) => {
                let pid = main.as_raw_pid();
                status.send_replace(PostgresStatus::Running { pid });
                let ended = stop.run_until_cancelled(server.ended(main)).await;
                if ended.is_none() {
                    break PostgresStatus::Stopped;
                }
                format!("its main process, PID {pid}, ended")
            }
            Err(error) => error.to_string(),
        };
        if began.elapsed() >= HEALTHY_AFTER {
            attempt = 0;
        }
        tracing::error!(attempt, reason, "Postgres is down");
        if attempt == MOST_RESTARTS {
            break PostgresStatus::Failed { reason };
        }
        attempt += 1;
        status.send_replace(PostgresStatus::Restarting { attempt, reason });
        let delay = sleep(RESTART_DELAY.delay(attempt, 0.0));
        if stop.run_until_cancelled(delay).await.is_none() {
            break PostgresStatus::Stopped;
        }
        started = server.start().await;
    };
    if let Err(error) = server.stop().await {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, "could not stop Postgres");
    }
    if !server.socket_dir.starts_with(&server.state.path) {
        let _ = std::fs::remove_dir(&server.socket_dir);
    }
    // Before the status: a caller that sees the end may start another server.
    drop(server);
    status.send_replace(end);
}
