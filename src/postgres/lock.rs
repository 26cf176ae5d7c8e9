//! Lets one Kindler at a time use a state folder.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::error::{PostgresError, failed};

/// The lock on a state folder. The kernel releases it when its process ends, so it is never stale.
#[derive(Debug)]
pub(super) struct StateLock(File);

impl Drop for StateLock {
    /// Unlocks explicitly: a child process that was forked a moment ago still has the file open,
    /// and closing it here would leave the lock with the child.
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl StateLock {
    /// Takes the lock, or fails with the PID of the process that holds it.
    pub fn take(state_dir: &Path) -> Result<Self, PostgresError> {
        let path = state_dir.join("lock");
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(failed("open", &path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(PostgresError::AlreadyRunning(format!(
                "another kindler already runs with the state folder {}: PID {}",
                state_dir.display(),
                pid.trim()
            )));
        }
        file.set_len(0).map_err(failed("empty", &path))?;
        writeln!(file, "{}", std::process::id()).map_err(failed("write", &path))?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lock_is_free_even_with_a_forked_child() {
        let state = tempfile::tempdir().unwrap();
        let held = StateLock::take(state.path()).unwrap();
        let _of_a_forked_child = held.0.try_clone().unwrap();
        drop(held);
        StateLock::take(state.path()).unwrap();
    }
}
