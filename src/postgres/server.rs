//! Starts, adopts and stops the server, and identifies its processes.
//!
//! A PID in a file proves nothing: the process may be gone and another one may have its number.
//! So a process counts only if its command line has the cluster name that stands for the data
//! folder.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::NoTls;

use super::account::Account;
use super::binaries::{Binaries, output_of};
use super::error::{PostgresError, failed};
use super::socket::{socket_dir, socket_url, stable_name};
use super::state_dir::{StateDir, initdb, make_folder, make_socket_dir, version_of};
use super::{DATABASE, SUPERUSER};

/// How long a start may take; recovery after a crash is the slow case.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long a started server may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// A stop: fast (clients are cut off), immediate (without a checkpoint), and then by force; and
/// how long the processes may take to end, in seconds.
const STOPS: [(Signal, u64); 3] = [(Signal::INT, 10), (Signal::QUIT, 5), (Signal::KILL, 5)];

/// How often the server is looked at while waiting for it.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A log larger than this, in bytes, is renamed at the next start; one old log is kept.
const LONGEST_LOG: u64 = 4 * 1024 * 1024;

/// A Unix socket only, UTC, and process titles that tell one server from another.
const SETTINGS: &str = "--listen_addresses= --port=5432 --unix_socket_permissions=0700 \
                        --update_process_title=on --logging_collector=off --timezone=UTC \
                        --log_timezone=UTC";

/// Commits still reach the operating system, so they survive a kill of the server.
const NOT_DURABLE: &str = "--fsync=off --full_page_writes=off";

/// What a server is started with. Dropping it asks the server to stop.
#[derive(Debug)]
pub(super) struct ServerProcess {
    pub state: StateDir,
    data: PathBuf,
    pub log: PathBuf,
    pub socket_dir: PathBuf,
    pub binaries: Binaries,
    account: Account,
    durable: bool,
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        signal(main_process(&self.data), Signal::INT);
    }
}

impl ServerProcess {
    /// Chooses the programs and the account, and makes the folders and the data if missing.
    pub async fn prepare(
        state: StateDir,
        bin_dir: Option<&Path>,
        durable: bool,
    ) -> Result<Self, PostgresError> {
        let home = state.path.join("postgres");
        let (data, log) = (home.join("data"), home.join("postgres.log"));
        let version = version_of(&data)?;
        let binaries = Binaries::find(bin_dir, version)?;
        make_folder(&home)?;
        let account = Account::for_data(&data)?;
        account.check_enters(&home)?;
        account.check_enters(&binaries.folder)?;
        if version.is_none() {
            tracing::info!(data_dir = %data.display(), "making a Postgres data folder");
            initdb(&data, account, &binaries, durable).await?;
        }
        let socket_dir = socket_dir(&state.path);
        make_socket_dir(&socket_dir, account)?;
        Ok(Self {
            state,
            data,
            log,
            socket_dir,
            binaries,
            account,
            durable,
        })
    }

    /// Starts the server, or adopts the one that an earlier Kindler left running, and makes the
    /// database. Returns the main process.
    pub async fn start(&self) -> Result<Pid, PostgresError> {
        if let Some(main) = main_process(&self.data) {
            let pid = main.as_raw_pid();
            let answer = timeout(ANSWER_DEADLINE, self.ensure_database()).await;
            if let Ok(Ok(())) = answer {
                tracing::info!(pid, "adopted the Postgres of an earlier run");
                return Ok(main);
            }
            tracing::warn!(pid, ?answer, "replacing the Postgres of an earlier run");
        }
        self.stop().await?;
        let mut child = self.launch()?;
        let failure = tokio::select! {
            ready = timeout(START_DEADLINE, self.ready()) => match ready {
                Ok(main) => return Ok(main),
                Err(_) => "did not answer in time".into(),
            },
            status = child.wait() => format!("ended during its start ({status:?})"),
        };
        self.stop().await?;
        let tail = output_of(StdCommand::new("tail").args(["-n", "12"]).arg(&self.log));
        let (log, tail) = (self.log.display(), tail.unwrap_or_default());
        let text = format!("Postgres {failure}; the end of {log}:\n{tail}");
        Err(PostgresError::NotStarted(text))
    }

