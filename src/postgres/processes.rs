//! Identifies the running Postgres processes of a data folder.
//!
//! A PID in a file proves nothing: the process may be gone and another one may have its number.
//! So a process counts only if its command line names the data folder, or the cluster name that
//! stands for it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::error::PostgresError;
use super::paths::stable_name;

/// How often the processes are looked at while waiting for their end.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long the processes of a server that ended may take before they are killed, and then to end.
const GRACE: Duration = Duration::from_secs(2);

/// All Postgres processes on this data folder.
pub fn serving(data_dir: &Path) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
    let pids = names.filter_map(|name| Pid::from_raw(name.parse().ok()?));
    pids.filter(|pid| serves(*pid, data_dir)).collect()
}

/// The main process of the server, if it runs: the one in its PID file.
pub(super) fn main_process(data_dir: &Path) -> Option<Pid> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).ok()?;
    let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?)?;
    serves(pid, data_dir).then_some(pid)
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

/// Signals a process if it is still a Postgres on this data folder.
pub(super) fn signal(pid: Pid, data_dir: &Path, signal: Signal) {
    if serves(pid, data_dir) {
        let _ = kill_process(pid, signal);
    }
}

/// Waits until a process is no longer a Postgres on this data folder. Cancel-safe.
pub(super) async fn ended(pid: Pid, data_dir: &Path) {
    while serves(pid, data_dir) {
        sleep(POLL_INTERVAL).await;
    }
}

/// Waits until no process of the data folder is left, and kills those that do not end.
pub(super) async fn clear(data_dir: &Path) -> Result<(), PostgresError> {
    let began = Instant::now();
    while began.elapsed() < 2 * GRACE {
        let left = serving(data_dir);
        if left.is_empty() {
            return Ok(());
        }
        if began.elapsed() >= GRACE {
            for pid in left {
                signal(pid, data_dir, Signal::KILL);
            }
        }
        sleep(POLL_INTERVAL).await;
    }
    let pids: Vec<i32> = serving(data_dir).into_iter().map(Pid::as_raw_pid).collect();
    Err(PostgresError::Unusable(format!(
        "the Postgres processes {pids:?} of an earlier run still use {}",
        data_dir.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_postgres_on_the_same_data_folder_is_recognised() {
        let data = Path::new("/state/data");
        let child = format!("postgres: {}: checkpointer ", stable_name(data));
        for ours in ["/bin/postgres\0-D\0/state/data\0", &child] {
            assert!(names(ours.as_bytes(), data));
            assert!(!names(ours.as_bytes(), Path::new("/other/data")));
        }
        for other in ["du", "/postgresql/pg_ctl", ""] {
            let other = format!("{other}\0-D\0/state/data\0");
            assert!(!names(other.as_bytes(), data), "{other}");
        }
        assert!(!names(b"", data));
        assert!(serving(Path::new("/nonexistent/data")).is_empty());
    }
}
