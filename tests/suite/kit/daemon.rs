//! The real daemon as a child process, with settings for tests.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{ClaimedPort, Database, Host, OtherHost, TIMEOUT, claim_port, eventually, get};

/// The binary under test.
pub const KINDLER: &str = env!("CARGO_BIN_EXE_kindler");

/// A running `kindler serve`; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    port: ClaimedPort,
    log: PathBuf,
}

/// A daemon that is not started yet.
#[derive(Debug)]
pub struct DaemonBuilder {
    command: Command,
    port: ClaimedPort,
    log: PathBuf,
}

/// A `kindler` command with a clean environment, on a database and a host.
pub fn kindler(database_url: &str, host: &Host) -> Command {
    let mut command = Command::new(KINDLER);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", host.path())
        .current_dir(host.path())
        .stdin(Stdio::null())
        .env("KINDLER_DATABASE_URL", database_url)
        .env("KINDLER_STATE_DIR", host.state_dir());
    command
}

/// Settings for a daemon that runs a host's commands: short times, so that tests see
/// retries and checks.
pub fn daemon_settings(command: &mut Command, host: &Host) {
    command.env("KINDLER_DRIVER", "script");
    for verb in ["create", "delete", "probe", "exists", "start", "stop"] {
        command.env(
            format!("KINDLER_{}_COMMAND", verb.to_uppercase()),
            host.command(verb),
        );
    }
    for (setting, value) in [
        ("KINDLER_LOG", "info"),
        ("KINDLER_LOG_FORMAT", "text"),
        ("KINDLER_HEALTH_INTERVAL", "1s"),
        ("KINDLER_HEALTH_REPROBE", "100ms"),
        // Many tests have one cluster.
        ("KINDLER_REPAIR_SUSPENSION", "0s"),
        ("KINDLER_BACKOFF_INITIAL", "200ms"),
        ("KINDLER_BACKOFF_MAX", "2s"),
        ("KINDLER_LEASE_TTL", "3s"),
        ("KINDLER_RESYNC_INTERVAL", "2s"),
        ("KINDLER_KILL_GRACE", "2s"),
        ("KINDLER_SHUTDOWN_GRACE", "1s"),
    ] {
        command.env(setting, value);
    }
}

impl Daemon {
    /// Starts a daemon with the test settings and waits until it is ready.
    pub async fn start(database: &Database, host: &Host) -> Self {
        Self::builder(&database.url(), host).start().await
    }

    /// A daemon with the test settings, not started yet.
    pub fn builder(database_url: &str, host: &Host) -> DaemonBuilder {
        let mut builder = Self::with_defaults(database_url, host);
        daemon_settings(&mut builder.command, host);
        builder
    }

