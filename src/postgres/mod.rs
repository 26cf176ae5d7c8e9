//! The private Postgres server of `kindler dev`, in its state folder.
//!
//! Finds installed server programs, makes a data folder with `initdb`, starts and stops the server
//! with `pg_ctl`, and starts it again when it dies. The server listens on a Unix socket only, in a
//! folder that only its user and root can enter. A server that outlived its Kindler is adopted by
//! the next one; a second Kindler on the same state folder is refused. This module does not know
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
mod data;
mod error;
mod lock;
mod log;
mod paths;
mod pg_ctl;
mod processes;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_postgres::NoTls;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use account::Account;
pub use binaries::{Binaries, OLDEST_VERSION};
pub use data::initdb;
pub use error::PostgresError;
pub use paths::socket_url;
pub use pg_ctl::server_arguments;
pub use processes::serving;

use lock::StateLock;
use paths::ServerPaths;
use pg_ctl::{PgCtl, Postmaster};

/// The superuser of every server.
pub const SUPERUSER: &str = "postgres";

/// The database that exists once the server has started.
pub const DATABASE: &str = "kindler";

/// Restarts in a row before a server is given up; with the delays below after about a minute.
const MOST_RESTARTS: u32 = 10;

/// A server that ran this long was healthy: its next end starts a new count.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// How to run the server.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The state folder of this Kindler; made if it is missing.
    pub state_dir: PathBuf,
    /// The folder with the server programs; without it the usual folders are searched.
    pub bin_dir: Option<PathBuf>,
    /// Whether commits survive a power cut; they always survive a killed process. False is for
    /// tests and benchmarks.
    pub durable: bool,
}

impl PostgresOptions {
    /// The defaults for a state folder.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            bin_dir: None,
            durable: true,
        }
    }
}

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
    /// It ended again and again and was given up.
    Failed {
        /// Why, for a person.
        reason: String,
    },
    /// It stopped on request.
    Stopped,
}

impl PostgresStatus {
    fn is_final(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Stopped)
    }
}