    fn launch(&self) -> Result<Child, PostgresError> {
        // A PID in these files may belong to another process by now, and Postgres would not start.
        let socket_lock = self.socket_dir.join(".s.PGSQL.5432.lock");
        for leftover in [socket_lock, self.data.join("postmaster.pid")] {
            let _ = fs::remove_file(leftover);
        }
        if fs::metadata(&self.log).is_ok_and(|log| log.len() > LONGEST_LOG) {
            let _ = fs::rename(&self.log, self.log.with_extension("log.1"));
        }
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(failed("open", &self.log))?;
        let program = self.binaries.program("postgres");
        let arguments = server_arguments(&self.data, &self.socket_dir, self.durable);
        let mut command = Command::new(&program);
        self.account.apply(command.as_std_mut()).args(arguments);
        // Ctrl-C does not reach another process group.
        command.stdout(Stdio::null()).stderr(log).process_group(0);
        command.spawn().map_err(failed("run", &program))
    }

    /// Waits until the server answers and has the database. Returns the main process.
    async fn ready(&self) -> Pid {
        loop {
            match (self.ensure_database().await, main_process(&self.data)) {
                (Ok(()), Some(main)) => return main,
                _ => sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Waits until the server's main process is gone. Cancel-safe.
    pub async fn ended(&self, main: Pid) {
        while serves(main, &self.data) {
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Stops the server if it runs, and waits until none of its processes is left.
    pub async fn stop(&self) -> Result<(), PostgresError> {
        for (how, seconds) in STOPS {
            let deadline = Instant::now() + Duration::from_secs(seconds);
            while Instant::now() < deadline {
                if serving(&self.data).is_empty() {
                    return Ok(());
                }
                // Again and again: a server that is just being started has no PID file yet.
                match how {
                    Signal::KILL => signal(serving(&self.data), how),
                    // The others end after the main process, and have other uses for the signals.
                    _ => signal(main_process(&self.data), how),
                }
                sleep(POLL_INTERVAL).await;
            }
            tracing::warn!(signal = ?how, seconds, "Postgres did not stop in time");
        }
        let (pids, data) = (serving(&self.data), self.data.display());
        let text = format!("the Postgres processes {pids:?} still use {data}, even after SIGKILL");
        Err(PostgresError::Unusable(text))
    }

    /// Makes the database unless it exists.
    async fn ensure_database(&self) -> Result<(), tokio_postgres::Error> {
        let url = socket_url(&self.socket_dir, SUPERUSER, "postgres");
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        let find = "SELECT FROM pg_database WHERE datname = $1";
        if client.query_opt(find, &[&DATABASE]).await?.is_none() {
            let create = format!("CREATE DATABASE {DATABASE} TEMPLATE template0");
            client.batch_execute(&create).await?;
        }
        Ok(())
    }
}

/// The arguments of a server. All settings are arguments, so they also hold for data that an
/// earlier release made. The socket's folder must have no comma: it would end the list's element.
pub fn server_arguments(data_dir: &Path, socket_dir: &Path, durable: bool) -> Vec<OsString> {
    let cluster_name = format!("--cluster_name={}", stable_name(data_dir));
    let durability = if durable { "" } else { NOT_DURABLE };
    let settings = [SETTINGS, durability, &cluster_name].map(str::split_whitespace);
    let mut arguments = vec!["-D".into(), data_dir.into(), "-k".into(), socket_dir.into()];
    arguments.extend(settings.into_iter().flatten().map(OsString::from));
    arguments
}

/// All Postgres processes on this data folder.
pub fn serving(data_dir: &Path) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
    let pids = names.filter_map(|name| Pid::from_raw(name.parse().ok()?));
    pids.filter(|pid| serves(*pid, data_dir)).collect()
}

/// The main process of the server, if it runs: the one in its PID file.
fn main_process(data_dir: &Path) -> Option<Pid> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?)?;
    serves(pid, data_dir).then_some(pid)
}

fn signal(processes: impl IntoIterator<Item = Pid>, signal: Signal) {
    for pid in processes {
        let _ = kill_process(pid, signal);
    }
}

/// Whether this process is a Postgres on this data folder: the main process has the cluster name as
/// an argument, and its children rename themselves to `postgres: CLUSTER: what they do`.
fn serves(pid: Pid, data_dir: &Path) -> bool {
    // Readable for everyone, unlike /proc/PID/exe and cwd, which root in a container may not see.
    let command_line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
    let command_line = command_line.unwrap_or_default();
    let command_line = String::from_utf8_lossy(&command_line);
    let cluster = stable_name(data_dir);
    command_line.contains(&format!("cluster_name={cluster}\0"))
        || command_line.starts_with(&format!("postgres: {cluster}: "))
}
