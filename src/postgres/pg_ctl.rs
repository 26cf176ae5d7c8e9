//! Starts and stops the server with `pg_ctl`.
//!
//! Own code does what `pg_ctl` does not: it adopts a server that an earlier Kindler left running,
//! removes the files of one that is gone, and kills one that does not stop.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use scopeguard::ScopeGuard;
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Config, NoTls};

use super::account::Account;
use super::binaries::Binaries;
use super::error::{FileContext, PostgresError};
use super::paths::ServerPaths;
use super::processes::{self, cluster_name, main_process};
use super::{SUPERUSER, log};

/// How long a start may take; recovery after a crash is the slow case.
const START_SECONDS: &str = "60";

/// How long connected clients may delay a stop, and then how long the server may take to end
/// without a checkpoint.
const STOPS: [(&str, &str); 2] = [("fast", "10"), ("immediate", "5")];

/// How long a server found running may take to accept a connection before it is replaced.
const ADOPTION_DEADLINE: Duration = Duration::from_secs(10);

/// What the server is started with.
#[derive(Clone, Debug)]
pub(super) struct PgCtl {
    pub paths: ServerPaths,
    pub account: Account,
    pub binaries: Binaries,
    pub durable: bool,
}

/// The main process of a running server. Dropping it asks the server to stop.
#[derive(Debug)]
pub(super) struct Postmaster {
    pid: Pid,
    data: PathBuf,
}

impl Postmaster {
    /// The PID, for people.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until the process has ended. Cancel-safe.
    pub async fn ended(&self) {
        processes::ended(self.pid, &self.data).await;
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        processes::signal(self.pid, &self.data, Signal::INT);
    }
}

impl PgCtl {
    /// Starts the server, or adopts the one that runs. Dropping the future asks the server to stop.
    pub async fn start(&self) -> Result<Postmaster, PostgresError> {
        if let Some(pid) = main_process(&self.paths) {
            let found = self.postmaster(pid);
            let pid = found.pid();
            if self.paths.socket().exists() && accepts_connections(&self.paths.socket_dir).await {
                tracing::info!(pid, "adopted the Postgres of an earlier run");
                return Ok(found);
            }
            tracing::warn!(
                pid,
                "stopping the Postgres of an earlier run, which does not answer"
            );
            self.stop().await;
        }
        processes::clear(&self.paths.data).await?;
        self.remove_leftovers()?;
        self.launch().await
    }

