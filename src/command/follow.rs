//! Reads the log of a cluster for a person: its last lines, and what comes after them.
//!
//! Lines come out cleaned, since a command's output must not steer the reader's terminal. This
//! module must not write, and must not need the daemon.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::capture::clean_line;
use super::log::{LogError, aside};

/// How often a followed log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How much of the end of a log is searched for its last lines, in bytes.
const SEARCHED: u64 = 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;

/// The last `lines` lines of the log at `path`, oldest first, reaching back into the log that was
/// set aside. No log yet is an empty one.
pub fn tail(path: &Path, lines: usize) -> Result<Vec<String>, LogError> {
    let (_, _, current) = end_of(path, lines)?;
    let missing = lines - current.len();
    if missing == 0 {
        return Ok(current);
    }
    let (_, _, mut last) = end_of(&aside(path), missing)?;
    last.extend(current);
    Ok(last)
}

/// Opens the log, if there is one, reads its last lines, and says where in the file they end.
fn end_of(path: &Path, lines: usize) -> Result<(Option<File>, u64, Vec<String>), LogError> {
    let read = || {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((None, 0, Vec::new()));
            }
            opened => opened?,
        };
        let start = file.metadata()?.len().saturating_sub(SEARCHED);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        (&file).take(SEARCHED).read_to_end(&mut bytes)?;
        // A line without an end is still being written: it is left for the one who follows.
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |last| last + 1);
        let ends: Vec<&[u8]> = bytes[..whole]
            .split_inclusive(|byte| *byte == b'\n')
            .collect();
        let last = ends[ends.len().saturating_sub(lines)..]
            .iter()
            .map(|l| clean_line(l))
            .collect();
        Ok((Some(file), start + whole as u64, last))
    };
    read().map_err(|source| LogError::Read {
        path: path.to_owned(),
        source,
    })
}

/// A log that is being followed, across rotations and also when it does not exist yet.
///
/// Reads are small and synchronous: a local file, looked at five times a second.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    file: Option<File>,
    offset: u64,
    unfinished: Vec<u8>,
    ready: VecDeque<String>,
}

impl Follow {
    /// Follows the log at `path`, beginning with its last `lines` lines. Nothing that is written
    /// between those and the first look is missed.
    pub fn new(path: impl Into<PathBuf>, lines: usize) -> Result<Self, LogError> {
        let path = path.into();
        let (file, offset, last) = end_of(&path, lines)?;
        Ok(Self {
            path,
            file,
            offset,
            unfinished: Vec::new(),
            ready: last.into(),
        })
    }

    /// The next line, as soon as there is one. Cancel safe.
    pub async fn next(&mut self) -> Result<String, LogError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(line);
            }
            if !self.look()? {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Reads what is new. False when there was nothing.
    fn look(&mut self) -> Result<bool, LogError> {
        let looked = self.try_look();
        looked.map_err(|source| LogError::Read {
            path: self.path.clone(),
            source,
        })
    }

    fn try_look(&mut self) -> io::Result<bool> {
        // Asked before the read: what is written to the old file after a rotation would be lost
        // otherwise, and what is written before is still read from it.
        let replaced = self.was_replaced()?;
        if self.read_on()? {
            return Ok(true);
        }
        if replaced {
            self.file = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                opened => Some(opened?),
            };
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
        let now = match fs::metadata(&self.path) {
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::time::Duration;

    use super::{Follow, tail};

    async fn next(follow: &mut Follow) -> String {
        tokio::time::timeout(Duration::from_secs(5), follow.next())
            .await
            .unwrap()
            .unwrap()
    }

    #[test]
    fn the_tail_reaches_back_into_the_log_that_was_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev.log");
        assert_eq!(tail(&path, 5).unwrap(), [""; 0]);
        fs::write(&path, "three\n\x1b[31mfour\n").unwrap();
        fs::write(dir.path().join("dev.log.1"), "one\ntwo\n").unwrap();
        assert_eq!(tail(&path, 3).unwrap(), ["two", "three", "four"]);
        assert_eq!(tail(&path, 1).unwrap(), ["four"]);
        assert_eq!(tail(&path, 0).unwrap(), [""; 0]);
        assert_eq!(tail(&path, 99).unwrap(), ["one", "two", "three", "four"]);
    }

    #[tokio::test]
    async fn following_survives_a_late_start_a_half_line_and_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev.log");
        let mut follow = Follow::new(&path, 10).unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(50), follow.next()).await;
        assert!(nothing.is_err());
        let mut log = File::create(&path).unwrap();
        log.write_all(b"one\ntw").unwrap();
        assert_eq!(next(&mut follow).await, "one");
        log.write_all(b"o\nthree\n").unwrap();
        assert_eq!(next(&mut follow).await, "two");
        fs::rename(&path, dir.path().join("dev.log.1")).unwrap();
        log.write_all(b"four\n").unwrap();
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
        let mut follow = Follow::new(&path, 1).unwrap();
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(next(&mut follow).await, "two");
        assert_eq!(next(&mut follow).await, "three");
    }
}
