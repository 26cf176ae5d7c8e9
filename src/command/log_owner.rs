//! Decides which row owns a log: names are reused, and a reader of one row's log must not get the
//! lines of an earlier row.
//!
//! The first line of a log is a heading with the UID of the row that owns it. A command's output
//! comes after it and cannot be mistaken for it.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use uuid::Uuid;

use super::log::rotated_path;

/// The text before the UID in a heading.
const UID: &str = " uid ";
/// How much of a log's first line is read, in bytes. The UID is before the command line.
pub(super) const HEADING_BYTES: u64 = 512;

/// An attempt, for its first line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// The operation: `create`, `delete`, `probe`.
    pub operation: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The generation of the row.
    pub generation: i64,
    /// The term of the lease.
    pub term: i64,
}

impl fmt::Display for Heading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operation,
            attempt,
            generation,
            term,
        } = self;
        write!(
            f,
            "{operation} attempt {attempt} generation {generation} term {term}"
        )
    }
}

impl Heading {
    /// `--- 2026-11-20T23:00:00Z create attempt 3 generation 2 term 17 uid ...: what`.
    pub(super) fn line(&self, now: Timestamp, uid: Uuid, what: &impl fmt::Display) -> String {
        format!("--- {now} {self}{UID}{uid}: {what}\n")
    }
}

/// The row whose log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOwner {
    /// The row that wrote last.
    Last,
    /// One row.
    Row {
        /// Its identity.
        uid: Uuid,
        /// When the row was created, if known. A log of an earlier release has no UID: this row owns
        /// it if it was written after that time, or if the time is not known.
        since: Option<Timestamp>,
    },
}

impl LogOwner {
    /// One row and the time when it was created, if known.
    pub fn row(uid: Uuid, since: Option<Timestamp>) -> Self {
        Self::Row { uid, since }
    }

    /// Whether this owner may read a log.
    pub(super) fn owns(self, log: &File) -> io::Result<bool> {
        let Self::Row { uid, since } = self else {
            return Ok(true);
        };
        if let Some(found) = uid_of(log)? {
            return Ok(found == uid);
        }
        let written = Timestamp::try_from(log.metadata()?.modified()?);
        Ok(since.is_none_or(|since| written.is_ok_and(|written| written >= since)))
    }

    /// The row in the heading of a log, if this is [`LogOwner::Last`].
    pub(super) fn bound_to(self, log: &File) -> io::Result<Self> {
        Ok(match (self, uid_of(log)?) {
            (Self::Last, Some(uid)) => Self::Row { uid, since: None },
            (owner, _) => owner,
        })
    }
}

/// The log of a name as one owner may read it.
#[derive(Clone, Debug)]
pub struct LogFile {
    path: PathBuf,
    owner: LogOwner,
}

impl LogFile {
    pub(super) fn new(path: PathBuf, owner: LogOwner) -> Self {
        Self { path, owner }
    }

    /// The path, also if there is no log.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn owner(&self) -> LogOwner {
        self.owner
    }

    /// Whether the log exists and belongs to the owner.
    pub fn exists(&self) -> bool {
        self.open().is_ok_and(|log| log.is_some())
    }

    /// Opens the log if it exists and belongs to the owner.
    pub(super) fn open(&self) -> io::Result<Option<File>> {
        owned(&self.path, self.owner)
    }

    /// Opens the rotated log if it belongs to the same row as the current one.
    pub(super) fn rotated(&self, current: Option<&File>) -> io::Result<Option<File>> {
        let owner = match current {
            Some(current) => self.owner.bound_to(current)?,
            None => self.owner,
        };
        let Some(older) = owned(&rotated_path(&self.path), owner)? else {
            return Ok(None);
        };
        let of_another_row =
            owner == LogOwner::Last && current.is_some() && uid_of(&older)?.is_some();
        Ok((!of_another_row).then_some(older))
    }

    /// Whether another row owns the log.
    pub(super) fn is_taken(&self) -> io::Result<bool> {
        Ok(fs::exists(&self.path)? && self.open()?.is_none())
    }
}

fn owned(path: &Path, owner: LogOwner) -> io::Result<Option<File>> {
    let log = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    Ok(owner.owns(&log)?.then_some(log))
}

/// The UID in the first line of a log.
fn uid_of(mut log: &File) -> io::Result<Option<Uuid>> {
    log.seek(SeekFrom::Start(0))?;
    let mut first = Vec::new();
    log.take(HEADING_BYTES).read_to_end(&mut first)?;
    Ok(uid_in(&first))
}

/// The UID in a heading that [`Heading::line`] wrote.
pub(super) fn uid_in(first: &[u8]) -> Option<Uuid> {
    let line = first.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let heading = line.strip_prefix("--- ")?.split_once(": ")?.0;
    heading.rsplit_once(UID)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn written(text: &str) -> (tempfile::TempDir, LogFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev.log");
        fs::write(&path, text).unwrap();
        (dir, LogFile::new(path, LogOwner::row(OWN, None)))
    }

    fn heading(uid: Uuid) -> String {
        let heading = Heading {
            operation: "create".to_owned(),
            attempt: 1,
            generation: 2,
            term: 3,
        };
        heading.line(Timestamp::UNIX_EPOCH, uid, &"/x -n a")
    }

    #[test]
    fn only_a_heading_has_a_uid() {
        assert_eq!(uid_in(heading(OWN).as_bytes()), Some(OWN));
        for other in [
            String::new(),
            format!("uid {OWN}: x"),
            format!("one\n{}", heading(OWN)),
            format!("--- 2026-11-20T23:00:00Z create attempt 1 term 3: /x uid {OWN}: y\n"),
        ] {
            assert_eq!(uid_in(other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn the_row_in_the_first_line_owns_the_log() {
        let (_dir, log) = written(&(heading(OWN) + &heading(OTHER)));
        assert!(log.exists() && !log.is_taken().unwrap());
        let of = |owner| LogFile::new(log.path().to_owned(), owner);
        assert!(!of(LogOwner::row(OTHER, None)).exists());
        assert!(of(LogOwner::row(OTHER, None)).is_taken().unwrap());
        assert!(of(LogOwner::Last).exists());
    }

    #[test]
    fn a_log_without_uid_belongs_to_a_row_that_is_older() {
        let (_dir, log) = written("--- 2026-11-20T23:00:00Z create attempt 1 term 3: /x\n");
        let of = |since| LogFile::new(log.path().to_owned(), LogOwner::row(OWN, since));
        let hour = jiff::SignedDuration::from_hours(1);
        assert!(of(Some(Timestamp::now() - hour)).exists());
        assert!(!of(Some(Timestamp::now() + hour)).exists());
    }
}
