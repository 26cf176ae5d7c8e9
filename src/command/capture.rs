//! Reads a command's output, keeps a part of it, and writes all of it to the log.
//!
//! Redacts what looks like a secret. Memory is bounded: one buffer per stream, the last lines, the
//! first bytes of stdout. This module does not interpret the output.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, sleep_until};

use super::log::CommandLog;
use crate::redact::{KnownSecrets, Redactor};

/// The number of last lines that are kept.
pub const TAIL_LINES: usize = 20;
/// The length at which a kept line is cut, in characters.
pub const TAIL_LINE_CHARS: usize = 500;
/// The default of [`Runner::stdout_kept`](super::Runner::stdout_kept), in bytes.
pub const STDOUT_KEPT: usize = 64 * 1024;

const READ_BYTES: usize = 64 * 1024;
/// How often a line that is not finished is written to the log again, if it has changed.
const SHOW_EVERY: Duration = Duration::from_millis(500);
/// A last word of this length may be the start of a secret, and is hidden until its end is known.
const SECRET_START: usize = 16;
/// A longer line is logged in pieces.
const LONGEST_LINE: usize = 16 * 1024;

/// The part of the output that is kept.
#[derive(Debug, Default)]
pub(super) struct KeptOutput {
    pub(super) tail: OutputTail,
    pub(super) stdout: Vec<u8>,
    pub(super) stdout_bytes: u64,
    pub(super) stderr_bytes: u64,
}

/// Reads both streams into the kept output and the log.
pub(super) struct OutputCapture<'a> {
    pub(super) kept: KeptOutput,
    stdout_kept: usize,
    out: OutputStream,
    err: OutputStream,
    log: Option<&'a mut CommandLog>,
    /// The stream whose unfinished line is at the end of the log.
    shown: Option<StreamKind>,
}

impl<'a> OutputCapture<'a> {
    pub(super) fn new(
        log: Option<&'a mut CommandLog>,
        stdout_kept: usize,
        secrets: &KnownSecrets,
    ) -> Self {
        let (out, err) = (OutputStream::new(secrets), OutputStream::new(secrets));
        Self {
            kept: KeptOutput::default(),
            stdout_kept,
            out,
            err,
            log,
            shown: None,
        }
    }

    /// Reads both streams until both have ended. Cancel-safe: a drop loses nothing that was read.
    /// A read error ends a stream.
    pub(super) async fn drain(
        &mut self,
        mut stdout: impl AsyncRead + Unpin,
        mut stderr: impl AsyncRead + Unpin,
    ) {
        let (mut out_buffer, mut err_buffer) = (vec![0; READ_BYTES], vec![0; READ_BYTES]);
        let (mut out_open, mut err_open) = (true, true);
        let mut show_at = Instant::now() + SHOW_EVERY;
        while out_open || err_open {
            // What stdout has is read before stderr: an error that was written after a long output
            // is recorded after it.
            tokio::select! {
                biased;
                () = sleep_until(show_at), if self.out.is_unshown() || self.err.is_unshown() => {
                    self.show_unfinished().await;
                    show_at = Instant::now() + SHOW_EVERY;
                }
                read = stdout.read(&mut out_buffer), if out_open => {
                    let bytes = &out_buffer[..read.unwrap_or(0)];
                    out_open = !bytes.is_empty();
                    self.take_stdout(bytes).await;
                }
                read = stderr.read(&mut err_buffer), if err_open => {
                    let bytes = &err_buffer[..read.unwrap_or(0)];
                    err_open = !bytes.is_empty();
                    self.take_stderr(bytes).await;
                }
            }
        }
    }

    /// Records the last lines, which had no line end, and returns the kept output.
    pub(super) async fn finish(mut self) -> KeptOutput {
        let (out, err) = (self.out.end(), self.err.end());
        self.record(StreamKind::Out, out).await;
        self.record(StreamKind::Err, err).await;
        self.kept
    }

    async fn take_stdout(&mut self, bytes: &[u8]) {
        let room = self.stdout_kept - self.kept.stdout.len();
        self.kept
            .stdout
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.kept.stdout_bytes += bytes.len() as u64;
        let lines = self.out.take(bytes);
        self.record(StreamKind::Out, lines).await;
    }

    async fn take_stderr(&mut self, bytes: &[u8]) {
        self.kept.stderr_bytes += bytes.len() as u64;
        let lines = self.err.take(bytes);
        self.record(StreamKind::Err, lines).await;
    }

    async fn record(&mut self, from: StreamKind, lines: Vec<u8>) {
        if lines.is_empty() {
            return;
        }
        // Before the await, where the future may be dropped.
        self.kept.tail.push(&lines);
        let before = self.separator(from);
        self.shown = None;
        if let Some(log) = &mut self.log {
            match before {
                "" => log.append(&lines).await,
                before => log.append(&[before.as_bytes(), &lines].concat()).await,
            }
        }
    }