/// A running server, supervised by a task of its own.
///
/// # Guarantees
/// - While it exists, no other one runs on the same state folder.
/// - Dropping it asks the server to stop but does not wait; [`PostgresServer::stop`] waits.
#[derive(Debug)]
pub struct PostgresServer {
    paths: ServerPaths,
    status: watch::Receiver<PostgresStatus>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl PostgresServer {
    /// Starts the server, making what is missing, and returns when it accepts connections and
    /// has the database [`DATABASE`].
    pub async fn start(options: PostgresOptions) -> Result<Self, PostgresError> {
        let began = Instant::now();
        let state_dir = data::make_state_dir(&options.state_dir)?;
        let lock = StateLock::take(&state_dir)?;
        let pg_ctl = prepare(ServerPaths::of(&state_dir), &options).await?;
        let postmaster = pg_ctl.start().await?;
        if let Err(error) = ensure_database(&pg_ctl.paths).await {
            pg_ctl.stop().await;
            return Err(PostgresError::Database(error));
        }
        let pid = postmaster.pid();
        tracing::info!(
            pid,
            version = pg_ctl.binaries.version(),
            user = pg_ctl.account.name(),
            socket_dir = %pg_ctl.paths.socket_dir.display(),
            elapsed_seconds = began.elapsed().as_secs_f64(),
            "Postgres is ready"
        );
        let paths = pg_ctl.paths.clone();
        let stop = CancellationToken::new();
        let (sender, status) = watch::channel(PostgresStatus::Running { pid });
        tokio::spawn(supervise(pg_ctl, postmaster, stop.clone(), sender, lock));
        Ok(Self {
            paths,
            status,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        })
    }

    /// The private folder with the socket.
    pub fn socket_dir(&self) -> &Path {
        &self.paths.socket_dir
    }

    /// The server's log.
    pub fn log_path(&self) -> &Path {
        &self.paths.log
    }

    /// A URL for this user and database.
    pub fn url(&self, user: &str, database: &str) -> String {
        socket_url(self.socket_dir(), user, database)
    }

    /// A URL for the superuser and the database [`DATABASE`].
    pub fn admin_url(&self) -> String {
        self.url(SUPERUSER, DATABASE)
    }

    /// The state of the server, now and at each change.
    pub fn status(&self) -> watch::Receiver<PostgresStatus> {
        self.status.clone()
    }

    /// Waits until the server has ended and is not started again, and returns the final status:
    /// [`PostgresStatus::Stopped`] or [`PostgresStatus::Failed`]. Cancel-safe.
    pub async fn exited(&self) -> PostgresStatus {
        let mut status = self.status.clone();
        match status.wait_for(PostgresStatus::is_final).await {
            Ok(end) => end.clone(),
            Err(_) => PostgresStatus::Failed {
                reason: "its supervisor ended".into(),
            },
        }
    }

    /// Stops the server and waits for its end, at most some 20 seconds: connected clients are
    /// cut off, and a server that hangs is killed. A second call changes nothing.
    pub async fn stop(&self) -> PostgresStatus {
        self.stop.cancel();
        self.exited().await
    }
}

/// Chooses the programs and the account, and makes the folders.
async fn prepare(paths: ServerPaths, options: &PostgresOptions) -> Result<PgCtl, PostgresError> {
    let version = data::version_of(&paths.data)?;
    let made_by = version.map(|version| (paths.data.as_path(), version));
    let binaries = Binaries::find(options.bin_dir.as_deref(), made_by)?;
    let account = match version {
        Some(_) => Account::for_existing_data(&paths.data)?,
        None => Account::for_new_data()?,
    };
    data::make_home(&paths, &account)?;
    account.check_reaches(&paths.home)?;
    account.check_reaches(binaries.folder())?;
    data::make_socket_dir(&paths, &account)?;
    if version.is_none() {
        tracing::info!(
            data_dir = %paths.data.display(), version = binaries.version(),
            "making a Postgres data folder"
        );
        data::create(&paths, &account, &binaries, options.durable).await?;
    }
    Ok(PgCtl {
        paths,
        account,
        binaries,
        durable: options.durable,
    })
}

/// Makes the database unless it exists.
async fn ensure_database(paths: &ServerPaths) -> Result<(), tokio_postgres::Error> {
    let login = pg_ctl::maintenance_login(&paths.socket_dir);
    let (client, connection) = login.connect(NoTls).await?;
    tokio::spawn(connection);
    let found = "SELECT FROM pg_database WHERE datname = $1";
    if client.query_opt(found, &[&DATABASE]).await?.is_none() {
        let create = format!("CREATE DATABASE {DATABASE} TEMPLATE template0");
        client.batch_execute(&create).await?;
    }
    Ok(())
}

/// Starts the server again when it ends, until it is stopped or ends too often.
async fn supervise(
    pg_ctl: PgCtl,
    postmaster: Postmaster,
    stop: CancellationToken,
    status: watch::Sender<PostgresStatus>,
    lock: StateLock,
) {
    let mut restarts = 0;
    let mut started: Result<Postmaster, PostgresError> = Ok(postmaster);
    let end = loop {
        let reason = match started {
            Ok(postmaster) => {
                let pid = postmaster.pid();
                status.send_replace(PostgresStatus::Running { pid });
                let began = Instant::now();
                tokio::select! {
                    () = postmaster.ended() => {}
                    () = stop.cancelled() => break PostgresStatus::Stopped,
                }
                if began.elapsed() >= HEALTHY_AFTER {
                    restarts = 0;
                }
                format!("its main process, PID {pid}, ended")
            }
            Err(error) => error.to_string(),
        };
        tracing::error!(restarts, reason, "Postgres is down");
        if restarts == MOST_RESTARTS {
            break PostgresStatus::Failed { reason };
        }
        restarts += 1;
        let attempt = restarts;
        status.send_replace(PostgresStatus::Restarting { attempt, reason });
        started = tokio::select! {
            () = stop.cancelled() => break PostgresStatus::Stopped,
            started = async {
                sleep(delay_before(attempt)).await;
                pg_ctl.start().await
            } => started,
        };
    };
    pg_ctl.stop().await;
    if pg_ctl.paths.socket_is_elsewhere() {
        // Nothing else is in it, and the next start makes it again.
        let _ = std::fs::remove_dir(&pg_ctl.paths.socket_dir);
    }
    // Before the status: a caller that sees the end may start another server.
    drop(lock);
    status.send_replace(end);
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
    fn the_delay_before_a_restart_doubles_up_to_ten_seconds() {
        assert_eq!(delay_before(1), Duration::from_millis(100));
        assert_eq!(delay_before(2), Duration::from_millis(200));
        assert_eq!(delay_before(8), Duration::from_secs(10));
        assert_eq!(delay_before(u32::MAX), Duration::from_secs(10));
    }
}
