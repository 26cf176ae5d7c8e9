//! Reads the log of a cluster for a person: its last lines and the lines that follow.
//!
//! Lines are cleaned, because a command's output must not control the reader's terminal. This
//! module does not write, and works without the daemon.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::capture::{clean_line, clean_up_to};
use super::files::state_files;
use super::log_error::LogError;
use super::log_owner::LogFile;

/// How often a followed log is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How much of the end of a log is read to find its last lines, in bytes.
const SEARCHED: u64 = 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;

/// The last `lines` lines of a log and its rotated part, oldest first. Empty if there is no log.
pub fn tail(log: &LogFile, lines: usize) -> Result<Vec<String>, LogError> {
    let read = || {
        let file = log.open()?;
        let current = last_of(file.as_ref(), lines)?.with_unfinished(lines);
        let missing = lines - current.len();
        if missing == 0 {
            return Ok(current);
        }
        let older = log.rotated(file.as_ref())?;
        let mut last = last_of(older.as_ref(), missing)?.lines;
        last.extend(current);
        Ok(last)
    };
    read().map_err(|source| unreadable(log, source))
}

/// All of a log and its rotated part, with whole lines: for a download. The size of a log is
/// limited.
pub fn whole(log: &LogFile) -> Result<String, LogError> {
    let read = || {
        let file = log.open()?;
        let older = log.rotated(file.as_ref())?;
        let mut text = String::new();
        for mut file in [older, file].into_iter().flatten() {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut bytes)?;
            let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            for line in bytes.split(|byte| *byte == b'\n') {
                text.push_str(&clean_up_to(usize::MAX, line));
                text.push('\n');
            }
        }
        Ok(text)
    };
    read().map_err(|source| unreadable(log, source))
}

fn unreadable(log: &LogFile, source: io::Error) -> LogError {
    LogError::Read {
        path: log.path().to_owned(),
        source,
    }
}

#[derive(Default)]
struct LastLines {
    lines: Vec<String>,
    /// The offset in the file at which they end.
    end: u64,
    /// The text after them: a line that is still being written.
    unfinished: String,
}

impl LastLines {
    /// At most `lines`, of which the unfinished one is the last.
    fn with_unfinished(mut self, lines: usize) -> Vec<String> {
        if !self.unfinished.is_empty() && lines > 0 {
            self.lines.push(self.unfinished);
            let more = self.lines.len().saturating_sub(lines);
            self.lines.drain(..more);
        }
        self.lines
    }
}

fn last_of(file: Option<&File>, lines: usize) -> io::Result<LastLines> {
    let Some(mut file) = file else {
        return Ok(LastLines::default());
    };
    let start = file.metadata()?.len().saturating_sub(SEARCHED);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(SEARCHED).read_to_end(&mut bytes)?;
    // A line without an end is still being written: `Follow` reads its end later.
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |last| last + 1);
    let ends: Vec<&[u8]> = bytes[..whole]
        .split_inclusive(|byte| *byte == b'\n')
        .collect();
    let last = ends[ends.len().saturating_sub(lines)..].iter();
    Ok(LastLines {
        lines: last.map(|line| clean_line(line)).collect(),
        end: start + whole as u64,
        unfinished: clean_line(&bytes[whole..]),
    })
}

/// What a follower of a log shows next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogText {
    /// A line.
    Line(String),
    /// The last line as far as it is written. The next text replaces it.
    Unfinished(String),
}

/// Follows a log across rotations, also one that does not exist yet, until another row owns it.
///
/// Reads are small and synchronous: a local file, five times a second.
#[derive(Debug)]
pub struct Follow {
    log: LogFile,
    file: Option<File>,
    offset: u64,
    unfinished: Vec<u8>,
    ready: VecDeque<LogText>,
    /// The last text that was unfinished.
    shown: String,
    ended: bool,
}

impl Follow {
    /// Follows a log from its last `lines` lines on. No line after them is missed.
    pub fn new(log: LogFile, lines: usize) -> Result<Self, LogError> {
        let read = || {
            let file = log.open()?;
            let last = last_of(file.as_ref(), lines)?;
            Ok(Self {
                log: bound(&log, file.as_ref())?,
                file,
                offset: last.end,
                unfinished: Vec::new(),
                ready: last.lines.into_iter().map(LogText::Line).collect(),
                shown: String::new(),
                ended: false,
            })
        };
        read().map_err(|source| unreadable(&log, source))
    }

    /// Waits for the next text; none once another row owns the log. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<LogText>, LogError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            if !self.poll()? {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }

