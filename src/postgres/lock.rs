//! One Kindler per state folder, and no word of a dead one believed.
//!
//! The lock is an flock, which the kernel drops with its holder, so it is never stale. Pid files
//! of Postgres may be: they are read here and removed when nobody stands behind them. This module
//! must not stop a running server.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Pid;

use super::error::{PostgresError, Subject};
use super::layout::Layout;
use super::processes;

/// Proof that we alone use a state folder; let go on drop.
#[derive(Debug)]
pub(super) struct StateLock {
    file: File,
}

impl Drop for StateLock {
    /// Unlocks by word: a child that was forked a moment ago, and has not begun its program yet,
    /// still has the file open, and closing ours would leave the lock with it.
    fn drop(&mut self) {
        let _gone_with_the_file = flock(&self.file, FlockOperation::Unlock);
    }
}

impl StateLock {
    /// Takes the lock, or says who has it.
    pub fn take(state_dir: &Path) -> Result<Self, PostgresError> {
        let path = state_dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .naming("open", &path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let pid = Some(holder.trim())
                    .filter(|pid| !pid.is_empty())
                    .unwrap_or("unknown");
                return Err(PostgresError::AlreadyRunning {
                    state_dir: state_dir.into(),
                    pid: pid.into(),
                });
            }
            Err(error) => return Err(error.into()).naming("lock", path),
        }
        file.set_len(0).naming("empty", &path)?;
        writeln!(file, "{}", std::process::id()).naming("write", &path)?;
        Ok(Self { file })
    }
}

/// What `postmaster.pid` says about a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    /// The main server process.
    pub pid: Pid,
    /// The folder with its socket, once it has one.
    pub socket_dir: Option<PathBuf>,
}

impl PidFile {
    /// Reads the file; none if it does not exist or makes no sense.
    pub fn read(path: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    /// The lines are: process id, data folder, start time, port, socket folder, and more.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        // Negative for a server in single-user mode.
        let pid = lines.next()?.trim().parse::<i32>().ok()?.checked_abs()?;
        let socket_dir = lines
            .nth(3)
            .filter(|line| !line.is_empty())
            .map(PathBuf::from);
        Some(Self {
            pid: Pid::from_raw(pid)?,
            socket_dir,
        })
    }
}

/// The server of an earlier run that still serves our data, if there is one.
pub(super) fn surviving_server(layout: &Layout) -> Option<PidFile> {
    PidFile::read(&layout.pid_file()).filter(|file| processes::serves(file.pid, &layout.data))
}

/// Removes what a dead server left: its pid file, socket and socket lock.
///
/// The caller holds the state lock and has seen that nobody serves the data.
pub(super) fn remove_leftovers(layout: &Layout) -> Result<(), PostgresError> {
    let pid = PidFile::read(&layout.pid_file()).map(|file| file.pid.as_raw_nonzero());
    for path in [layout.pid_file(), layout.socket_lock(), layout.socket()] {
        match fs::remove_file(&path) {
            Ok(()) => tracing::warn!(
                path = %path.display(), pid,
                "removed what a Postgres that no longer runs left behind"
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).naming("remove", path),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_lock_is_refused_and_names_the_holder() {
        let state = tempfile::tempdir().unwrap();
        let held = StateLock::take(state.path()).unwrap();
        let refusal = StateLock::take(state.path()).unwrap_err().to_string();
        assert!(
            refusal.contains("another kindler already runs"),
            "{refusal}"
        );
        assert!(
            refusal.ends_with(&format!("PID {}", std::process::id())),
            "{refusal}"
        );
        let child_about_to_begin = held.file.try_clone().unwrap();
        drop(held);
        StateLock::take(state.path()).unwrap();
        drop(child_about_to_begin);
    }

    #[test]
    fn pid_files_are_read_as_far_as_they_go() {
        let whole = PidFile::parse("42\n/data\n1700000000\n5432\n/run dir\n\n0\nready   \n");
        let expected = PidFile {
            pid: Pid::from_raw(42).unwrap(),
            socket_dir: Some("/run dir".into()),
        };
        assert_eq!(whole, Some(expected));
        let early = PidFile::parse("42\n/data\n").unwrap();
        assert_eq!(
            (early.pid.as_raw_nonzero().get(), early.socket_dir),
            (42, None)
        );
        assert_eq!(
            PidFile::parse("-42\n").unwrap().pid.as_raw_nonzero().get(),
            42
        );
        for nonsense in ["", "\n", "0\n", "pid\n", "99999999999\n"] {
            assert_eq!(PidFile::parse(nonsense), None, "{nonsense:?}");
        }
    }
}
