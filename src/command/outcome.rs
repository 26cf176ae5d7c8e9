//! How a run ended. This module does not judge whether that was a success.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

use super::files::FILE_DEADLINE;
use super::format::{NO_FORMAT, named_interpreter};
use crate::duration::compact;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a signal that Kindler did not send; the guard may have got it instead.
    Signaled(i32),
    /// It was stopped at its deadline.
    DeadlineExceeded,
    /// The caller cancelled it.
    Cancelled,
    /// It was stopped or not started, because the daemon's trust in its lease had expired.
    TrustLost,
}

impl Ending {
    /// Whether the command exited with code 0.
    pub fn is_clean(self) -> bool {
        self == Self::Exited(0)
    }
}

/// Completes the sentence "the command ...".
impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signaled(number) => match signal_name(*number) {
                Some(name) => write!(f, "was killed by signal {number} ({name})"),
                None => write!(f, "was killed by signal {number}"),
            },
            Self::DeadlineExceeded => f.write_str("was stopped at its deadline"),
            Self::Cancelled => f.write_str("was cancelled"),
            Self::TrustLost => f.write_str("was stopped because the lease was no longer trusted"),
        }
    }
}

/// The signals that end processes in practice, on Linux.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return None,
    })
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedCommand {
    /// How the command ended.
    pub ending: Ending,
    /// The last lines of stdout and stderr together, cleaned for reading.
    pub tail: Vec<String>,
    /// The first bytes of stdout, verbatim, up to the runner's
    /// [`stdout_kept`](super::Runner::stdout_kept).
    pub stdout: Vec<u8>,
    /// The total number of bytes of stdout: more than in `stdout` if that was cut.
    pub stdout_bytes: u64,
    /// The total number of bytes of stderr.
    pub stderr_bytes: u64,
    /// From the call to the end of the last process.
    pub duration: Duration,
    /// The processes that survived SIGKILL (another user's, or blocked in the kernel). Nearly always
    /// empty; if not, the command counts as running.
    pub survivors: Vec<i32>,
}

/// Why a command did not run.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// There is no such file, or nothing of that name in `PATH`.
    #[error("program {} does not exist", program.display())]
    ProgramMissing {
        /// The program as the caller named it.
        program: PathBuf,
    },
    /// The file exists but cannot be executed.
    #[error("program {} is not executable", program.display())]
    NotExecutable {
        /// The program as the caller named it.
        program: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file exists, but the interpreter in its first line does not.
    #[error("program {} names the interpreter {interpreter}, which does not exist", program.display())]
    InterpreterMissing {
        /// The program as the caller named it.
        program: PathBuf,
        /// The interpreter in its first line.
        interpreter: String,
    },
    /// The file is executable, but no script with a first line, and no program of this machine.
    #[error("program {} {NO_FORMAT}", program.display())]
    NoFormat {
        /// The program as the caller named it.
        program: PathBuf,
    },
    /// The system did not start it for another reason, such as a limit on processes.
    #[error("cannot start program {}", program.display())]
    Start {
        /// The program as the caller named it.
        program: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The guard could not be started, so the command was not started.
    #[error("cannot start guard {} for program {}", guard.display(), program.display())]
    Guard {
        /// The guard program.
        guard: PathBuf,
        /// The program as the caller named it.
        program: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The guard ended by itself without a report. The processes that it had started were killed.
    #[error("the guard of program {} ended ({status}) without a report", program.display())]
    GuardSilent {
        /// The program as the caller named it.
        program: PathBuf,
        /// How the guard ended.
        status: ExitStatus,
    },
    /// The guard could not lock the file of its owner in time, so the command was not started.
    #[error(
        "program {} was not started: the file system of the state folder did not answer within {}",
        program.display(), compact(FILE_DEADLINE)
    )]
    StateFolder {
        /// The program as the caller named it.
        program: PathBuf,
    },
}

impl SpawnError {
    /// The error for the errno of a failed start.
    pub(super) fn from_errno(program: PathBuf, errno: i32) -> Self {
        let source = io::Error::from_raw_os_error(errno);
        match rustix::io::Errno::from_raw_os_error(errno) {
            // The kernel also returns "no such file" for a missing interpreter.
            rustix::io::Errno::NOENT if program.is_file() => Self::InterpreterMissing {
                interpreter: named_interpreter(&program),
                program,
            },
            rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => {
                Self::ProgramMissing { program }
            }
            rustix::io::Errno::NOEXEC => Self::NoFormat { program },
            rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => {
                Self::NotExecutable { program, source }
            }
            _ => Self::Start { program, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Ending;

    #[test]
    fn endings_complete_a_sentence() {
        assert_eq!(Ending::Exited(3).to_string(), "exited with code 3");
        assert_eq!(
            Ending::Signaled(9).to_string(),
            "was killed by signal 9 (SIGKILL)"
        );
        assert_eq!(Ending::Signaled(50).to_string(), "was killed by signal 50");
    }
}
