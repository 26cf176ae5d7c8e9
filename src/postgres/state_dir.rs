//! The state folder: its lock, the server's folders in it, and the data, which `initdb` makes.
//!
//! A data folder is made under another name and renamed, so it is complete or absent. This module
//! does not change a data folder that exists.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use tokio::process::Command;

use super::account::Account;
use super::binaries::Binaries;
use super::error::{PostgresError, failed};

/// No network, and no password: the folder of the socket decides who may connect. Text is ordered
/// by code point, as bytes of UTF-8 are.
const INITDB_ARGUMENTS: &str = "--username=postgres --encoding=UTF8 --locale=C --auth-local=trust \
                                --auth-host=reject --data-checksums";

/// A state folder that only this Kindler uses. The kernel releases the lock when its process ends,
/// so it is never stale.
#[derive(Debug)]
pub(super) struct StateDir {
    /// Absolute and without links.
    pub path: PathBuf,
    lock: File,
}

impl Drop for StateDir {
    /// Unlocks explicitly: a child process that was forked a moment ago still has the file open,
    /// and closing it here would leave the lock with the child.
    fn drop(&mut self) {
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

impl StateDir {
    /// Makes the folder if it is missing, and locks it; fails with the PID of the process that has
    /// locked it already.
    pub fn lock(path: &Path) -> Result<Self, PostgresError> {
        if !path.exists() {
            make_folder(path)?;
        }
        let path = fs::canonicalize(path).map_err(failed("resolve", path))?;
        let file = path.join("lock");
        let lock = File::options().append(true).create(true).open(&file);
        let lock = lock.map_err(failed("open", &file))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(PostgresError::AlreadyRunning(format!(
                "another kindler already runs with the state folder {}: PID {}",
                path.display(),
                fs::read_to_string(&file).unwrap_or_default().trim()
            )));
        }
        fs::write(&file, process::id().to_string()).map_err(failed("write", &file))?;
        Ok(Self { path, lock })
    }
}

/// Makes a folder of Kindler's user. Other users may pass through a folder of root, because the user
/// who runs the server must; that user cannot place a link there for root to follow.
pub(super) fn make_folder(folder: &Path) -> Result<(), PostgresError> {
    fs::create_dir_all(folder).map_err(failed("create", folder))?;
    set_mode(folder, if geteuid().is_root() { 0o711 } else { 0o700 })
}

/// Makes the private folder of the socket.
pub(super) fn make_socket_dir(folder: &Path, account: Account) -> Result<(), PostgresError> {
    let _ = DirBuilder::new().mode(0o700).create(folder);
    // In `/tmp` another user may have made it.
    let made = fs::symlink_metadata(folder).map_err(failed("create", folder))?;
    if !made.is_dir() || ![account.uid, geteuid().as_raw()].contains(&made.uid()) {
        return Err(PostgresError::Unusable(format!(
            "{} should be a private folder for the database socket, but belongs to another user; \
             remove it, or choose a state folder with a shorter path",
            folder.display()
        )));
    }
    set_mode(folder, 0o700)?;
    account.own(folder)
}

fn set_mode(folder: &Path, mode: u32) -> Result<(), PostgresError> {
    let permissions = Permissions::from_mode(mode);
    fs::set_permissions(folder, permissions).map_err(failed("set the permissions of", folder))
}

/// The version that made this data folder; none if there is no such folder.
pub(super) fn version_of(data_dir: &Path) -> Result<Option<u32>, PostgresError> {
    if !data_dir.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(data_dir.join("PG_VERSION")).unwrap_or_default();
    text.trim().parse().map(Some).map_err(|_| {
        PostgresError::Unusable(format!(
            "{} is not a Postgres data folder that this user may read (PG_VERSION); run kindler as \
             its owner or as root, or move it away to start anew",
            data_dir.display()
        ))
    })
}

/// Makes a data folder with `initdb`: under another name, then renames it. Cancel-safe.
pub async fn initdb(
    data_dir: &Path,
    account: Account,
    binaries: &Binaries,
    durable: bool,
) -> Result<(), PostgresError> {
    let unfinished = data_dir.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(failed("remove", &unfinished))?;
    }
    fs::create_dir(&unfinished).map_err(failed("create", &unfinished))?;
    account.own(&unfinished)?;
    let program = binaries.program("initdb");
    let mut command = Command::new(&program);
    account.apply(command.as_std_mut());
    command
        .args(INITDB_ARGUMENTS.split_whitespace())
        .args((!durable).then_some("--no-sync"))
        .arg("-D")
        .arg(&unfinished)
        .kill_on_drop(true);
    let output = command.output().await.map_err(failed("run", &program))?;
    if !output.status.success() {
        let (data_dir, errors) = (data_dir.display(), String::from_utf8_lossy(&output.stderr));
        let text = format!("initdb could not make {data_dir}: {errors}");
        return Err(PostgresError::Unusable(text));
    }
    fs::rename(&unfinished, data_dir).map_err(failed("create", data_dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lock_is_free_even_with_a_forked_child() {
        let folder = tempfile::tempdir().unwrap();
        let held = StateDir::lock(folder.path()).unwrap();
        let _of_a_forked_child = held.lock.try_clone().unwrap();
        drop(held);
        StateDir::lock(folder.path()).unwrap();
    }

    #[test]
    fn the_version_of_data_is_its_major_number() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert!(matches!(version_of(&data), Ok(None)));
        fs::create_dir(&data).unwrap();
        assert!(matches!(version_of(&data), Err(PostgresError::Unusable(_))));
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        assert!(matches!(version_of(&data), Ok(Some(15))));
    }
}