    /// What is written before text of this stream: the whole line follows, so it overwrites its
    /// unfinished text, and ends that of the other stream.
    fn separator(&mut self, from: StreamKind) -> &'static str {
        match self.shown {
            None => "",
            Some(shown) if shown == from => "\r",
            Some(StreamKind::Out) => {
                self.out.shown.clear();
                "\n"
            }
            Some(StreamKind::Err) => {
                self.err.shown.clear();
                "\n"
            }
        }
    }

    /// Writes the unfinished lines to the log, as a progress bar does: the next text of the
    /// stream overwrites them.
    async fn show_unfinished(&mut self) {
        for from in [StreamKind::Out, StreamKind::Err] {
            let stream = match from {
                StreamKind::Out => &mut self.out,
                StreamKind::Err => &mut self.err,
            };
            let Some(text) = stream.unshown() else {
                continue;
            };
            let before = self.separator(from);
            self.shown = Some(from);
            if let Some(log) = &mut self.log {
                log.append(&[before.as_bytes(), &text].concat()).await;
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamKind {
    Out,
    Err,
}

/// Splits one stream into whole lines and redacts them.
struct OutputStream {
    partial: PartialLine,
    redactor: Redactor,
    /// The unfinished line as it is at the end of the log; empty if it is not.
    shown: Vec<u8>,
    /// It has changed since.
    changed: bool,
}

impl OutputStream {
    fn new(secrets: &KnownSecrets) -> Self {
        Self {
            partial: PartialLine::default(),
            redactor: Redactor::new(secrets.clone()),
            shown: Vec::new(),
            changed: false,
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let lines = self.partial.complete(bytes);
        if !lines.is_empty() {
            self.shown.clear();
        }
        self.changed = !self.partial.line.is_empty();
        self.redactor.lines(lines)
    }

    fn is_unshown(&self) -> bool {
        self.changed
    }

    /// The text of the unfinished line, if the log does not end with it.
    fn unshown(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut line = self.partial.line.clone();
        hide_secret_start(&mut line);
        line.push(b'\n');
        // Its state is that before this line.
        let line = self.redactor.clone().lines(line);
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        // What a progress bar has overwritten is not written again.
        let mut parts = text.rsplit(|byte| *byte == b'\r');
        let text = parts.find(|part| !part.trim_ascii().is_empty())?;
        if text == self.shown {
            return None;
        }
        self.shown = text.to_vec();
        Some(text.to_vec())
    }

    fn end(&mut self) -> Vec<u8> {
        let rest = self.partial.rest();
        self.redactor.lines(rest)
    }
}

/// Hides the last word of an unfinished line if it is long: a secret is recognised when it is whole.
fn hide_secret_start(line: &mut Vec<u8>) {
    let word = line.iter().rposition(|byte| !byte.is_ascii_graphic());
    let start = word.map_or(0, |before| before + 1);
    if line.len() - start >= SECRET_START {
        line.truncate(start);
        line.extend_from_slice("…".as_bytes());
    }
}

/// The start of a line whose end was not read yet. Two streams share one log, so a line of one
/// does not continue text of the other.
#[derive(Debug, Default)]
struct PartialLine {
    line: Vec<u8>,
}

impl PartialLine {
    /// Returns all lines that `bytes` completes.
    fn complete(&mut self, bytes: &[u8]) -> Vec<u8> {
        // Only the new bytes are searched: the earlier ones have no line end.
        let earlier = self.line.len();
        self.line.extend_from_slice(bytes);
        let whole = match last_line_end(bytes) {
            Some(last) => earlier + last + 1,
            None if self.line.len() > LONGEST_LINE => self.line.len(),
            None => 0,
        };
        let rest = self.line.split_off(whole);
        std::mem::replace(&mut self.line, rest)
    }

    fn rest(&mut self) -> Vec<u8> {
        let mut line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            line.push(b'\n');
        }
        line
    }
}

/// The last lines that are not empty.
#[derive(Debug, Default)]
pub(super) struct OutputTail {
    lines: VecDeque<String>,
}

impl OutputTail {
    /// Adds a block of lines. Reads only its end, so the size of the block does not matter.
    fn push(&mut self, block: &[u8]) {
        let mut last = Vec::with_capacity(TAIL_LINES);
        let mut rest = Some(block);
        while let Some(lines) = rest.filter(|_| last.len() < TAIL_LINES) {
            let end = last_line_end(lines);
            let line = &lines[end.map_or(0, |end| end + 1)..];
            last.push(clean_line(&line[..line.len().min(LONGEST_LINE)]));
            last.pop_if(|line| line.is_empty());
            rest = end.map(|end| &lines[..end]);
        }
        self.lines.extend(last.into_iter().rev());
        self.lines
            .drain(..self.lines.len().saturating_sub(TAIL_LINES));
    }

    /// The kept lines, oldest first.
    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

fn last_line_end(bytes: &[u8]) -> Option<usize> {
    // For long output without line ends: `contains` is many times faster than the search from the
    // end.
    bytes
        .contains(&b'\n')
        .then(|| bytes.iter().rposition(|byte| *byte == b'\n'))
        .flatten()
}

/// Makes a line safe to show: bounded in length, without colours, cursor movements, other control
/// characters, and text that a progress bar overwrote.
pub fn clean_line(line: &[u8]) -> String {
    clean_up_to(TAIL_LINE_CHARS, line)
}

/// The same, up to `room` characters.
pub(super) fn clean_up_to(mut room: usize, line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let shown = text
        .rsplit('\r')
        .find(|part| !part.trim().is_empty())
        .unwrap_or_default();
    let mut clean = String::new();
    let mut chars = shown.chars().peekable();
    while let Some(c) = chars.next() {
        if room == 0 {
            break;
        }
        match c {
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                // A control sequence goes on up to its final character, ECMA-48 5.4.
                for c in chars.by_ref() {
                    if ('@'..='~').contains(&c) {
                        break;
                    }
                }
            }
            '\t' => {
                clean.push(' ');
                room -= 1;
            }
            c if c.is_control() => {}
            c => {
                clean.push(c);
                room -= 1;
            }
        }
    }
    clean.truncate(clean.trim_end().len());
    clean
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::{
        KnownSecrets, LONGEST_LINE, OutputCapture, OutputTail, PartialLine, STDOUT_KEPT,
        TAIL_LINE_CHARS, TAIL_LINES, clean_line,
    };

    #[test]
    fn the_last_lines_are_kept_in_order() {
        let mut tail = OutputTail::default();
        for block in 0..10 {
            let lines: Vec<String> = (0..7).map(|n| format!("{}\n\n", block * 7 + n)).collect();
            tail.push(lines.concat().as_bytes());
        }
        let expected: Vec<String> = (70 - TAIL_LINES..70).map(|n| n.to_string()).collect();
        assert_eq!(tail.into_lines(), expected);
    }

    #[test]
    fn control_characters_and_old_progress_are_removed() {
        assert_eq!(
            clean_line(b"\x1b[1;31m[ERROR]\x1b[0m port\ttaken\x07"),
            "[ERROR] port taken"
        );
        assert_eq!(clean_line(b" 10%\r 50%\r100% done\r"), "100% done");
        assert_eq!(clean_line(b"caf\xe9"), "caf\u{fffd}");
        assert_eq!(clean_line("\u{9b}31m".as_bytes()), "31m");
        assert_eq!(clean_line(&[b'x'; 2000]).chars().count(), TAIL_LINE_CHARS);
    }

    #[test]
    fn a_long_line_is_logged_in_pieces() {
        let mut partial = PartialLine::default();
        let mut logged = 0;
        for _ in 0..100 {
            logged += partial.complete(&[b'x'; 1000]).len();
            assert!(partial.line.len() <= LONGEST_LINE);
        }
        assert_eq!(logged + partial.line.len(), 100_000);
    }

    #[tokio::test]
    async fn stdout_is_kept_up_to_its_limit_and_counted_beyond() {
        let mut capture = OutputCapture::new(None, STDOUT_KEPT, &KnownSecrets::default());
        let out = vec![b'a'; STDOUT_KEPT * 2 + 1];
        capture.drain(out.as_slice(), b"oops".as_slice()).await;
        let kept = capture.finish().await;
        assert_eq!(kept.stdout.len(), STDOUT_KEPT);
        assert_eq!(kept.stdout_bytes, out.len() as u64);
        assert_eq!(kept.stderr_bytes, 4);
        assert!(kept.tail.into_lines().contains(&"oops".to_owned()));
    }

    #[tokio::test]
    async fn an_error_after_a_long_output_is_the_last_line() {
        let mut capture = OutputCapture::new(None, STDOUT_KEPT, &KnownSecrets::default());
        // Both wait in their pipes, as when the command has written all before it is read.
        let out = b"progress\n".repeat(100_000);
        capture.drain(out.as_slice(), b"oops\n".as_slice()).await;
        let tail = capture.finish().await.tail.into_lines();
        assert_eq!(tail.last().map(String::as_str), Some("oops"));
    }

    proptest! {
        #[test]
        fn a_clean_line_is_bounded_text(line: Vec<u8>) {
            let clean = clean_line(&line);
            prop_assert!(clean.chars().count() <= TAIL_LINE_CHARS);
            prop_assert!(!clean.chars().any(char::is_control));
        }

        #[test]
        fn splitting_into_lines_loses_no_byte(chunks: Vec<Vec<u8>>) {
            let mut partial = PartialLine::default();
            let mut joined = Vec::new();
            for chunk in &chunks {
                joined.extend(partial.complete(chunk));
            }
            joined.extend(&partial.line);
            prop_assert_eq!(joined, chunks.concat());
        }
    }
}
