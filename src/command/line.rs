//! The command to run and its limits. Plain values; starts nothing.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A program and its arguments, passed verbatim, without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// A path, or a name that is looked up in the daemon's `PATH`.
    pub program: PathBuf,
    /// The arguments after the program's own name.
    pub args: Vec<OsString>,
    /// The `KINDLER_*` variables with the command's context.
    pub env: Vec<(String, String)>,
}

impl CommandLine {
    /// A command with these arguments and no extra variables.
    pub fn new(
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
        }
    }
}

/// One line for people. Words with unusual characters are quoted and escaped, so that an argument
/// can neither break the line nor look like two.
impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_word(f, self.program.as_os_str())?;
        for arg in &self.args {
            f.write_str(" ")?;
            write_word(f, arg)?;
        }
        Ok(())
    }
}

fn write_word(f: &mut fmt::Formatter<'_>, word: &OsStr) -> fmt::Result {
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(is_plain) => f.write_str(text),
        _ => write!(f, "{word:?}"),
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c)
}

/// How long a command may run, and how long it may take to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandLimits {
    /// From the start to the request to stop.
    pub deadline: Duration,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
}

#[cfg(test)]
mod tests {
    use super::CommandLine;

    #[test]
    fn plain_words_are_not_quoted() {
        let line = CommandLine::new("/opt/create_env.sh", ["-n", "dev", "--node-port", "30080"]);
        assert_eq!(
            line.to_string(),
            "/opt/create_env.sh -n dev --node-port 30080"
        );
    }

    #[test]
    fn a_word_with_special_characters_is_quoted() {
        let line = CommandLine::new("x", ["a b", "", "line\nbreak", "$(rm -rf /)", "\u{1b}[2J"]);
        let shown = line.to_string();
        assert_eq!(
            shown,
            r#"x "a b" "" "line\nbreak" "$(rm -rf /)" "\u{1b}[2J""#
        );
    }
}
