//! The embedded Postgres of `kindler dev`: a private server below the state folder.
//!
//! It finds installed server binaries, makes a data folder, and runs a server that listens on a
//! Unix socket only, which nobody but its owner and root can open. It survives crashes of itself
//! and of Kindler: leftovers are recognised, a server that still runs is adopted, one that dies
//! is started again. This module must not know Kindler's tables, nor install software.
//!
//! ```text
//! STATE/lock                    held while a Kindler uses STATE
//! STATE/postgres/data           the data
//! STATE/postgres/run            the socket, unless its path would be too long
//! STATE/postgres/postgres.log   what the server says; one older log beside it
//! ```

mod account;
mod binaries;
mod datadir;
mod error;
mod layout;
mod lock;
mod log;
mod postmaster;
mod processes;
mod supervisor;

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use account::Account;
pub use binaries::{Binaries, OLDEST_VERSION};
pub use datadir::{SUPERUSER, initdb};
pub use error::PostgresError;
pub use layout::socket_url;
pub use postmaster::server_command;
pub use processes::serving;
pub use supervisor::Status;

use error::Subject;
use layout::Layout;
use lock::StateLock;
use postmaster::Setup;

/// The database that exists once the server has started.
pub const DATABASE: &str = "kindler";

/// How to run the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder that belongs to this Kindler; made if it is missing.
    pub state_dir: PathBuf,
    /// The folder with `postgres` and `initdb`; if none is given, the usual places are searched.
    pub bin_dir: Option<PathBuf>,
    /// Whether a commit survives a power cut; a killed process it always survives. Only tests and
    /// benchmarks can do without.
    pub durable: bool,
}

impl Options {
    /// Everything as usual, in this folder.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            bin_dir: None,
            durable: true,
        }
    }
}

/// A running server, supervised by a task of its own.
///
/// # Guarantees
/// - While it exists, no other one runs on the same state folder.
/// - Dropping it asks the server to stop but does not wait; [`Server::stop`] waits.
#[derive(Debug)]
pub struct Server {
    layout: Layout,
    status: watch::Receiver<Status>,
    stop: CancellationToken,
    /// Tells the supervisor when the last handle goes.
    _stop_on_drop: DropGuard,
}

impl Server {
    /// Starts the server, making what is missing, and returns when it accepts connections and
    /// has the database [`DATABASE`].
    pub async fn start(options: Options) -> Result<Self, PostgresError> {
        let began = Instant::now();
        let state_dir = make_state_dir(&options.state_dir)?;
        let lock = StateLock::take(&state_dir)?;
        let setup = prepare(Layout::of(&state_dir), &options).await?;

        let stop = CancellationToken::new();
        let (postmaster, client) = supervisor::bring_up(&setup, &stop).await?;
        if let Err(error) = ensure_database(&client).await {
            postmaster.stop().await;
            return Err(error);
        }
        tracing::info!(
            pid = postmaster.pid(),
            version = setup.binaries.version(),
            user = setup.account.name(),
            socket_dir = %setup.layout.socket_dir.display(),
            elapsed_seconds = began.elapsed().as_secs_f64(),
            "Postgres is ready"
        );
        let layout = setup.layout.clone();
        let (sender, status) = watch::channel(Status::Running {
            pid: postmaster.pid(),
        });
        tokio::spawn(supervisor::supervise(
            setup,
            postmaster,
            stop.clone(),
            sender,
            lock,
        ));
        Ok(Self {
            layout,
            status,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        })
    }

    /// The private folder with the socket.
    pub fn socket_dir(&self) -> &Path {
        &self.layout.socket_dir
    }

    /// What the server says.
    pub fn log_path(&self) -> &Path {
        &self.layout.log
    }

    /// A URL for this user and database.
    pub fn url(&self, user: &str, database: &str) -> String {
        socket_url(self.socket_dir(), user, database)
    }

    /// A URL for the superuser and the database [`DATABASE`].
    pub fn admin_url(&self) -> String {
        self.url(SUPERUSER, DATABASE)
    }

    /// How the server fares, now and from now on. It is started again by itself when it dies.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits until the server is gone for good, and returns why: [`Status::Stopped`] or
    /// [`Status::Failed`]. Cancel-safe.
    pub async fn exited(&self) -> Status {
        let mut status = self.status.clone();
        match status.wait_for(Status::is_final).await {
            Ok(end) => end.clone(),
            Err(_) => Status::Failed {
                reason: "its supervisor is gone".into(),
            },
        }
    }

    /// Stops the server and waits for its end, at most some 20 seconds: connected clients are
    /// cut off, and a server that hangs is killed. May be called again, to no effect.
    pub async fn stop(&self) -> Status {
        self.stop.cancel();
        self.exited().await
    }
}

/// Makes the state folder if it is missing, and returns its path without links. Others may pass
/// through a folder made by root, because the user who runs Postgres must.
fn make_state_dir(state_dir: &Path) -> Result<PathBuf, PostgresError> {
    if !state_dir.exists() {
        let mode = if rustix::process::geteuid().is_root() {
            0o711
        } else {
            0o700
        };
        if let Some(parent) = state_dir.parent() {
            fs::create_dir_all(parent).naming("create", parent)?;
        }
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(state_dir)
            .naming("create", state_dir)?;
    }
    state_dir.canonicalize().naming("resolve", state_dir)
}

/// Chooses who runs which binaries, and makes the folders.
async fn prepare(layout: Layout, options: &Options) -> Result<Setup, PostgresError> {
    let version = datadir::version_of(&layout.data)?;
    let made_by = version.map(|version| (layout.data.as_path(), version));
    let binaries = Binaries::find(options.bin_dir.as_deref(), made_by)?;
    let account = match version {
        Some(_) => Account::for_existing_data(&layout.data)?,
        None => Account::for_new_data()?,
    };
    datadir::make_home(&layout, &account)?;
    datadir::check_reachable(&layout.home, &account, &binaries).await?;
    datadir::make_socket_dir(&layout, &account)?;
    if version.is_none() {
        tracing::info!(
            data_dir = %layout.data.display(), version = binaries.version(),
            "making a Postgres data folder"
        );
        datadir::create(&layout, &account, &binaries, options.durable).await?;
    }
    Ok(Setup {
        layout,
        account,
        binaries,
        durable: options.durable,
    })
}

/// Makes the database unless it exists.
async fn ensure_database(client: &Client) -> Result<(), PostgresError> {
    let failed = |operation| {
        move |source| PostgresError::Database {
            operation,
            database: DATABASE.into(),
            source,
        }
    };
    let known = client
        .query_opt("SELECT FROM pg_database WHERE datname = $1", &[&DATABASE])
        .await
        .map_err(failed("look for"))?;
    if known.is_none() {
        let create = format!("CREATE DATABASE {DATABASE} TEMPLATE template0");
        client
            .batch_execute(&create)
            .await
            .map_err(failed("create"))?;
    }
    Ok(())
}
