//! One run of the main server process: launched by us, or adopted from a Kindler that died.
//!
//! It is started, awaited and stopped here. This module must not decide to start it again; the
//! supervisor does.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::sync::CancellationToken;

use super::account::Account;
use super::binaries::Binaries;
use super::datadir::SUPERUSER;
use super::error::{PostgresError, Subject};
use super::layout::{Layout, cluster_name};
use super::{log, processes};

/// How long connected clients may delay a stop before they are cut off, and then how long the
/// server may take to end without a checkpoint.
const FAST_STOP: Duration = Duration::from_secs(10);
const IMMEDIATE_STOP: Duration = Duration::from_secs(5);

/// How often a connection is tried while the server starts, and how long one try may take.
const TRY_AGAIN: Duration = Duration::from_millis(10);
const ONE_TRY: Duration = Duration::from_secs(2);

/// Everything a server is started with.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub layout: Layout,
    pub account: Account,
    pub binaries: Binaries,
    pub durable: bool,
}

/// The main server process. Dropping it asks the server to stop, without waiting for that.
#[derive(Debug)]
pub(super) struct Postmaster {
    pid: Pid,
    /// None for an adopted process, which only its process id leads to.
    child: Option<Child>,
    ended: bool,
    data_dir: PathBuf,
    log: PathBuf,
    log_start: u64,
}

impl Postmaster {
    /// Starts the server in a process group of its own, so that Ctrl-C does not reach it.
    pub fn launch(setup: &Setup) -> Result<Self, PostgresError> {
        let layout = &setup.layout;
        let (log, log_start) = log::open(&layout.log)?;
        setup.account.own(&layout.log)?;
        let stderr = log.try_clone().naming("open", &layout.log)?;
        let mut command = server_command(
            &setup.binaries,
            &setup.account,
            &layout.data,
            &layout.socket_dir,
            setup.durable,
        );
        command.stdout(log).stderr(stderr);
        let program = setup.binaries.postgres();
        let mut command = tokio::process::Command::from(command);
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|source| PostgresError::Spawn { program, source })?;
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok(Self {
            pid: pid.expect("a child that was not awaited has a process id"),
            child: Some(child),
            ended: false,
            data_dir: layout.data.clone(),
            log: layout.log.clone(),
            log_start,
        })
    }

    /// Takes over a running server that serves our data.
    pub fn adopt(pid: Pid, layout: &Layout) -> Self {
        Self {
            pid,
            child: None,
            ended: false,
            data_dir: layout.data.clone(),
            log: layout.log.clone(),
            log_start: 0,
        }
    }

    /// The process id, for people.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits for the end of the process and tells how it ended. Cancel-safe.
    pub async fn exited(&mut self) -> String {
        let outcome = match &mut self.child {
            Some(child) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => format!("its end could not be awaited: {error}"),
            },
            None => {
                processes::gone(self.pid, &self.data_dir).await;
                "it was adopted, so its exit status is unknown".into()
            }
        };
        self.ended = true;
        outcome
    }

    /// What it said in this run, at the end.
    pub fn last_words(&self) -> String {
        log::tail(&self.log, self.log_start)
    }

    /// Waits until it accepts a connection, and fails at once when it ends first.
    pub async fn ready(
        &mut self,
        socket_dir: &Path,
        deadline: Duration,
        stop: &CancellationToken,
    ) -> Result<Client, PostgresError> {
        let (log, log_start) = (self.log.clone(), self.log_start);
        tokio::select! {
            outcome = self.exited() => Err(PostgresError::Died {
                outcome,
                tail: self.last_words(),
                log,
            }),
            () = stop.cancelled() => Err(PostgresError::StoppedWhileStarting),
            connected = first_connection(socket_dir, deadline) => {
                connected.map_err(|source| PostgresError::NotReady {
                    waited: deadline,
                    tail: log::tail(&log, log_start),
                    log,
                    source,
                })
            }
        }
    }

    /// Stops it: politely, then without a checkpoint, then by force.
    pub async fn stop(mut self) {
        for (signal, patience) in [(Signal::INT, FAST_STOP), (Signal::QUIT, IMMEDIATE_STOP)] {
            self.signal(signal);
            if timeout(patience, self.exited()).await.is_ok() {
                return;
            }
            tracing::warn!(
                pid = self.pid(),
                waited_seconds = patience.as_secs(),
                "Postgres does not stop; insisting"
            );
        }
        self.signal(Signal::KILL);
        let _ = timeout(IMMEDIATE_STOP, self.exited()).await;
    }

    fn signal(&self, signal: Signal) {
        match &self.child {
            // Not yet awaited to its end, so the number cannot have been reused.
            Some(_) if !self.ended => {
                let _ = kill_process(self.pid, signal);
            }
            Some(_) => {}
            None => processes::signal(self.pid, &self.data_dir, signal),
        }
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(Signal::INT);
        }
    }
}

/// The command that runs a server: on a Unix socket only, in UTC, shown in `ps` under a name of
/// its own. All settings are on the command line, so they hold for data made earlier, too.
pub fn server_command(
    binaries: &Binaries,
    account: &Account,
    data_dir: &Path,
    socket_dir: &Path,
    durable: bool,
) -> Command {
    let mut command = Command::new(binaries.postgres());
    command
        .arg("-D")
        .arg(data_dir)
        .stdin(Stdio::null())
        .current_dir(data_dir);
    let mut set = |name: &str, value: &OsStr| {
        let mut setting = OsString::from(name);
        setting.push("=");
        setting.push(value);
        command.arg("-c").arg(setting);
    };
    set("unix_socket_directories", &quoted(socket_dir));
    set("cluster_name", OsStr::new(&cluster_name(data_dir)));
    for (name, value) in [
        ("listen_addresses", ""),
        ("port", "5432"),
        ("unix_socket_permissions", "0700"),
        ("update_process_title", "on"),
        ("logging_collector", "off"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
    ] {
        set(name, OsStr::new(value));
    }
    if !durable {
        // Commits still reach the operating system, so they survive a kill of the server.
        for name in ["fsync", "full_page_writes"] {
            set(name, OsStr::new("off"));
        }
    }
    account.apply(&mut command);
    command
}

/// A path as an element of a list in a setting, where commas and blanks would end it.
fn quoted(path: &Path) -> OsString {
    let mut quoted = OsString::from("\"");
    match path.to_str() {
        Some(text) => quoted.push(text.replace('"', "\"\"")),
        None => quoted.push(path),
    }
    quoted.push("\"");
    quoted
}

/// Connects as the superuser to the database that is always there; the connection lives on the
/// current runtime until the client is dropped.
pub(super) async fn connect(socket_dir: &Path) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = Config::new()
        .host_path(socket_dir)
        .user(SUPERUSER)
        .dbname("postgres")
        .application_name("kindler")
        .connect(NoTls)
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection that prepares Postgres was cut");
        }
    });
    Ok(client)
}

/// Tries until a connection succeeds; after the deadline returns the last refusal.
async fn first_connection(
    socket_dir: &Path,
    deadline: Duration,
) -> Result<Client, Option<tokio_postgres::Error>> {
    let giving_up = Instant::now() + deadline;
    loop {
        let refusal = match timeout(ONE_TRY, connect(socket_dir)).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        if Instant::now() >= giving_up {
            return Err(refusal);
        }
        sleep(TRY_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_list_is_quoted() {
        assert_eq!(quoted(Path::new("/a b,c")), "\"/a b,c\"");
        assert_eq!(quoted(Path::new("/a\"b")), "\"/a\"\"b\"");
    }
}