    /// As [`Follow::next`], with a deadline for each look at the files. Not cancel-safe.
    pub async fn next_in_time(mut self) -> Result<(Option<LogText>, Self), LogError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok((Some(line), self));
            }
            if self.ended {
                return Ok((None, self));
            }
            let log = self.log.clone();
            let polled = state_files().run(move || (self.poll(), self)).await;
            let (polled, follow) = polled.map_err(|late| unreadable(&log, late))?;
            self = follow;
            if !polled? {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }

    /// Reads new lines. Returns whether there was anything new.
    fn poll(&mut self) -> Result<bool, LogError> {
        self.try_poll()
            .map_err(|source| unreadable(&self.log, source))
    }

    fn try_poll(&mut self) -> io::Result<bool> {
        // Checked before the read: otherwise a write to the old file between the two is lost.
        let replaced = self.was_replaced()?;
        if self.read_new()? {
            return Ok(true);
        }
        if replaced {
            let Some(file) = self.log.open()? else {
                // Before this row's own log was open, another row's log is an earlier one.
                self.ended = self.file.is_some() && self.log.is_taken()?;
                return Ok(self.ended);
            };
            self.log = bound(&self.log, Some(&file))?;
            self.file = Some(file);
            self.offset = 0;
            // Nothing completes the last line of the old file.
            let cut = std::mem::take(&mut self.unfinished);
            self.ready
                .extend((!cut.is_empty()).then(|| LogText::Line(clean_line(&cut))));
            self.shown.clear();
        }
        Ok(replaced)
    }

    /// Whether the path names another file than the open one.
    fn was_replaced(&self) -> io::Result<bool> {
        let now = match fs::metadata(self.log.path()) {
            // In the middle of a rotation, or not created yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            now => now?,
        };
        let Some(file) = &self.file else {
            return Ok(true);
        };
        let open = file.metadata()?;
        Ok((open.dev(), open.ino()) != (now.dev(), now.ino()))
    }

    fn read_new(&mut self) -> io::Result<bool> {
        let Some(file) = &mut self.file else {
            return Ok(false);
        };
        // The file was truncated.
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
        let lines = lines.split_inclusive(|byte| *byte == b'\n');
        let before = self.ready.len();
        self.ready.extend(lines.map(clean_line).map(LogText::Line));
        if self.ready.len() > before {
            self.shown.clear();
        }
        let text = clean_line(&self.unfinished);
        if !text.is_empty() && text != self.shown {
            self.shown.clone_from(&text);
            self.ready.push_back(LogText::Unfinished(text));
        }
        Ok(read > 0)
    }
}

/// The log of the row that owns the file, if the heading names it.
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
    use super::{Follow, LogText, tail, whole};

    async fn next(follow: &mut Follow) -> String {
        try_next(follow).await.expect("a line")
    }

    /// The next finished line.
    async fn try_next(follow: &mut Follow) -> Option<String> {
        loop {
            match try_text(follow).await? {
                LogText::Line(line) => return Some(line),
                LogText::Unfinished(_) => {}
            }
        }
    }

    async fn try_text(follow: &mut Follow) -> Option<LogText> {
        tokio::time::timeout(Duration::from_secs(5), follow.next())
            .await
            .unwrap()
            .unwrap()
    }

    #[tokio::test]
    async fn an_unfinished_line_is_shown_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev.log");
        fs::write(&path, "one\npull 10%\rpull 20%").unwrap();
        assert_eq!(tail(&log(&path), 5).unwrap(), ["one", "pull 20%"]);
        assert_eq!(tail(&log(&path), 1).unwrap(), ["pull 20%"]);
        let mut follow = Follow::new(log(&path), 5).unwrap();
        let mut file = File::options().append(true).open(&path).unwrap();
        let texts = [
            ("", LogText::Line("one".into())),
            ("", LogText::Unfinished("pull 20%".into())),
            ("\rpull 90%", LogText::Unfinished("pull 90%".into())),
            ("\rpulled\n", LogText::Line("pulled".into())),
            ("[y/N] ", LogText::Unfinished("[y/N]".into())),
        ];
        for (written, text) in texts {
            file.write_all(written.as_bytes()).unwrap();
            assert_eq!(try_text(&mut follow).await, Some(text));
        }
    }

    #[test]
    fn the_whole_log_is_all_of_both_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev.log");
        let long = "x".repeat(10_000);
        let older = format!("first {long}\n").repeat(300);
        assert!(older.len() > 2 * 1024 * 1024);
        fs::write(dir.path().join("dev.log.1"), &older).unwrap();
        fs::write(&path, "\x1b[31mlast\n10%\r20%").unwrap();
        let all = whole(&log(&path)).unwrap();
        assert_eq!(all, format!("{older}last\n20%\n"));
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
    fn the_tail_includes_the_rotated_log() {
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
    async fn following_survives_a_partial_line_and_a_rotation() {
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
    async fn following_starts_at_the_last_lines_and_misses_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev.log");
        fs::write(&path, "one\ntwo\nthr").unwrap();
        let mut follow = Follow::new(log(&path), 1).unwrap();
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(next(&mut follow).await, "two");
        assert_eq!(next(&mut follow).await, "three");
    }

    #[test]
    fn the_tail_includes_only_a_rotated_log_of_the_same_row() {
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
        // Rotated while the same row continues.
        fs::rename(&path, &older).unwrap();
        fs::write(&path, written(2, "four")).unwrap();
        assert_eq!(tail(&of(&path, 2), 99).unwrap().len(), 3);
    }

    #[tokio::test]
    async fn following_starts_and_ends_with_its_own_row() {
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
