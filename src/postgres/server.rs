//! Starts, adopts and stops the server, and identifies its processes.
//!
//! A PID in a file proves nothing: the process may be gone and another one may have its number.
//! So a process counts only if its command line names the data folder, or the cluster name that
//! stands for it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command as StdCommand;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Config, NoTls};

use crate::cause::chain;

use super::account::Account;
use super::binaries::{Binaries, output_of};
use super::error::{PostgresError, failed};
use super::paths::{ServerPaths, stable_name};
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
const SETTINGS: &str = "listen_addresses= port=5432 unix_socket_permissions=0700 \
                        update_process_title=on logging_collector=off timezone=UTC log_timezone=UTC";

/// Commits still reach the operating system, so they survive a kill of the server.
const NOT_DURABLE: &str = "fsync=off full_page_writes=off";

/// What a server is started with. Dropping it asks the server to stop.
#[derive(Debug)]
pub(super) struct ServerProcess {
    pub paths: ServerPaths,
    pub account: Account,
    pub binaries: Binaries,
    pub durable: bool,
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        signal(main_process(&self.paths.data), Signal::INT);
    }
}

impl ServerProcess {
    /// Starts the server, or adopts the one that an earlier Kindler left running, and makes the
    /// database. Returns the main process.
    pub async fn start(&self) -> Result<Pid, PostgresError> {
        if let Some(main) = main_process(&self.paths.data) {
            let pid = main.as_raw_pid();
            let Err(error) = self.ensure_database().await else {
                tracing::info!(pid, "adopted the Postgres of an earlier run");
                return Ok(main);
            };
            let error = chain(&error);
            tracing::warn!(pid, error, "replacing the Postgres of an earlier run");
        }
        self.stop().await?;
        let launched = self.launch().await;
        if launched.is_err() {
            self.stop().await?;
        }
        launched
    }

