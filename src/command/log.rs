//! Writes one log file per name, with the output of its row's commands. The first command of another
//! row of the name rotates the file.
//!
//! An error here never fails a command, and the size is bounded. `follow` reads logs, and
//! `log_owner` decides which row owns one. This module does not interpret the output.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{Timestamp, Unit};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::files::FILE_DEADLINE;
use super::log_error::LogError;
use super::log_owner::{HEADING_BYTES, Heading, LogFile, LogOwner, uid_in};
use crate::cause::chain;

/// The size at which a log is rotated to `NAME.log.1`, in bytes.
pub const LOG_BYTES: u64 = 4 * 1024 * 1024;

/// How long a log is not written after the file system did not answer.
const AFTER_LATE: Duration = Duration::from_secs(30);

/// The folder that holds the logs of all clusters.
#[derive(Debug, Clone)]
pub struct LogDir {
    dir: PathBuf,
    limit: u64,
}

impl LogDir {
    /// Logs in this folder, which is created with the first log.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            limit: LOG_BYTES,
        }
    }

    /// The same folder with another maximum size of a log, in bytes.
    pub fn with_limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// The path of the log of this name. Always a file in this folder.
    pub fn path(&self, name: &str) -> PathBuf {
        let mut file = String::with_capacity(name.len() + 4);
        for byte in name.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                    file.push(char::from(byte))
                }
                other => file.push_str(&format!("%{other:02X}")),
            }
        }
        file.push_str(".log");
        self.dir.join(file)
    }

    /// The log of this name as the owner may read it.
    pub fn of(&self, name: &str, owner: LogOwner) -> LogFile {
        LogFile::new(self.path(name), owner)
    }

    /// The log of this row for one attempt. Opens nothing yet.
    pub fn log(&self, name: &str, uid: Uuid, heading: Heading) -> CommandLog {
        CommandLog {
            path: self.path(name),
            limit: self.limit,
            uid,
            heading,
            open: None,
            was_opened: false,
            failed_writes: 0,
            not_before: None,
        }
    }
}

