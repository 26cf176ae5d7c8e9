//! The server's log file: bounded in size, and quoted when the server fails.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::error::{FileContext, PostgresError};

/// A log larger than this, in bytes, is renamed at the next start; one old log is kept.
const FULL: u64 = 4 * 1024 * 1024;

/// How much of the end of a log is quoted.
const TAIL_BYTES: u64 = 8 * 1024;
const TAIL_LINES: usize = 12;

/// Opens the log for one start of the server. Also returns its length before this start.
pub(super) fn open(path: &Path) -> Result<(File, u64), PostgresError> {
    if fs::metadata(path).is_ok_and(|log| log.len() > FULL) {
        fs::rename(path, path.with_extension("log.1")).context("rename", path)?;
    }
    let opened = File::options().create(true).append(true).open(path);
    let file = opened.context("open", path)?;
    let start = file.metadata().context("look at", path)?.len();
    Ok((file, start))
}

/// The last lines since `start`.
pub(super) fn tail(path: &Path, start: u64) -> String {
    let mut text = Vec::new();
    let _ = File::open(path).and_then(|mut file| {
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(TAIL_BYTES))))?;
        file.take(TAIL_BYTES).read_to_end(&mut text)
    });
    last_lines(&text)
}

/// The last lines of a program's output.
pub(super) fn last_lines(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.trim().lines().collect();
    match lines.as_slice() {
        [] => "(no output)".into(),
        lines => lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_tail_is_the_last_lines_of_this_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postgres.log");
        let (mut file, start) = open(&path).unwrap();
        assert_eq!((start, tail(&path, start).as_str()), (0, "(no output)"));
        writeln!(file, "an earlier start").unwrap();
        let (mut file, start) = open(&path).unwrap();
        (0..40).for_each(|n| writeln!(file, "line {n}").unwrap());
        let tail = tail(&path, start);
        assert_eq!(tail.lines().next(), Some("line 28"));
        assert_eq!(tail.lines().last(), Some("line 39"));
    }

    #[test]
    fn a_full_log_is_renamed_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postgres.log");
        fs::write(&path, vec![b'x'; usize::try_from(FULL).unwrap() + 1]).unwrap();
        let (_, start) = open(&path).unwrap();
        assert_eq!(start, 0);
        assert!(folder.path().join("postgres.log.1").exists());
    }
}
