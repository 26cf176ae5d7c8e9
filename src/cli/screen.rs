//! Output and the properties of the terminal. Writing never panics: the reader
//! may close the pipe at any time.

use std::env;
use std::error::Error;
use std::io::{self, IsTerminal, Write};

use super::error::CliError;
use super::outcome::Exit;
use crate::cause::chain;
use crate::redact::without_secrets;

/// The properties of the terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    /// Whether stdout may be coloured.
    pub colour: bool,
    /// Whether stderr may be coloured.
    pub stderr_colour: bool,
    /// Whether stderr is a terminal.
    pub stderr_tty: bool,
    /// Whether a line on stderr can be rewritten.
    pub stderr_live: bool,
    /// Columns of stdout; `None` if the output goes to a program.
    pub width: Option<u16>,
    /// Columns of stderr.
    pub stderr_width: u16,
}

impl Screen {
    pub(super) fn detect() -> Self {
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let plain = dumb || set("NO_COLOR");
        let (stdout_tty, stderr_tty) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let given = env::var("COLUMNS")
            .ok()
            .and_then(|n| n.parse().ok())
            .filter(|n| *n > 0);
        let stdout_width = given.or_else(|| stdout_tty.then(|| columns(io::stdout()))?);
        let stderr_width = given.or_else(|| stderr_tty.then(|| columns(io::stderr()))?);
        Self {
            colour: stdout_tty && !plain,
            stderr_colour: stderr_tty && !plain,
            stderr_tty,
            stderr_live: stderr_tty && !dumb,
            width: stdout_width,
            stderr_width: stderr_width.unwrap_or(80),
        }
    }
}

fn columns(terminal: impl std::os::fd::AsFd) -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}

/// Writes data to stdout; returns success.
pub(super) fn write_out(text: &str) -> Result<Exit, CliError> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(CliError::Output)?;
    Ok(Exit::Done)
}

/// Writes a value to stdout as JSON.
pub(super) fn write_json(value: &impl serde::Serialize) -> Result<Exit, CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CliError::Output(io::Error::other(error)))?;
    write_out(&(text + "\n"))
}

/// Writes to stderr, without passwords. Ignores errors: there is no other place to
/// report them.
pub(super) fn to_stderr(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(without_secrets(text).as_bytes());
    let _ = stderr.flush();
}

/// Writes a line for the user to stderr.
pub(super) fn remark(text: &str) {
    to_stderr(&format!("{text}\n"));
}

/// Prints an error to stderr: `error: …` with its causes, and `hint: …`.
pub fn print_error(error: &(dyn Error + 'static), hint: Option<&str>) {
    let mut text = format!("error: {}\n", chain(error));
    if let Some(hint) = hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    to_stderr(&text);
}