/// The path of the rotated log.
pub(super) fn rotated_path(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// The log of one attempt. Counts failed writes (a full disk) and reports the first; the command
/// continues, and every later write tries again.
#[derive(Debug)]
pub struct CommandLog {
    path: PathBuf,
    limit: u64,
    uid: Uuid,
    heading: Heading,
    open: Option<OpenLog>,
    /// Whether it was open before. If so, another row's log is a later one.
    was_opened: bool,
    failed_writes: u64,
    /// Until when nothing is written, because the file system did not answer.
    not_before: Option<Instant>,
}

/// The blocks that are missing from the logs of this process, and why, until the log says it.
static MISSING: Mutex<BTreeMap<PathBuf, (u64, String)>> = Mutex::new(BTreeMap::new());

fn missing() -> MutexGuard<'static, BTreeMap<PathBuf, (u64, String)>> {
    MISSING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct OpenLog {
    file: File,
    size: u64,
    /// Whether its last line has no end: that of a command whose daemon was killed.
    is_unfinished: bool,
    /// The row in the first line.
    uid: Option<Uuid>,
}

impl CommandLog {
    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many blocks of output could not be written.
    pub fn failed_writes(&self) -> u64 {
        self.failed_writes
    }

    /// Writes the heading of the attempt; `what` is usually a command line:
    /// `--- 2026-11-20T23:00:00Z create attempt 3 ... uid ...: /path/create_env.sh ...`.
    pub async fn begin(&mut self, what: &(impl fmt::Display + Sync)) {
        let text = self.heading_line(what);
        self.write(text.as_bytes(), true).await;
    }

    fn heading_line(&self, what: &impl fmt::Display) -> String {
        self.heading.line(now(), self.uid, what)
    }

    /// Writes the last line of the attempt: `--- 2026-11-20T23:00:09Z create exited with code 0 after 9.031s`.
    pub(super) async fn end(&mut self, ending: &(impl fmt::Display + Sync), duration: Duration) {
        let operation = &self.heading.operation;
        let secs = duration.as_secs_f64();
        let text = format!("--- {} {operation} {ending} after {secs:.3}s\n", now());
        self.append(text.as_bytes()).await;
    }

    /// Writes a block of whole lines. Public for drivers that run no command.
    pub async fn append(&mut self, block: &[u8]) {
        self.write(block, false).await;
    }

    async fn write(&mut self, block: &[u8], is_heading: bool) {
        let written = match self.not_before {
            Some(then) if Instant::now() < then => Err(LogError::Late {
                path: self.path.clone(),
            }),
            _ => {
                let written = timeout(FILE_DEADLINE, self.try_write(block, is_heading)).await;
                written.unwrap_or_else(|_| {
                    // Each attempt may keep a thread, so there are few.
                    self.not_before = Some(Instant::now() + AFTER_LATE);
                    Err(LogError::Late {
                        path: self.path.clone(),
                    })
                })
            }
        };
        if let Err(error) = written {
            self.failed_writes += 1;
            // The log of another row does not say it.
            if !matches!(error, LogError::Taken { .. }) {
                let mut missing = missing();
                let (blocks, why) = missing.entry(self.path.clone()).or_default();
                (*blocks, *why) = (*blocks + 1, chain(&error));
            }
            if self.failed_writes == 1 {
                tracing::warn!(
                    path = %self.path.display(),
                    error = &error as &dyn std::error::Error,
                    "output is missing from the log of a command"
                );
            }
        }
    }

    async fn try_write(&mut self, block: &[u8], is_heading: bool) -> Result<(), LogError> {
        // Taken, so that the next block opens the log again after a failed or cancelled write.
        let mut log = match self.open.take() {
            Some(log) => log,
            None => self.open_own().await?,
        };
        // Rotating an empty log would not make room for the block.
        if log.size > 0 && log.size.saturating_add(block.len() as u64) > self.limit {
            rotate(&self.path).await?;
            log = open(&self.path).await?;
        }
        let lost = missing().get(&self.path).cloned();
        let note = lost.map(|(blocks, why)| {
            // On a line of its own: a block may have been written in part.
            let before = if log.size > 0 { "\n" } else { "" };
            format!(
                "{before}--- {} {blocks} blocks of output are missing here: {why}\n",
                now()
            )
        });
        let note = note.as_deref().unwrap_or_default();
        let block = match (log.size, is_heading) {
            // Every file starts with a heading, which names its owner.
            (0, false) => [
                self.heading_line(&"continued").as_bytes(),
                note.as_bytes(),
                block,
            ]
            .concat(),
            (0, true) => [block, note.as_bytes()].concat(),
            (_, true) if log.is_unfinished => [b"\n", note.as_bytes(), block].concat(),
            (_, _) => [note.as_bytes(), block].concat(),
        };
        let written = async {
            log.file.write_all(&block).await?;
            // Without it, this write's error would appear at the next write, or never.
            log.file.flush().await
        };
        written.await.map_err(|source| LogError::Write {
            path: self.path.clone(),
            source,
        })?;
        if !note.is_empty() {
            missing().remove(&self.path);
        }
        log.size += block.len() as u64;
        log.is_unfinished = false;
        self.open = Some(log);
        Ok(())
    }

    /// Opens the log of this row. Rotates that of an earlier row first.
    async fn open_own(&mut self) -> Result<OpenLog, LogError> {
        let log = open(&self.path).await?;
        let was_opened = std::mem::replace(&mut self.was_opened, true);
        if log.size == 0 || log.uid == Some(self.uid) {
            return Ok(log);
        }
        if was_opened {
            let path = self.path.clone();
            return Err(LogError::Taken { path });
        }
        rotate(&self.path).await?;
        open(&self.path).await
    }
}

/// Rotates a log; replaces the earlier rotated one.
async fn rotate(path: &Path) -> Result<(), LogError> {
    let renamed = fs::rename(path, rotated_path(path)).await;
    renamed.map_err(|source| LogError::Rotate {
        path: path.to_owned(),
        source,
    })
}

async fn open(path: &Path) -> Result<OpenLog, LogError> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)
            .await
            .map_err(|source| LogError::CreateDir {
                path: dir.to_owned(),
                source,
            })?;
    }
    let opened = async {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o640)
            .open(path)
            .await?;
        let size = file.metadata().await?.len();
        let mut first = Vec::new();
        if size > 0 {
            let mut heading = (&mut file).take(HEADING_BYTES);
            heading.read_to_end(&mut first).await?;
        }
        let mut last = [b'\n'];
        if size > 0 {
            file.seek(SeekFrom::End(-1)).await?;
            file.read_exact(&mut last).await?;
        }
        let (uid, is_unfinished) = (uid_in(&first), last != [b'\n']);
        io::Result::Ok(OpenLog {
            file,
            size,
            is_unfinished,
            uid,
        })
    };
    opened.await.map_err(|source| LogError::Open {
        path: path.to_owned(),
        source,
    })
}