    /// A daemon with the default settings, not started yet.
    pub fn with_defaults(database_url: &str, host: &Host) -> DaemonBuilder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let port = claim_port();
        let mut command = kindler(database_url, host);
        command
            .arg("serve")
            .env("KINDLER_LISTEN", format!("127.0.0.1:{}", port.number));
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        DaemonBuilder {
            command,
            port,
            log: host.path().join(format!("daemon-{number}.log")),
        }
    }

    /// Waits until `/readyz` says that it is ready.
    pub async fn ready(&self) {
        eventually(TIMEOUT, "the daemon ready", || async {
            let (status, _) = self.get("/readyz").await?;
            (status == 200).then_some(())
        })
        .await;
    }

    /// Status and body of a GET request; `None` while the daemon does not answer.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        get(self.port.number, path).await
    }

    /// Waits until `/readyz` says that it is not ready, with a reason that contains
    /// this.
    pub async fn wait_not_ready(&self, reason: &str) {
        let awaited = format!("the daemon not ready, because: {reason}");
        eventually(TIMEOUT, &awaited, || async {
            let (status, body) = self.get("/readyz").await?;
            (status == 503 && body.contains(reason)).then_some(())
        })
        .await;
    }

    /// The value of one sample of `/metrics`, given as `name{labels}`.
    pub async fn metric(&self, sample: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await?;
        let line = text.lines().find(|line| {
            line.strip_prefix(sample)
                .is_some_and(|rest| rest.starts_with(' '))
        })?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Waits until a sample of `/metrics` has this value.
    pub async fn wait_metric(&self, sample: &str, expected: f64) {
        eventually(TIMEOUT, &format!("{sample} {expected}"), || async {
            self.metric(sample).await == Some(expected)
        })
        .await;
    }

    /// Waits until this many full passes have begun and ended from now on, so that all
    /// due work has begun.
    pub async fn full_passes(&self, count: u32) {
        let passes = async || {
            self.metric("kindler_resync_total{controller=\"cluster\"}")
                .await
        };
        // The present pass may have read before the change under test.
        let expected = passes().await.expect("it serves its metrics") + f64::from(count + 1);
        let deadline = Duration::from_secs(20 + 4 * u64::from(count));
        eventually(deadline, "full passes", || async {
            passes().await.is_some_and(|passes| passes >= expected)
        })
        .await;
    }

    /// The address on which it serves HTTP.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number)
    }

    /// The port on which it serves HTTP.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    /// Sends TERM and waits until it has ended.
    pub async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended(Duration::from_secs(20)).await
    }

    /// Whether its process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let giving_up = std::time::Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                std::time::Instant::now() < giving_up,
                "the daemon does not end:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl DaemonBuilder {
    /// Changes one setting.
    pub fn set(mut self, variable: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(variable, value);
        self
    }

    /// Listens on every address of this machine instead of loopback.
    pub fn on_every_address(self) -> Self {
        let address = format!("0.0.0.0:{}", self.port.number);
        self.set("KINDLER_LISTEN", address)
    }

    /// Writes a file into its working directory.
    pub fn with_file(self, name: &str, text: &str) -> Self {
        let folder = self.command.get_current_dir().unwrap();
        fs::write(folder.join(name), text).unwrap();
        self
    }

    /// Runs it in its own mount namespace, with a state folder of this many kilobytes;
    /// `None` where namespaces are not allowed.
    pub fn with_state_dir_size(mut self, kilobytes: u32) -> Option<Self> {
        let allowed = Command::new("unshare")
            .args(["--mount", "true"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !allowed {
            return None;
        }
        let mount = format!(
            r#"mount -t tmpfs -o size={kilobytes}k none "$KINDLER_STATE_DIR" && exec "$0" "$@""#
        );
        let mut inside = Command::new("unshare");
        inside.env_clear();
        inside.args(["--mount", "sh", "-c", &mount]);
        inside.arg(self.command.get_program());
        self.run_by(inside);
        Some(self)
    }

    /// Runs it as another user.
    pub fn by_user(mut self, uid: u32, gid: u32) -> Self {
        self.command.uid(uid).gid(gid);
        self
    }

    /// Runs it in another network namespace, where [`Daemon::get`] does not reach it.
    pub fn in_network(mut self, network: &OtherHost) -> Self {
        let mut inside = network.command();
        inside.env_clear();
        inside.arg(self.command.get_program());
        self.run_by(inside);
        self
    }

    /// Runs this program of an earlier release instead, which refuses settings that it does not
    /// know.
    pub fn of_release(mut self, program: &Path) -> Self {
        self.command.env_remove("KINDLER_REPAIR_SUSPENSION");
        let mut other = Command::new(program);
        other.env_clear();
        self.run_by(other);
        self
    }

    /// Runs it by this command, which gets its arguments, environment and folder.
    fn run_by(&mut self, mut by: Command) {
        by.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            if let Some(value) = value {
                by.env(name, value);
            }
        }
        by.current_dir(self.command.get_current_dir().unwrap());
        by.stdin(Stdio::null());
        self.command = by;
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Daemon {
        let daemon = self.spawn();
        daemon.ready().await;
        daemon
    }

    pub fn spawn(mut self) -> Daemon {
        let log = fs::File::create(&self.log).unwrap();
        self.command.stdout(log.try_clone().unwrap()).stderr(log);
        Daemon {
            child: self.command.spawn().unwrap(),
            port: self.port,
            log: self.log,
        }
    }
}

/// The output of a `kindler` command, and its exit code.
pub fn kindler_output(database_url: &str, host: &Host, args: &[&str]) -> (String, Option<i32>) {
    let output = kindler(database_url, host).args(args).output().unwrap();
    (
        String::from_utf8(output.stdout).unwrap(),
        output.status.code(),
    )
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!(
                "--- last lines of the daemon's log\n{}\n---",
                last.join("\n")
            );
        }
    }
}
