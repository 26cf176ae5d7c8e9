//! Reads the log of a cluster for a person: its last lines, and what comes after them.
//!
//! Lines come out cleaned, since a command's output must not steer the reader's terminal. This
//! module must not write, and must not need the daemon.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::capture::clean_line;
use super::log_error::LogError;
use super::log_owner::LogFile;

/// How often a followed log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How much of the end of a log is searched for its last lines, in bytes.
const SEARCHED: u64 = 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;

/// The last `lines` lines of a log, oldest first, reaching back into what was set aside of it. No
/// log yet is an empty one.
pub fn tail(log: &LogFile, lines: usize) -> Result<Vec<String>, LogError> {
    let read = || {
        let file = log.open()?;
        let current = last_of(file.as_ref(), lines)?.lines;
        let missing = lines - current.len();
        if missing == 0 {
            return Ok(current);
        }
        let older = log.set_aside(file.as_ref())?;
        let mut last = last_of(older.as_ref(), missing)?.lines;
        last.extend(current);
        Ok(last)
    };
    read().map_err(|source| unreadable(log, source))
}

fn unreadable(log: &LogFile, source: io::Error) -> LogError {
    LogError::Read {
        path: log.path().to_owned(),
        source,
    }
}

/// The last lines of a file, and where in it they end.
#[derive(Default)]
struct Last {
    lines: Vec<String>,
    end: u64,
}

fn last_of(file: Option<&File>, lines: usize) -> io::Result<Last> {
    let Some(mut file) = file else {
        return Ok(Last::default());
    };
    let start = file.metadata()?.len().saturating_sub(SEARCHED);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(SEARCHED).read_to_end(&mut bytes)?;
    // A line without an end is still being written: it is left for the one who follows.
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |last| last + 1);
    let ends: Vec<&[u8]> = bytes[..whole]
        .split_inclusive(|byte| *byte == b'\n')
        .collect();
    let last = ends[ends.len().saturating_sub(lines)..].iter();
    Ok(Last {
        lines: last.map(|line| clean_line(line)).collect(),
        end: start + whole as u64,
    })
}

/// A log that is being followed, across rotations and also when it does not exist yet, until it
/// is another row's.
///
/// Reads are small and synchronous: a local file, looked at five times a second.
#[derive(Debug)]
pub struct Follow {
    log: LogFile,
    file: Option<File>,
    offset: u64,
    unfinished: Vec<u8>,
    ready: VecDeque<String>,
    ended: bool,
}

impl Follow {
    /// Follows a log, beginning with its last `lines` lines. Nothing that is written between those
    /// and the first look is missed.
    pub fn new(log: LogFile, lines: usize) -> Result<Self, LogError> {
        let read = || {
            let file = log.open()?;
            let last = last_of(file.as_ref(), lines)?;
            Ok(Self {
                log: bound(&log, file.as_ref())?,
                file,
                offset: last.end,
                unfinished: Vec::new(),
                ready: last.lines.into(),
                ended: false,
            })
        };
        read().map_err(|source| unreadable(&log, source))
    }

    /// The next line, as soon as there is one; none once the log is another row's. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<String>, LogError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            if !self.look()? {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Reads what is new. False when there was nothing.
    fn look(&mut self) -> Result<bool, LogError> {
        self.try_look()
            .map_err(|source| unreadable(&self.log, source))
    }

    fn try_look(&mut self) -> io::Result<bool> {
        // Asked before the read: what is written to the old file after a rotation would be lost
        // otherwise, and what is written before is still read from it.
        let replaced = self.was_replaced()?;
        if self.read_on()? {
            return Ok(true);
        }
        if replaced {
            let Some(file) = self.log.open()? else {
                // Only what follows this row's own log is a later one's.
                self.ended = self.file.is_some() && self.log.is_taken()?;
                return Ok(self.ended);
            };
            self.log = bound(&self.log, Some(&file))?;
            self.file = Some(file);
            self.offset = 0;
            // The old file will not finish its last line any more.
            let cut = std::mem::take(&mut self.unfinished);
            self.ready
                .extend((!cut.is_empty()).then(|| clean_line(&cut)));
        }
        Ok(replaced)
    }

    /// Whether the path leads to another file than the one that is open.
    fn was_replaced(&self) -> io::Result<bool> {
        let now = match fs::metadata(self.log.path()) {
            // Between the two halves of a rotation, or not there yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            now => now?,
        };
        let Some(file) = &self.file else {
            return Ok(true);
        };
        let open = file.metadata()?;
        Ok((open.dev(), open.ino()) != (now.dev(), now.ino()))
    }

    fn read_on(&mut self) -> io::Result<bool> {
        let Some(file) = &mut self.file else {
            return Ok(false);
        };
        // Someone emptied it in place.
        if file.metadata()?.len() < self.offset {
            self.offset = 0;
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = vec![0; READ_BYTES];
        let read = file.read(&mut bytes)?;
        self.offset += read as u64;
        self.unfinished.extend_from_slice(&bytes[..read]);
        let whole = self
            .unfinished
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |n| n + 1);
        let rest = self.unfinished.split_off(whole);
        let lines = std::mem::replace(&mut self.unfinished, rest);
        self.ready
            .extend(lines.split_inclusive(|byte| *byte == b'\n').map(clean_line));
        Ok(read > 0)
    }
}

