//! Lets one Kindler at a time use a state folder.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::error::{FileContext, PostgresError};

/// The lock on a state folder. The kernel releases it when its process ends, so it is never stale.
#[derive(Debug)]
pub(super) struct StateLock {
    file: File,
}

impl Drop for StateLock {
    /// Unlocks explicitly: a child process that was forked a moment ago still has the file open,
    /// and closing it here would leave the lock with the child.
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl StateLock {
    /// Takes the lock, or fails with the PID of the process that holds it.
    pub fn take(state_dir: &Path) -> Result<Self, PostgresError> {
        let path = state_dir.join("lock");
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).context("open", &path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let pid = Some(holder.trim()).filter(|pid| !pid.is_empty());
                return Err(PostgresError::AlreadyRunning {
                    state_dir: state_dir.into(),
                    pid: pid.unwrap_or("unknown").into(),
                });
            }
            Err(error) => return Err(error.into()).context("lock", path),
        }
        file.set_len(0).context("empty", &path)?;
        writeln!(file, "{}", std::process::id()).context("write", &path)?;
        Ok(Self { file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let state = tempfile::tempdir().unwrap();
        let held = StateLock::take(state.path()).unwrap();
        let refusal = StateLock::take(state.path()).unwrap_err().to_string();
        assert!(
            refusal.contains("another kindler already runs"),
            "{refusal}"
        );
        let pid = format!("PID {}", std::process::id());
        assert!(refusal.ends_with(&pid), "{refusal}");
        let of_a_forked_child = held.file.try_clone().unwrap();
        drop(held);
        StateLock::take(state.path()).unwrap();
        drop(of_a_forked_child);
    }
}
