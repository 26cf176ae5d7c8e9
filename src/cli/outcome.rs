//! The exit codes of commands.

use std::process::ExitCode;

/// An exit code; `kindler --help` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: it failed.
    Failed,
    /// 2: bad input, an unknown name, or no database.
    BadInput,
    /// 3: timed out while the work continues.
    TimedOut,
}

impl Exit {
    /// The code as a number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::BadInput => 2,
            Self::TimedOut => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
