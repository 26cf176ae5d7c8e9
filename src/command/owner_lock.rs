//! A file for each owner of this host, locked while a process of the owner exists: the daemon,
//! its guards, and the commands that they started. Without a lock on it nothing of the owner
//! runs, and it never runs again, so its leases need not expire first.
//!
//! The daemon and each guard hold a shared lock. A guard opens the file before it starts its
//! command, which inherits the lock, so that it outlives a guard that is killed. Who gets an
//! exclusive lock has proven that the owner has ended, and removes the file; a guard that starts
//! too late finds no file, and starts nothing.
//!
//! The files are in a folder of their own for each boot: a lock says nothing about another
//! kernel, which may share the state folder over a network. This module does not know leases.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::{FdFlags, fcntl_setfd};

/// The longest description of a database that is read.
const DATABASE_BYTES: u64 = 4096;

/// How long an owner may take to lock its new file.
const LOCKED_WITHIN: Duration = Duration::from_secs(60);

/// The locks of the owners of one database on this host.
#[derive(Clone, Debug)]
pub struct OwnerLocks {
    folder: PathBuf,
    database: String,
}

impl OwnerLocks {
    /// The locks in a state folder. `database` tells the owners of several databases apart.
    ///
    /// # Errors
    /// The kernel does not say which boot this is.
    pub fn new(state_dir: &Path, database: String) -> io::Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let folder = state_dir.join("owners").join(boot.trim());
        Ok(Self { folder, database })
    }

    /// Creates and locks the file of an owner that starts.
    ///
    /// # Errors
    /// The file cannot be created or locked.
    pub fn take(&self, owner: &str) -> io::Result<OwnerLock> {
        fs::create_dir_all(&self.folder)?;
        let (path, part) = (
            self.folder.join(owner),
            self.folder.join(format!(".{owner}")),
        );
        let mut file = File::create_new(&part)?;
        file.write_all(self.database.as_bytes())?;
        flock(&file, FlockOperation::NonBlockingLockShared)?;
        // Locked before it gets its name, or another process could find it unlocked.
        fs::rename(&part, &path)?;
        self.remove_left(owner);
        Ok(OwnerLock { file, path })
    }

    /// Removes what owners of this host have left: files of earlier boots, and those that got no
    /// name because their process ended before. A lock shows that the file is in use, such as by
    /// another host of the same name that shares the state folder. Errors leave the files.
    fn remove_left(&self, owner: &str) {
        let boots = self.folder.parent().map(entries).unwrap_or_default();
        for boot in boots {
            let current = boot == self.folder;
            for file in entries(&boot) {
                let name = file.file_name().and_then(|name| name.to_str());
                let Some(name) = name else { continue };
                let unnamed = name.strip_prefix('.');
                let left = !current || unnamed.is_some() && is_old(&file);
                if left && host(unnamed.unwrap_or(name)) == host(owner) && is_unlocked(&file) {
                    let _ = fs::remove_file(&file);
                }
            }
            if !current {
                // Fails while files of others are in it.
                let _ = fs::remove_dir(&boot);
            }
        }
    }

    /// The owners of this database that have ended without removing their file.
    pub fn ended(&self) -> Vec<EndedOwner> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let owner = entry.file_name().into_string().ok()?;
                (!owner.starts_with('.')).then(|| self.ended_owner(owner, entry.path()))?
            })
            .collect()
    }

    fn ended_owner(&self, owner: String, path: PathBuf) -> Option<EndedOwner> {
        let file = File::open(&path).ok()?;
        let mut database = String::new();
        let mut read = (&file).take(DATABASE_BYTES);
        read.read_to_string(&mut database).ok()?;
        if database != self.database {
            return None;
        }
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(EndedOwner { owner, path, file })
    }
}

/// The lock of this process. It ends with the process; its file stays for others to find,
/// unless [`OwnerLock::forget`] is called.
#[derive(Debug)]
pub struct OwnerLock {
    file: File,
    path: PathBuf,
}

impl OwnerLock {
    /// The file, for guards.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file of an owner that ends without leases.
    pub fn forget(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// An owner that has ended; nothing of it starts while this exists.
#[derive(Debug)]
pub struct EndedOwner {
    owner: String,
    path: PathBuf,
    file: File,
}

impl EndedOwner {
    /// The owner of its leases.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Removes the file, after the leases were released.
    pub fn forget(self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for EndedOwner {
    /// Unlocks explicitly: a child process that was forked a moment ago still has the file open.
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

/// Locks the file of a guard's owner, for the guard and the command that it starts. An error
/// means that the owner counts as ended.
pub(super) fn join(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    flock(&file, FlockOperation::NonBlockingLockShared)?;
    let (locked, named) = (file.metadata()?, fs::metadata(path)?);
    if (locked.dev(), locked.ino()) != (named.dev(), named.ino()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    fcntl_setfd(&file, FdFlags::empty())?;
    Ok(file)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The host in the name of an owner (`HOST:PID:RANDOM`).
fn host(owner: &str) -> Option<&str> {
    owner.rsplitn(3, ':').nth(2)
}

/// Whether a file exists for longer than an owner takes to lock it.
fn is_old(file: &Path) -> bool {
    let modified = fs::metadata(file).and_then(|file| file.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LOCKED_WITHIN))
}

fn is_unlocked(file: &Path) -> bool {
    File::open(file)
        .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locks(state: &Path, database: &str) -> OwnerLocks {
        OwnerLocks::new(state, database.to_owned()).unwrap()
    }

    #[test]
    fn an_owner_has_ended_when_no_process_holds_its_lock() {
        let state = tempfile::tempdir().unwrap();
        let here = locks(state.path(), "a");
        let owner = here.take("host:1:2").unwrap();
        let guard = join(owner.path()).unwrap();
        assert!(here.ended().is_empty());
        drop(owner);
        assert!(here.ended().is_empty(), "its guard still holds the lock");
        drop(guard);
        assert!(
            locks(state.path(), "b").ended().is_empty(),
            "not its database"
        );
        let ended = here.ended().pop().unwrap();
        assert_eq!(ended.owner(), "host:1:2");
        let path = ended.path.clone();
        assert!(join(&path).is_err(), "a guard that starts too late");
        ended.forget();
        assert!(join(&path).is_err() && here.ended().is_empty());
    }

    #[test]
    fn a_guard_that_opened_the_file_before_its_removal_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let here = locks(state.path(), "a");
        let path = here.take("one").unwrap().path().to_owned();
        here.ended().pop().unwrap().forget();
        // The name is taken again, by another file.
        let _again = here.take("one").unwrap();
        assert!(join(&path).is_ok());
        fs::remove_file(&path).unwrap();
        assert!(join(&path).is_err());
    }
}
