//! Starts and stops the server with `pg_ctl`.
//!
//! Own code does what `pg_ctl` does not: it adopts a server that an earlier Kindler left running,
//! removes the files of one that is gone, and kills one that does not stop.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::Command;
use tokio::time::timeout;
use tokio_postgres::{Config, NoTls};

use super::account::Account;
use super::binaries::Binaries;
use super::error::{PostgresError, failed};
use super::paths::{ServerPaths, stable_name};
use super::processes::{self, main_process};
use super::{DATABASE, SUPERUSER};

/// How long a start may take; recovery after a crash is the slow case.
const START_SECONDS: &str = "60";

/// How long clients may delay a stop, and then how long the server may take without a checkpoint.
const STOPS: [(&str, &str); 2] = [("fast", "10"), ("immediate", "5")];

/// How long a started server may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// A log larger than this, in bytes, is renamed at the next start; one old log is kept.
const LONGEST_LOG: u64 = 4 * 1024 * 1024;

/// A Unix socket only, UTC, and process titles that tell one server from another.
const SETTINGS: &str = "listen_addresses= port=5432 unix_socket_permissions=0700 \
                        update_process_title=on logging_collector=off timezone=UTC log_timezone=UTC";

/// Commits still reach the operating system, so they survive a kill of the server.
const NOT_DURABLE: &str = "fsync=off full_page_writes=off";

/// What the server is started with. Dropping it asks the server to stop.
#[derive(Debug)]
pub(super) struct PgCtl {
    pub paths: ServerPaths,
    pub account: Account,
    pub binaries: Binaries,
    pub durable: bool,
}

impl Drop for PgCtl {
    fn drop(&mut self) {
        if let Some(pid) = main_process(&self.paths.data) {
            processes::signal(pid, &self.paths.data, Signal::INT);
        }
    }
}

impl PgCtl {
    /// Starts the server, or adopts the one that runs, and makes the database. Returns the main
    /// process.
    pub async fn start(&self) -> Result<Pid, PostgresError> {
        if let Some(pid) = main_process(&self.paths.data) {
            if self.paths.socket().exists() && self.ensure_database().await.is_ok() {
                tracing::info!(
                    pid = pid.as_raw_pid(),
                    "adopted the Postgres of an earlier run"
                );
                return Ok(pid);
            }
            let pid = pid.as_raw_pid();
            tracing::warn!(
                pid,
                "replacing the Postgres of an earlier run: it does not answer"
            );
            self.stop().await;
        }
        processes::clear(&self.paths.data).await?;
        let started = self.launch().await;
        if started.is_err() {
            self.stop().await;
        }
        started
    }

    async fn launch(&self) -> Result<Pid, PostgresError> {
        let (data, log, sockets) = (&self.paths.data, &self.paths.log, &self.paths.socket_dir);
        // A PID in these files may belong to another process by now, and Postgres would not start.
        for leftover in [".s.PGSQL.5432", ".s.PGSQL.5432.lock"] {
            let _ = fs::remove_file(sockets.join(leftover));
        }
        let _ = fs::remove_file(data.join("postmaster.pid"));
        let output = open_log(log).map_err(failed("open", log))?;
        let errors = output.try_clone().map_err(failed("open", log))?;
        let options = shell_quoted(&server_arguments(data, sockets, self.durable));
        let mut command = self.command("start");
        command.args(["--wait", "--timeout", START_SECONDS, "--options"]);
        let ended = command
            .arg(options)
            .stdout(output)
            .stderr(errors)
            .status()
            .await;
        let program = self.binaries.program("pg_ctl");
        let success = ended.map_err(failed("run", &program))?.success();
        if let Some(main_process) = main_process(data)
            && success
        {
            return self.ensure_database().await.map(|()| main_process);
        }
        Err(PostgresError::NotStarted(format!(
            "pg_ctl could not start Postgres; the end of {}:\n{}",
            log.display(),
            tail(log)
        )))
    }

    /// Stops the server if it runs: cuts off its clients, then its work, then kills it.
    pub async fn stop(&self) {
        for (mode, seconds) in STOPS {
            if main_process(&self.paths.data).is_none() {
                break;
            }
            let mut command = self.command("stop");
            command.args(["--mode", mode, "--timeout", seconds]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let ended = command.status().await;
            if ended.is_ok_and(|ended| ended.success()) {
                break;
            }
            tracing::warn!(mode, seconds, "Postgres did not stop in time");
        }
        if let Err(error) = processes::clear(&self.paths.data).await {
            tracing::error!(%error, "could not stop Postgres");
        }
    }

    fn command(&self, action: &str) -> Command {
        let mut command = Command::new(self.binaries.program("pg_ctl"));
        self.account.apply(command.as_std_mut());
        // As an argument, `pg_ctl` would not quote the folder for the shell.
        command.env("PGDATA", &self.paths.data);
        // Ctrl-C does not reach another process group.
        command.args([action, "--silent"]).process_group(0);
        command
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
    let mut command = std::process::Command::new("tail");
    let output = command.args(["-n", "12"]).arg(log).output();
    let lines = output.map_or_else(|_| Vec::new(), |output| output.stdout);
    String::from_utf8_lossy(&lines).into()
}

/// The arguments of a server. All settings are arguments, so they also hold for data that an
/// earlier release made.
pub fn server_arguments(data_dir: &Path, socket_dir: &Path, durable: bool) -> Vec<OsString> {
    let mut sockets = OsString::from("unix_socket_directories=");
    // An element of a list, which a comma or a blank would end.
    sockets.push(quoted(socket_dir.as_os_str(), b'"', b"\"\""));
    let cluster_name = format!("cluster_name={}", stable_name(data_dir));
    let mut arguments = vec!["-D".into(), data_dir.into(), "-c".into(), sockets];
    let not_durable = if durable { "" } else { NOT_DURABLE };
    for setting in [SETTINGS, &cluster_name, not_durable]
        .into_iter()
        .flat_map(str::split_whitespace)
    {
        arguments.extend(["-c".into(), setting.into()]);
    }
    arguments
}

/// Arguments as a shell reads them back.
fn shell_quoted(arguments: &[OsString]) -> OsString {
    let words = arguments.iter();
    let words = words.map(|word| quoted(word, b'\'', b"'\\''"));
    words.collect::<Vec<_>>().join(OsStr::new(" "))
}

fn quoted(text: &OsStr, quote: u8, quote_inside: &[u8]) -> OsString {
    let parts: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == quote).collect();
    OsString::from_vec([&[quote], parts.join(quote_inside).as_slice(), &[quote]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_quoted_arguments_back() {
        let arguments = ["it's", "\"$HOME\" `x`", "", "a\nb", "\\"].map(OsString::from);
        let quoted = shell_quoted(&arguments).into_string().unwrap();
        let mut shell = std::process::Command::new("/bin/sh");
        let output = shell
            .args(["-c", &format!("printf '%s|' {quoted}")])
            .output();
        assert_eq!(output.unwrap().stdout, b"it's|\"$HOME\" `x`||a\nb|\\|");
    }

    #[test]
    fn a_long_log_is_renamed_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postgres.log");
        open_log(&path).unwrap().set_len(LONGEST_LOG + 1).unwrap();
        assert_eq!(open_log(&path).unwrap().metadata().unwrap().len(), 0);
        assert!(folder.path().join("postgres.log.1").exists());
    }
}