    /// Stops the server if it runs: cuts off its clients, then its work, then kills it.
    pub async fn stop(&self) {
        for (mode, seconds) in STOPS {
            if main_process(&self.paths).is_none() {
                break;
            }
            let mut command = self.command("stop");
            command.args(["--mode", mode, "--timeout", seconds]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            if command.status().await.is_ok_and(|ended| ended.success()) {
                break;
            }
            tracing::warn!(mode, seconds, "Postgres did not stop in time");
        }
        if let Err(error) = processes::clear(&self.paths.data).await {
            tracing::error!(%error, "could not stop Postgres");
        }
    }

    async fn launch(&self) -> Result<Postmaster, PostgresError> {
        let ServerPaths {
            data,
            log,
            socket_dir,
            ..
        } = &self.paths;
        let (output, log_start) = log::open(log)?;
        let arguments = server_arguments(data, socket_dir, self.durable);
        let mut command = self.command("start");
        command.args(["--wait", "--timeout", START_SECONDS, "--options"]);
        command.arg(shell_quoted(&arguments));
        command
            .stdout(output.try_clone().context("open", log)?)
            .stderr(output);
        let mut child = command
            .spawn()
            .context("run", self.binaries.program("pg_ctl"))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        // `pg_ctl` passes SIGINT on to the server that it waits for.
        let interrupt = scopeguard::guard(pid, |pid| {
            let _ = pid.map(|pid| kill_process(pid, Signal::INT));
        });
        let ended = child.wait().await;
        ScopeGuard::into_inner(interrupt);
        match main_process(&self.paths) {
            Some(pid) if ended.is_ok_and(|ended| ended.success()) => Ok(self.postmaster(pid)),
            _ => {
                self.stop().await;
                let tail = log::tail(log, log_start);
                let log = log.clone();
                Err(PostgresError::NotStarted { log, tail })
            }
        }
    }

    /// The data folder goes into the environment, because `pg_ctl` does not quote it for the shell.
    fn command(&self, action: &str) -> Command {
        let mut command = Command::new(self.binaries.program("pg_ctl"));
        self.account.apply(command.as_std_mut());
        command
            .args([action, "--silent"])
            .env("PGDATA", &self.paths.data);
        // Ctrl-C reaches the process group of Kindler, not that of the server.
        command
            .current_dir("/")
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    fn postmaster(&self, pid: Pid) -> Postmaster {
        let data = self.paths.data.clone();
        Postmaster { pid, data }
    }

    /// Removes the files of a server that is gone: a PID in them may belong to another process by
    /// now, and Postgres would not start.
    fn remove_leftovers(&self) -> Result<(), PostgresError> {
        let paths = &self.paths;
        for path in [paths.pid_file(), paths.socket_lock(), paths.socket()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed.context("remove", path)?,
            }
        }
        Ok(())
    }
}

/// The arguments of a server: a Unix socket only, UTC, and a name of its own in `ps`. All settings
/// are arguments, so they also hold for data that an earlier release made.
pub fn server_arguments(data_dir: &Path, socket_dir: &Path, durable: bool) -> Vec<OsString> {
    let mut sockets = OsString::from("unix_socket_directories=");
    sockets.push(quoted_in_list(socket_dir));
    let mut settings = vec![
        sockets,
        format!("cluster_name={}", cluster_name(data_dir)).into(),
    ];
    settings.extend(
        [
            "listen_addresses=",
            "port=5432",
            "unix_socket_permissions=0700",
            "update_process_title=on",
            "logging_collector=off",
            "timezone=UTC",
            "log_timezone=UTC",
        ]
        .map(OsString::from),
    );
    if !durable {
        // Commits still reach the operating system, so they survive a kill of the server.
        settings.extend(["fsync=off", "full_page_writes=off"].map(OsString::from));
    }
    let settings = settings
        .into_iter()
        .flat_map(|setting| ["-c".into(), setting]);
    ["-D".into(), data_dir.into()]
        .into_iter()
        .chain(settings)
        .collect()
}

/// A path as an element of a list in a setting, which a comma or a blank would end.
fn quoted_in_list(path: &Path) -> OsString {
    quoted(path.as_os_str(), b'"', b"\"\"")
}

/// Arguments as a shell reads them back.
fn shell_quoted(arguments: &[OsString]) -> OsString {
    let words = arguments
        .iter()
        .map(|argument| quoted(argument, b'\'', b"'\\''"));
    words.collect::<Vec<_>>().join(OsStr::new(" "))
}

fn quoted(text: &OsStr, quote: u8, quote_inside: &[u8]) -> OsString {
    let parts: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == quote).collect();
    let inside = parts.join(quote_inside);
    OsString::from_vec([&[quote], inside.as_slice(), &[quote]].concat())
}

/// How the superuser connects to the database that always exists.
pub(super) fn maintenance_login(socket_dir: &Path) -> Config {
    let mut config = Config::new();
    config
        .host_path(socket_dir)
        .user(SUPERUSER)
        .dbname("postgres")
        .application_name("kindler");
    config
}

/// Whether a server accepts a connection in time; one that recovers does not at first.
async fn accepts_connections(socket_dir: &Path) -> bool {
    let login = maintenance_login(socket_dir);
    let connected = async {
        while login.connect(NoTls).await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(ADOPTION_DEADLINE, connected).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_list_is_quoted() {
        assert_eq!(quoted_in_list(Path::new("/a b,c")), "\"/a b,c\"");
        assert_eq!(quoted_in_list(Path::new("/a\"b")), "\"/a\"\"b\"");
    }

    #[test]
    fn a_shell_reads_quoted_arguments_back() {
        let arguments = ["it's", "\"$HOME\" `x`", "", "a\nb", "\\"].map(OsString::from);
        let script = format!(
            "printf '%s|' {}",
            shell_quoted(&arguments).to_str().unwrap()
        );
        let output = std::process::Command::new("/bin/sh")
            .args(["-c", &script])
            .output();
        let expected = "it's|\"$HOME\" `x`||a\nb|\\|";
        assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), expected);
    }
}
