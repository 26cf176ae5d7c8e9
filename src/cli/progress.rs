//! Progress on stderr: one rewritten line on a terminal, plain lines on change
//! elsewhere. It must not depend on the goal.

use std::time::Duration;

use super::screen::{Screen, to_stderr};
use super::text;

/// The last shown state; only changes are shown.
pub(super) struct ProgressLine {
    live: bool,
    width: usize,
    shown: String,
    outage: Option<String>,
}

impl ProgressLine {
    pub(super) fn new(screen: &Screen) -> Self {
        Self {
            live: screen.stderr_live,
            width: usize::from(screen.stderr_width),
            shown: String::new(),
            outage: None,
        }
    }

    /// Whether it rewrites one line, so that details may change often.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// Shows the current state.
    pub(super) fn show(
        &mut self,
        elapsed: Duration,
        state: &str,
        attempts: Option<&str>,
        log: Option<&str>,
    ) {
        let elapsed = text::span(elapsed);
        if !self.live {
            // The time of the next attempt changes every second; the state does not.
            if self.shown != state {
                state.clone_into(&mut self.shown);
                let attempts = attempts
                    .map(|attempts| format!(" ({attempts})"))
                    .unwrap_or_default();
                to_stderr(&format!("{elapsed:>6}  {state}{attempts}\n"));
            }
            return;
        }
        let parts = [Some(state), attempts, self.outage.as_deref(), log];
        let line = parts.into_iter().flatten().collect::<Vec<_>>().join(" | ");
        let line = format!("{elapsed:>6}  {line}");
        if self.shown != line {
            let fitting: String = line.chars().take(self.width.saturating_sub(1)).collect();
            to_stderr(&format!("\r\x1b[2K{fitting}"));
            self.shown = line;
        }
    }

    /// Shows a database outage, or its end.
    pub(super) fn set_outage(&mut self, outage: Option<&str>) {
        if self.outage.as_deref() == outage {
            return;
        }
        self.outage = outage.map(str::to_owned);
        match outage {
            Some(outage) => self.note(outage),
            None => self.note("the database answers again"),
        }
    }

    /// Prints a note that stays on the screen.
    pub(super) fn note(&mut self, note: &str) {
        self.clear();
        to_stderr(&format!("note: {note}\n"));
    }

    /// Prints the final message.
    pub(super) fn end(&mut self, message: &str) {
        self.clear();
        to_stderr(&format!("{message}\n"));
    }

    /// Erases the rewritten line.
    pub(super) fn clear(&mut self) {
        if self.live && !self.shown.is_empty() {
            to_stderr("\r\x1b[2K");
            self.shown.clear();
        }
    }
}