    async fn launch(&self) -> Result<Pid, PostgresError> {
        let (data, log) = (&self.paths.data, &self.paths.log);
        // A PID in these files may belong to another process by now, and Postgres would not start.
        let socket_lock = self.paths.socket().with_extension("5432.lock");
        for leftover in [socket_lock, data.join("postmaster.pid")] {
            let _ = fs::remove_file(leftover);
        }
        let output = open_log(log).map_err(failed("open", log))?;
        let errors = output.try_clone().map_err(failed("open", log))?;
        let program = self.binaries.program("postgres");
        let mut command = Command::new(&program);
        self.account.apply(command.as_std_mut());
        command.args(server_arguments(data, &self.paths.socket_dir, self.durable));
        // Ctrl-C does not reach another process group.
        command.stdout(output).stderr(errors).process_group(0);
        let mut child = command.spawn().map_err(failed("run", &program))?;
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let answer = self.ensure_database().await;
            if let Ok(Some(status)) = child.try_wait() {
                let (path, tail) = (log.display(), tail(log));
                return Err(PostgresError::NotStarted(format!(
                    "Postgres ended during its start ({status}); the end of {path}:\n{tail}"
                )));
            }
            match (answer, main_process(data)) {
                (Ok(()), Some(pid)) => return Ok(pid),
                (Err(error), _) if Instant::now() >= deadline => return Err(error),
                _ => sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Stops the server if it runs, and waits until none of its processes is left.
    pub async fn stop(&self) -> Result<(), PostgresError> {
        let data = &self.paths.data;
        for (how, seconds) in STOPS {
            let running = serving(data);
            if running.is_empty() {
                return Ok(());
            }
            // The others end after the main process, and have other uses for the signals.
            let by_force = how == Signal::KILL;
            let main = main_process(data);
            signal(
                running
                    .into_iter()
                    .filter(|pid| by_force || Some(*pid) == main),
                how,
            );
            let all_ended = async {
                while !serving(data).is_empty() {
                    sleep(POLL_INTERVAL).await;
                }
            };
            if timeout(Duration::from_secs(seconds), all_ended)
                .await
                .is_ok()
            {
                return Ok(());
            }
            tracing::warn!(signal = ?how, seconds, "Postgres did not stop in time");
        }
        let (pids, data) = (serving(data), data.display());
        Err(PostgresError::Unusable(format!(
            "the Postgres processes {pids:?} of an earlier run still use {data}"
        )))
    }

    /// Makes the database unless it exists.
    async fn ensure_database(&self) -> Result<(), PostgresError> {
        let mut login = Config::new();
        login.host_path(&self.paths.socket_dir);
        login.user(SUPERUSER).dbname("postgres");
        let ensured = async {
            let (client, connection) = login.connect(NoTls).await?;
            tokio::spawn(connection);
            let find = "SELECT FROM pg_database WHERE datname = $1";
            if client.query_opt(find, &[&DATABASE]).await?.is_none() {
                let create = format!("CREATE DATABASE {DATABASE} TEMPLATE template0");
                client.batch_execute(&create).await?;
            }
            Ok(())
        };
        let late = PostgresError::NotStarted("Postgres does not answer".into());
        timeout(ANSWER_DEADLINE, ensured).await.unwrap_or(Err(late))
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if fs::metadata(path).is_ok_and(|log| log.len() > LONGEST_LOG) {
        fs::rename(path, path.with_extension("log.1"))?;
    }
    File::options().create(true).append(true).open(path)
}

fn tail(log: &Path) -> String {
    output_of(StdCommand::new("tail").args(["-n", "12"]).arg(log)).unwrap_or_default()
}

/// The arguments of a server. All settings are arguments, so they also hold for data that an
/// earlier release made. The socket's folder must have no comma: it would end the list's element.
pub fn server_arguments(data_dir: &Path, socket_dir: &Path, durable: bool) -> Vec<OsString> {
    let mut sockets = OsString::from("unix_socket_directories=");
    sockets.push(socket_dir);
    let cluster_name = format!("cluster_name={}", stable_name(data_dir));
    let mut arguments = vec!["-D".into(), data_dir.into(), "-c".into(), sockets];
    let not_durable = if durable { "" } else { NOT_DURABLE };
    for settings in [SETTINGS, &cluster_name, not_durable] {
        for setting in settings.split_whitespace() {
            arguments.extend(["-c".into(), setting.into()]);
        }
    }
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

/// Waits until a process is no longer a Postgres on this data folder. Cancel-safe.
pub(super) async fn ended(pid: Pid, data_dir: &Path) {
    while serves(pid, data_dir) {
        sleep(POLL_INTERVAL).await;
    }
}

fn signal(processes: impl IntoIterator<Item = Pid>, signal: Signal) {
    for pid in processes {
        let _ = kill_process(pid, signal);
    }
}

/// Whether this process is a Postgres on this data folder.
fn serves(pid: Pid, data_dir: &Path) -> bool {
    // Readable for everyone, unlike /proc/PID/exe and cwd, which root in a container may not see.
    fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))
        .is_ok_and(|command_line| names(&command_line, data_dir))
}

/// The main process runs as `postgres -D DATA …`; its children rename themselves to
/// `postgres: CLUSTER: what they do`.
fn names(command_line: &[u8], data_dir: &Path) -> bool {
    let title = format!("postgres: {}: ", stable_name(data_dir));
    let data_dir = data_dir.as_os_str().as_encoded_bytes();
    let arguments: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
    let is_main = arguments[0].ends_with(b"postgres")
        && arguments.windows(2).any(|pair| pair == [b"-D", data_dir]);
    is_main || command_line.starts_with(title.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_renamed_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postgres.log");
        open_log(&path).unwrap().set_len(LONGEST_LOG + 1).unwrap();
        assert_eq!(open_log(&path).unwrap().metadata().unwrap().len(), 0);
        assert!(folder.path().join("postgres.log.1").exists());
    }

    #[test]
    fn only_a_postgres_on_the_same_data_folder_is_recognised() {
        let data = Path::new("/state/data");
        let child = format!("postgres: {}: checkpointer ", stable_name(data));
        for ours in ["/bin/postgres\0-D\0/state/data\0", &child] {
            assert!(names(ours.as_bytes(), data));
            assert!(!names(ours.as_bytes(), Path::new("/other/data")));
        }
        for other in ["du\0-D\0/state/data\0", ""] {
            assert!(!names(other.as_bytes(), data), "{other}");
        }
    }
}
