//! The locks of a kubeconfig, and its replacement as a whole.
//!
//! kubectl creates `FILE.lock` exclusively and never waits for it; killed, it leaves the file for
//! ever. Kindler creates the same file, waits for it, and writes its name into it. All processes of
//! Kindler lock the folder before, so that a file with this name that is there then was left by one
//! that was killed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tokio_util::sync::CancellationToken;

/// How long another writer is waited for.
const WITHIN: Duration = Duration::from_secs(10);

/// The content of Kindler's own lock file.
const OWNED: &str = "kindler\n";

/// Why a file cannot be locked or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteFault {
    /// A kubectl that was killed leaves it for ever.
    #[error(
        "{} exists since {seconds} s: if no kubectl runs, remove it", path.display()
    )]
    Locked { path: PathBuf, seconds: u64 },
    /// Another Kindler writes.
    #[error("another Kindler has locked {}", .0.display())]
    Busy(PathBuf),
    #[error("the work was interrupted")]
    Interrupted,
    #[error("{} cannot be {operation}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteFault {
    let path = path.to_owned();
    move |source| WriteFault::File {
        operation,
        path,
        source,
    }
}

/// The path of kubectl's lock of a file.
pub(super) fn lock_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Whether a Kindler that was killed left the lock: it is there for longer than any write takes.
pub(super) fn is_left(file: &Path) -> bool {
    let path = lock_path(file);
    let is_own = fs::read_to_string(&path).is_ok_and(|content| content == OWNED);
    is_own && age(&path).is_some_and(|age| age > WITHIN * 2)
}

fn age(path: &Path) -> Option<Duration> {
    fs::metadata(path).ok()?.modified().ok()?.elapsed().ok()
}

/// The locks of several files, until they are dropped.
#[derive(Debug, Default)]
pub(super) struct ConfigLocks {
    /// The lock files that this process made.
    made: Vec<PathBuf>,
    /// Unlocked when they are closed, after the lock files are removed.
    folders: Vec<File>,
}

impl Drop for ConfigLocks {
    fn drop(&mut self) {
        for lock in &self.made {
            // With it every kubectl fails; the next Kindler removes what stays.
            let _ = fs::remove_file(lock);
        }
    }
}

impl ConfigLocks {
    /// Waits for other writers. Blocks the thread.
    pub fn take<'f>(
        files: impl Iterator<Item = &'f PathBuf>,
        cancel: &CancellationToken,
    ) -> Result<Self, WriteFault> {
        let until = Instant::now() + WITHIN;
        let mut locks = Self::default();
        for file in files {
            let is_alone = locks.lock_folder(file, until, cancel)?;
            locks.lock_file(file, is_alone, until, cancel)?;
        }
        Ok(locks)
    }

    /// Returns whether this is the only Kindler that writes there.
    fn lock_folder(
        &mut self,
        file: &Path,
        until: Instant,
        cancel: &CancellationToken,
    ) -> Result<bool, WriteFault> {
        let path = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        fs::create_dir_all(path).map_err(failed("created", path))?;
        let folder = File::open(path).map_err(failed("opened", path))?;
        let identity = |folder: &File| folder.metadata().map(|of| (of.dev(), of.ino())).ok();
        let this = identity(&folder);
        if self.folders.iter().any(|held| identity(held) == this) {
            return Ok(true);
        }
        loop {
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                // Some file systems have no such locks; kubectl's remains.
                Err(_) => return Ok(false),
            }
            wait(until, cancel, || WriteFault::Busy(path.to_owned()))?;
        }
        self.folders.push(folder);
        Ok(true)
    }

    fn lock_file(
        &mut self,
        file: &Path,
        is_alone: bool,
        until: Instant,
        cancel: &CancellationToken,
    ) -> Result<(), WriteFault> {
        let path = lock_path(file);
        loop {
            let mut options = OpenOptions::new();
            match options.write(true).create_new(true).mode(0o600).open(&path) {
                Ok(mut lock) => {
                    self.made.push(path.clone());
                    let written = lock.write_all(OWNED.as_bytes());
                    return written.map_err(failed("written", &path));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("created", &path)(error)),
            }
            // Its owner holds the lock of the folder while it exists.
            if is_alone && fs::read_to_string(&path).is_ok_and(|content| content == OWNED) {
                fs::remove_file(&path).map_err(failed("removed", &path))?;
                continue;
            }
            let age = age(&path).unwrap_or_default();
            // kubectl holds it for milliseconds.
            let until = if age > WITHIN { Instant::now() } else { until };
            wait(until, cancel, || WriteFault::Locked {
                seconds: age.as_secs(),
                path: path.clone(),
            })?;
        }
    }
}

/// Waits a moment, unless it is too late.
fn wait(
    until: Instant,
    cancel: &CancellationToken,
    late: impl FnOnce() -> WriteFault,
) -> Result<(), WriteFault> {
    if cancel.is_cancelled() {
        return Err(WriteFault::Interrupted);
    }
    if Instant::now() >= until {
        return Err(late());
    }
    sleep(Duration::from_millis(10 + fastrand::u64(..30)));
    Ok(())
}

/// Replaces a file as a whole, through links, with its owner and mode.
pub(super) fn replace(file: &Path, content: &str) -> Result<(), WriteFault> {
    let target = match fs::canonicalize(file) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => file.to_owned(),
        Err(error) => return Err(failed("found", file)(error)),
    };
    let known = fs::metadata(&target).ok();
    let mut part = target.as_os_str().to_owned();
    part.push(".kindler-part");
    let part = PathBuf::from(part);
    let _ = fs::remove_file(&part);
    let written = write(&part, known.as_ref(), content);
    let replaced = written.and_then(|()| fs::rename(&part, &target));
    if replaced.is_err() {
        let _ = fs::remove_file(&part);
    }
    replaced.map_err(failed("written", file))
}

fn write(part: &Path, known: Option<&fs::Metadata>, content: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut new = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(part)?;
    if let Some(known) = known {
        let made = new.metadata()?;
        if (made.uid(), made.gid()) != (known.uid(), known.gid()) {
            fchown(&new, Some(known.uid()), Some(known.gid()))?;
        }
        new.set_permissions(fs::Permissions::from_mode(known.mode() & 0o7777))?;
    }
    new.write_all(content.as_bytes())?;
    new.sync_all()
}