/// The log of the row that the file belongs to, whichever was asked for.
fn bound(log: &LogFile, file: Option<&File>) -> io::Result<LogFile> {
    let owner = match file {
        Some(file) => log.owner().bound_to(file)?,
        None => log.owner(),
    };
    Ok(LogFile::new(log.path().to_owned(), owner))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::time::Duration;

    use std::path::Path;

    use uuid::Uuid;

    use super::super::log_owner::{LogFile, LogOwner};
    use super::{Follow, tail};

    async fn next(follow: &mut Follow) -> String {
        try_next(follow).await.expect("a line")
    }

    async fn try_next(follow: &mut Follow) -> Option<String> {
        tokio::time::timeout(Duration::from_secs(5), follow.next())
            .await
            .unwrap()
            .unwrap()
    }

    fn log(path: &Path) -> LogFile {
        LogFile::new(path.to_owned(), LogOwner::Last)
    }

    fn of(path: &Path, uid: u128) -> LogFile {
        let uid = Uuid::from_u128(uid);
        LogFile::new(path.to_owned(), LogOwner::row(uid, None))
    }

    fn written(uid: u128, line: &str) -> String {
        format!("--- now create uid {}: x\n{line}\n", Uuid::from_u128(uid))
    }

    #[test]
    fn the_tail_reaches_back_into_the_log_that_was_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev.log");
        assert_eq!(tail(&log(&path), 5).unwrap(), [""; 0]);
        fs::write(&path, "three\n\x1b[31mfour\n").unwrap();
        fs::write(dir.path().join("dev.log.1"), "one\ntwo\n").unwrap();
        assert_eq!(tail(&log(&path), 3).unwrap(), ["two", "three", "four"]);
        assert_eq!(tail(&log(&path), 1).unwrap(), ["four"]);
        assert_eq!(tail(&log(&path), 0).unwrap(), [""; 0]);
        assert_eq!(
            tail(&log(&path), 99).unwrap(),
            ["one", "two", "three", "four"]
        );
    }

    #[tokio::test]
    async fn following_survives_a_late_start_a_half_line_and_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev.log");
        let mut follow = Follow::new(log(&path), 10).unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(50), follow.next()).await;
        assert!(nothing.is_err());
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(next(&mut follow).await, "one");
        file.write_all(b"o\nthree\n").unwrap();
        assert_eq!(next(&mut follow).await, "two");
        fs::rename(&path, dir.path().join("dev.log.1")).unwrap();
        file.write_all(b"four\n").unwrap();
        fs::write(&path, "five\n").unwrap();
        for expected in ["three", "four", "five"] {
            assert_eq!(next(&mut follow).await, expected);
        }
        fs::write(&path, "6\n").unwrap();
        assert_eq!(next(&mut follow).await, "6");
    }

    #[tokio::test]
    async fn following_begins_with_the_last_lines_and_misses_none_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev.log");
        fs::write(&path, "one\ntwo\nthr").unwrap();
        let mut follow = Follow::new(log(&path), 1).unwrap();
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(next(&mut follow).await, "two");
        assert_eq!(next(&mut follow).await, "three");
    }

    #[test]
    fn the_tail_reaches_back_into_a_log_of_the_same_row_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev.log");
        let older = dir.path().join("dev.log.1");
        fs::write(&older, written(1, "one")).unwrap();
        fs::write(&path, written(1, "two")).unwrap();
        assert_eq!(tail(&of(&path, 1), 99).unwrap().len(), 4);
        assert_eq!(tail(&log(&path), 99).unwrap().len(), 4);
        assert_eq!(tail(&of(&path, 2), 99).unwrap(), [""; 0]);
        fs::write(&path, written(2, "three")).unwrap();
        for two in [of(&path, 2), log(&path)] {
            let lines = tail(&two, 99).unwrap();
            assert_eq!((lines.len(), lines[1].as_str()), (2, "three"));
        }
        fs::write(&path, "of an earlier release\n").unwrap();
        assert_eq!(tail(&log(&path), 99).unwrap().len(), 1);
        // Set aside as it was, and the row goes on.
        fs::rename(&path, &older).unwrap();
        fs::write(&path, written(2, "four")).unwrap();
        assert_eq!(tail(&of(&path, 2), 99).unwrap().len(), 3);
    }

    #[tokio::test]
    async fn following_waits_for_its_own_row_and_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev.log");
        fs::write(&path, written(1, "one")).unwrap();
        let mut follow = Follow::new(of(&path, 2), 10).unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(300), follow.next()).await;
        assert!(nothing.is_err());
        for (uid, line) in [(2, "two"), (2, "after a rotation")] {
            fs::rename(&path, dir.path().join("dev.log.1")).unwrap();
            fs::write(&path, written(uid, line)).unwrap();
            assert!(next(&mut follow).await.starts_with("--- "));
            assert_eq!(next(&mut follow).await, line);
        }
        let mut last = Follow::new(log(&path), 1).unwrap();
        assert_eq!(next(&mut last).await, "after a rotation");
        fs::rename(&path, dir.path().join("dev.log.1")).unwrap();
        fs::write(&path, written(3, "three")).unwrap();
        assert_eq!(try_next(&mut follow).await, None);
        assert_eq!(try_next(&mut last).await, None);
    }
}
