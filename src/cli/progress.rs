//! Progress on stderr: one line that is rewritten on a terminal, plain lines
//! on change elsewhere. It must not know what is waited for.

use std::time::Duration;

use super::screen::{Screen, to_stderr};
use super::text;

/// What was shown last, so that only changes are shown again.
pub(super) struct Progress {
    live: bool,
    width: usize,
    shown: String,
    trouble: Option<String>,
}

impl Progress {
    pub(super) fn new(screen: &Screen) -> Self {
        Self {
            live: screen.stderr_tty,
            width: usize::from(screen.stderr_width),
            shown: String::new(),
            trouble: None,
        }
    }

    /// Whether one line is rewritten, so that details may change often.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// Shows where things stand.
    pub(super) fn show(
        &mut self,
        elapsed: Duration,
        state: &str,
        tries: Option<&str>,
        log: Option<&str>,
    ) {
        let elapsed = text::span(elapsed);
        if !self.live {
            // When the next try is changes every second; the state does not.
            if self.shown != state {
                state.clone_into(&mut self.shown);
                let tries = tries.map(|tries| format!(" ({tries})")).unwrap_or_default();
                to_stderr(&format!("{elapsed:>6}  {state}{tries}\n"));
            }
            return;
        }
        let parts = [Some(state), tries, self.trouble.as_deref(), log];
        let line = parts.into_iter().flatten().collect::<Vec<_>>().join(" | ");
        let line = format!("{elapsed:>6}  {line}");
        if self.shown != line {
            let fitting: String = line.chars().take(self.width.saturating_sub(1)).collect();
            to_stderr(&format!("\r\x1b[2K{fitting}"));
            self.shown = line;
        }
    }

    /// Shows what stands in the way, or that nothing does any more.
    pub(super) fn trouble(&mut self, trouble: Option<&str>) {
        if self.trouble.as_deref() == trouble {
            return;
        }
        self.trouble = trouble.map(str::to_owned);
        match trouble {
            Some(trouble) => self.note(trouble),
            None => self.note("the database answers again"),
        }
    }

    /// Says something that stays on the screen.
    pub(super) fn note(&mut self, note: &str) {
        self.clear();
        to_stderr(&format!("note: {note}\n"));
    }

    /// Says the last word.
    pub(super) fn end(&mut self, words: &str) {
        self.clear();
        to_stderr(&format!("{words}\n"));
    }

    /// Takes the rewritten line off the screen.
    pub(super) fn clear(&mut self) {
        if self.live && !self.shown.is_empty() {
            to_stderr("\r\x1b[2K");
            self.shown.clear();
        }
    }
}