/// Now in UTC, rounded to the second.
fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use uuid::Uuid;

    use super::super::line::CommandLine;
    use super::super::log_owner::LogOwner;
    use super::super::outcome::Ending;
    use super::{Heading, LogDir};

    const UID: Uuid = Uuid::from_u128(1);

    fn heading() -> Heading {
        Heading {
            operation: "create".to_owned(),
            attempt: 3,
            generation: 2,
            term: 17,
        }
    }

    #[test]
    fn the_path_of_any_name_is_in_the_folder() {
        let dir = LogDir::new("/logs");
        assert_eq!(dir.path("dev-1"), Path::new("/logs/dev-1.log"));
        for name in [
            "../../etc/passwd",
            "..",
            ".",
            "",
            "/etc/passwd",
            "a\0b",
            "ä",
        ] {
            assert_eq!(
                dir.path(name).parent(),
                Some(Path::new("/logs")),
                "{name:?}"
            );
        }
        assert_ne!(dir.path("a/b"), dir.path("a%2Fb"));
    }

    #[tokio::test]
    async fn an_attempt_has_a_first_and_a_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogDir::new(dir.path().join("new")).log("dev", UID, heading());
        log.begin(&CommandLine::new("/create_env.sh", ["-n", "dev"]))
            .await;
        log.append(b"[CREATE] hello\n").await;
        log.end(&Ending::Exited(0), std::time::Duration::from_millis(9031))
            .await;
        let text = fs::read_to_string(log.path()).unwrap();
        let lines: Vec<&str> = text.lines().map(|l| l.get(24..).unwrap_or(l)).collect();
        assert_eq!(
            lines[0],
            format!(" create attempt 3 generation 2 term 17 uid {UID}: /create_env.sh -n dev")
        );
        assert_eq!(text.lines().nth(1), Some("[CREATE] hello"));
        assert_eq!(lines[2], " create exited with code 0 after 9.031s");
        assert!(text.lines().next().unwrap()[..24].ends_with('Z'), "{text}");
        let mode = fs::metadata(log.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
    }

    #[tokio::test]
    async fn a_full_log_is_rotated_and_both_stay_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogDir::new(dir.path())
            .with_limit(1000)
            .log("dev", UID, heading());
        for n in 0..500 {
            log.append(format!("line {n}\n").as_bytes()).await;
        }
        let now = fs::read_to_string(log.path()).unwrap();
        let rotated = fs::read_to_string(super::rotated_path(log.path())).unwrap();
        assert!(
            now.len() <= 1000 && rotated.len() <= 1000,
            "{} {}",
            now.len(),
            rotated.len()
        );
        assert!(now.ends_with("line 498\nline 499\n"), "{now}");
        for text in [rotated, now] {
            let first = text.lines().next().unwrap();
            assert!(
                first.ends_with(&format!(" uid {UID}: continued")),
                "{first}"
            );
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!(log.failed_writes(), 0);
    }

    #[tokio::test]
    async fn failed_writes_are_counted_and_writing_recovers() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("logs");
        fs::write(&blocked, "a file where the folder should be").unwrap();
        let mut log = LogDir::new(&blocked).log("dev", UID, heading());
        log.append(b"lost\n").await;
        log.append(b"lost\n").await;
        assert_eq!(log.failed_writes(), 2);
        fs::remove_file(&blocked).unwrap();
        log.append(b"kept\n").await;
        let text = fs::read_to_string(log.path()).unwrap();
        assert!(text.ends_with("\nkept\n"), "{text}");
        assert!(
            text.contains(" 2 blocks of output are missing here: "),
            "{text}"
        );
    }

    #[tokio::test]
    async fn the_first_command_of_another_row_rotates_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let logs = LogDir::new(dir.path());
        let mut first = logs.log("dev", UID, heading());
        first.begin(&"one").await;
        let mut again = logs.log("dev", UID, heading());
        again.begin(&"two").await;
        let later = Uuid::from_u128(2);
        let mut second = logs.log("dev", later, heading());
        second.begin(&"three").await;
        // A running command keeps writing to the rotated log.
        again.append(b"late\n").await;
        let of = |uid| logs.of("dev", LogOwner::row(uid, None));
        assert!(of(later).exists() && !of(UID).exists());
        let older = fs::read_to_string(super::rotated_path(second.path())).unwrap();
        assert_eq!(older.lines().count(), 3, "{older}");
        assert!(older.ends_with("late\n"), "{older}");
        // If it has to open the log again, it does not write to that of the later row.
        again.open = None;
        again.append(b"lost\n").await;
        assert_eq!(again.failed_writes(), 1);
        assert!(of(later).exists());
    }

    #[tokio::test]
    async fn a_write_to_a_full_disk_is_counted() {
        let mut log = LogDir::new("/dev").log("full", UID, heading());
        log.path = "/dev/full".into();
        log.append(b"no room\n").await;
        assert_eq!(log.failed_writes(), 1);
    }
}
