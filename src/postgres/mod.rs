//! The embedded Postgres server of `kindler dev`, in its state folder.
//!
//! Finds installed server programs, makes a data folder with `initdb`, starts and stops the server,
//! and starts it again when it ends. The server listens on a Unix socket only, in a folder that
//! only its user and root can enter. A server that outlived its Kindler is adopted by the next one;
//! a second Kindler on the same state folder is rejected. This module does not know Kindler's
//! tables and does not install software.
//!
//! ```text
//! STATE/lock                    locked while a Kindler uses STATE
//! STATE/postgres/data           the data
//! STATE/postgres/run            the socket, unless clients could not use its path
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
use tokio::time::sleep;
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

/// The delay before a restart: 0.5 s, then doubling.
const RESTART_DELAY: Backoff = Backoff {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(10),
};

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
        /// Which restart since it last ran, from 1.
        attempt: u32,
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
    status: watch::Receiver<PostgresStatus>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl PostgresServer {
    /// Starts the server, making what is missing, and returns when it accepts connections and has
    /// the database [`DATABASE`].
    ///
    /// `bin_dir` holds the server programs; without it the usual folders are searched. `durable`
    /// is whether commits survive a power cut; they always survive a killed process. Cancel-safe:
    /// a server that is being started is asked to stop.
    pub async fn start(
        state_dir: &Path,
        bin_dir: Option<&Path>,
        durable: bool,
    ) -> Result<Self, PostgresError> {
        let state = StateDir::lock(state_dir)?;
        let server = ServerProcess::prepare(state, bin_dir, durable).await?;
        let started = server.start().await?;
        let pid = started.as_raw_pid();
        let (version, log) = (server.binaries.version, server.log.display());
        tracing::info!(pid, version, %log, "Postgres is ready");
        let stop = CancellationToken::new();
        let (sender, status) = watch::channel(PostgresStatus::Running { pid });
        let postgres = Self {
            socket_dir: server.socket_dir.clone(),
            status,
            _stop_on_drop: stop.clone().drop_guard(),
            stop: stop.clone(),
        };
        tokio::spawn(supervise(server, started, stop, sender));
        Ok(postgres)
    }

    /// The private folder with the socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// A URL for the superuser and the database [`DATABASE`].
    pub fn admin_url(&self) -> String {
        socket_url(&self.socket_dir, SUPERUSER, DATABASE)
    }

    /// The state of the server, now and at each change.
    pub fn status(&self) -> watch::Receiver<PostgresStatus> {
        self.status.clone()
    }

    /// Stops the server, also one that is just being started, and waits for its end, at most some 20
    /// seconds: connected clients are cut off, and a server that hangs is killed. A second call
    /// changes nothing.
    pub async fn stop(&self) -> PostgresStatus {
        self.stop.cancel();
        let mut status = self.status();
        let stopped = |status: &PostgresStatus| *status == PostgresStatus::Stopped;
        // An error means that the supervisor panicked: the status is the last that it knew.
        let _ = status.wait_for(stopped).await;
        self.status.borrow().clone()
    }
}

/// Keeps the server running until `stop` is cancelled, then stops it.
async fn supervise(
    server: ServerProcess,
    started: Pid,
    stop: CancellationToken,
    status: watch::Sender<PostgresStatus>,
) {
    let running = keep_running(&server, started, &status);
    stop.run_until_cancelled(running).await;
    if let Err(error) = server.stop().await {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, "could not stop Postgres");
    }
    if !server.socket_dir.starts_with(&server.state.path) {
        let _ = std::fs::remove_dir(&server.socket_dir);
    }
    // Unlocks the state folder first: a caller that sees the end may start another server.
    drop(server);
    status.send_replace(PostgresStatus::Stopped);
}

/// Starts the server again whenever it ends.
async fn keep_running(
    server: &ServerProcess,
    started: Pid,
    status: &watch::Sender<PostgresStatus>,
) {
    let mut started: Result<_, PostgresError> = Ok(started);
    let mut attempt = 0;
    loop {
        let reason = match started {
            Ok(main) => {
                let pid = main.as_raw_pid();
                attempt = 0;
                status.send_replace(PostgresStatus::Running { pid });
                server.ended(main).await;
                format!("its main process, PID {pid}, ended")
            }
            Err(error) => error.to_string(),
        };
        attempt += 1;
        tracing::error!(attempt, reason, "Postgres is down, and is started again");
        status.send_replace(PostgresStatus::Restarting { attempt, reason });
        sleep(RESTART_DELAY.delay(attempt, 0.0)).await;
        started = server.start().await;
    }
}
