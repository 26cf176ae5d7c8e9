//! Which running processes belong to a data folder.
//!
//! A process id in a file proves nothing: the process may be gone and its number reused. So a
//! process counts only if its command line names our data folder, or the cluster name derived
//! from it. This module looks and signals; it must not start anything.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::layout::cluster_name;

/// How often a process is looked at while waiting for its end, and how seldom at most.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LOOK_RARELY: Duration = Duration::from_millis(500);

/// Whether this process is a Postgres on this data folder, main or auxiliary.
pub(super) fn serves(pid: Pid, data_dir: &Path) -> bool {
    // Readable for everyone, unlike /proc/PID/exe and cwd, which root in a container may not see.
    fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))
        .is_ok_and(|command_line| names(&command_line, data_dir))
}

/// Every Postgres process on this data folder.
pub fn serving(data_dir: &Path) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| serves(*pid, data_dir))
        .collect()
}

/// The main server process runs as `postgres -D DATA …`; its children rename themselves to
/// `postgres: CLUSTER: what they do`.
fn names(command_line: &[u8], data_dir: &Path) -> bool {
    let title = format!("postgres: {}: ", cluster_name(data_dir));
    if command_line.starts_with(title.as_bytes()) {
        return true;
    }
    let data_dir = data_dir.as_os_str().as_encoded_bytes();
    let arguments: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
    arguments[0].windows(8).any(|part| part == b"postgres")
        && arguments
            .windows(2)
            .any(|pair| pair[0] == b"-D" && pair[1] == data_dir)
}

/// Signals a process if it still belongs to the data folder.
pub(super) fn signal(pid: Pid, data_dir: &Path, signal: Signal) {
    if serves(pid, data_dir)
        && let Err(error) = kill_process(pid, signal)
    {
        tracing::debug!(pid = pid.as_raw_nonzero(), %error, "could not signal a Postgres process");
    }
}

/// Waits until a process no longer serves the data folder. Cancel-safe.
///
/// It is not our child, so it can only be looked at: often at first, for one that is about to
/// end, then rarely, for one that runs for days.
pub(super) async fn gone(pid: Pid, data_dir: &Path) {
    let mut pause = LOOK_AGAIN;
    while serves(pid, data_dir) {
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_RARELY);
    }
}

/// Waits until nobody serves the data folder, and kills whoever still does after `patience`.
/// Returns who survived even that.
pub(super) async fn clear(data_dir: &Path, patience: Duration) -> Vec<Pid> {
    let killing_starts = Instant::now() + patience;
    let giving_up = killing_starts + patience;
    loop {
        let left = serving(data_dir);
        let now = Instant::now();
        if left.is_empty() || now >= giving_up {
            return left;
        }
        if now >= killing_starts {
            left.iter()
                .for_each(|pid| signal(*pid, data_dir, Signal::KILL));
        }
        sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_postgres_on_the_same_data_folder_is_recognised() {
        let ours = Path::new("/state/postgres/data");
        assert!(names(
            b"/usr/lib/postgresql/15/bin/postgres\x00-D\0/state/postgres/data\0",
            ours
        ));
        assert!(!names(
            b"/usr/lib/postgresql/15/bin/postgres\x00-D\0/other/data\0",
            ours
        ));
        assert!(!names(b"/usr/bin/du\x00-D\0/state/postgres/data\0", ours));
        assert!(!names(b"sleep\x0060\0", ours));
        assert!(!names(b"", ours));

        let child = format!("postgres: {}: checkpointer ", cluster_name(ours));
        assert!(names(child.as_bytes(), ours));
        assert!(!names(child.as_bytes(), Path::new("/other/data")));
    }

    #[test]
    fn this_test_serves_no_data_folder() {
        assert!(serving(Path::new("/nonexistent/data")).is_empty());
    }
}
