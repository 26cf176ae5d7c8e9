//! How a run ended, told by type. This module must not judge whether that was a success.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a signal that this program did not send to it; or its guard was killed by it.
    Signaled(i32),
    /// It was stopped because its time was up.
    DeadlineExceeded,
    /// It was stopped because the caller asked for it.
    Cancelled,
    /// It was stopped, or not even started, because the owner's trust in its lease had run out.
    TrustLost,
}

impl Ending {
    /// Whether the command ended by itself and said that all is well.
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

/// What is known of a run that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How the command ended.
    pub ending: Ending,
    /// The last lines of stdout and stderr together, cleaned for reading.
    pub tail: Vec<String>,
    /// The first bytes of stdout, verbatim, up to the runner's
    /// [`stdout_kept`](super::Runner::stdout_kept).
    pub stdout: Vec<u8>,
    /// How many bytes stdout had in all: more than `stdout` holds means that it is cut.
    pub stdout_bytes: u64,
    /// How many bytes stderr had in all.
    pub stderr_bytes: u64,
    /// From the call to the end of the last process.
    pub duration: Duration,
    /// Processes that even SIGKILL did not end (another user's, or stuck in the kernel).
    /// Nearly always empty; while it is not, the command must be taken for running.
    pub survivors: Vec<i32>,
}

/// Why a command did not run.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// There is no such file, or nothing of that name in `PATH`.
    #[error("program {} does not exist", program.display())]
    ProgramMissing {
        /// The program as it was named.
        program: PathBuf,
    },
    /// The file is there but may not, or cannot, be executed.
    #[error("program {} is not executable", program.display())]
    NotExecutable {
        /// The program as it was named.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is there, but the interpreter that its first line names is not.
    #[error("program {} names an interpreter that does not exist", program.display())]
    InterpreterMissing {
        /// The program as it was named.
        program: PathBuf,
    },
    /// The system refused for a reason of its own, such as a limit on processes.
    #[error("cannot start program {}", program.display())]
    Start {
        /// The program as it was named.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The guard could not be started, so neither was the command.
    #[error("cannot start guard {} for program {}", guard.display(), program.display())]
    Guard {
        /// The program that should have guarded.
        guard: PathBuf,
        /// The program as it was named.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The guard ended by itself without a last word; whatever it had started was killed.
    #[error("the guard of program {} ended ({status}) without a report", program.display())]
    GuardSilent {
        /// The program as it was named.
        program: PathBuf,
        /// How the guard ended.
        status: ExitStatus,
    },
}

impl SpawnError {
    /// What an errno of the start means for this program.
    pub(super) fn from_errno(program: PathBuf, errno: i32) -> Self {
        let source = io::Error::from_raw_os_error(errno);
        match rustix::io::Errno::from_raw_os_error(errno) {
            // The kernel says "no such file" of the interpreter too.
            rustix::io::Errno::NOENT if program.is_file() => Self::InterpreterMissing { program },
            rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => {
                Self::ProgramMissing { program }
            }
            rustix::io::Errno::ACCESS | rustix::io::Errno::PERM | rustix::io::Errno::NOEXEC => {
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
    fn endings_read_as_the_rest_of_a_sentence() {
        assert_eq!(Ending::Exited(3).to_string(), "exited with code 3");
        assert_eq!(
            Ending::Signaled(9).to_string(),
            "was killed by signal 9 (SIGKILL)"
        );
        assert_eq!(Ending::Signaled(50).to_string(), "was killed by signal 50");
    }
}
