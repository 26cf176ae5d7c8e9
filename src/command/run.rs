//! The daemon's side of one run: when a command must stop, and what is known once it has.
//! This module must not signal processes (the guard does) nor judge the outcome.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::capture::{Capture, Kept, STDOUT_KEPT};
use super::environment;
use super::guard_process::GuardProcess;
use super::lifeline::{Order, Report};
use super::line::{CommandLine, Limits};
use super::log::CommandLog;
use super::outcome::{Ending, Finished, SpawnError};
use crate::core::trust::{MonotonicDeadline, Trust};
use crate::redact::KnownSecrets;

/// How long after the end of the grace a guard may take to report before it counts as deaf.
const DEAF_AFTER: Duration = Duration::from_secs(3);
/// How long output is read on after the end. What is in the pipes comes at once; this is for a
/// process out of reach that keeps them open.
const LAST_OUTPUT: Duration = Duration::from_millis(200);

/// Starts commands, each under a guard of its own.
#[derive(Debug, Clone)]
pub struct Runner {
    /// The binary that is called with `guard` as its first argument.
    pub guard_program: PathBuf,
    /// Names of further variables that commands inherit; a final `*` stands for any ending.
    pub pass_env: Vec<String>,
    /// How much of the start of stdout is kept, in bytes. Memory is taken only as it comes.
    pub stdout_kept: usize,
    /// What is hidden wherever a command prints it, besides the values of the variables that
    /// [`pass_env`](Self::pass_env) names and whose names speak of a secret.
    pub secrets: KnownSecrets,
}

impl Default for Runner {
    /// Guards are this very binary, also after an upgrade has replaced its file.
    fn default() -> Self {
        Self {
            guard_program: PathBuf::from("/proc/self/exe"),
            pass_env: Vec::new(),
            stdout_kept: STDOUT_KEPT,
            secrets: KnownSecrets::default(),
        }
    }
}

impl Runner {
    /// Runs one command to its end, and everything it started with it.
    ///
    /// The command is stopped politely (SIGTERM, SIGKILL after the grace) at its deadline and on
    /// `cancel`, and at once when `trust` runs out; it is not started when either has happened
    /// already. A command that ended just before it was stopped has ended by itself.
    ///
    /// Takes at most the deadline, the grace and a few seconds. Dropping the future ends the tree
    /// within two seconds. A trouble with the log never fails the command.
    pub async fn run(
        &self,
        line: &CommandLine,
        limits: &Limits,
        trust: Trust,
        cancel: &CancellationToken,
        mut log: Option<&mut CommandLog>,
    ) -> Result<Finished, SpawnError> {
        let started = Instant::now();
        if let Some(log) = log.as_deref_mut() {
            log.begin(line).await;
        }
        let result = self
            .run_guarded(line, limits, trust, cancel, log.as_deref_mut())
            .await;
        let duration = started.elapsed();
        if let Some(log) = log {
            match &result {
                Ok((verdict, _)) => log.end(&verdict.ending, duration).await,
                Err(error) => log.end(error, duration).await,
            }
        }
        let (verdict, kept) = result?;
        Ok(Finished {
            ending: verdict.ending,
            tail: kept.tail.into_lines(),
            stdout: kept.stdout,
            stdout_bytes: kept.stdout_bytes,
            stderr_bytes: kept.stderr_bytes,
            duration,
            survivors: verdict.survivors,
        })
    }

    fn known_secrets(&self) -> KnownSecrets {
        let passed = environment::passed(std::env::vars_os(), &self.pass_env);
        let bytes = |text: OsString| text.into_vec();
        self.secrets.and_variables(
            passed
                .into_iter()
                .map(|(name, value)| (bytes(name), bytes(value))),
        )
    }

    async fn run_guarded(
        &self,
        line: &CommandLine,
        limits: &Limits,
        trust: Trust,
        cancel: &CancellationToken,
        log: Option<&mut CommandLog>,
    ) -> Result<(Verdict, Kept), SpawnError> {
        let until = *trust.borrow();
        if let Some(ending) = refusal(until, cancel) {
            return Ok((Verdict::of(ending), Kept::default()));
        }
        let guard = GuardProcess::start(
            &self.guard_program,
            &self.pass_env,
            line,
            limits.grace,
            until,
        );
        let mut guard = guard.map_err(|source| SpawnError::Guard {
            guard: self.guard_program.clone(),
            program: line.program.clone(),
            source,
        })?;
        let mut capture = Capture::new(log, self.stdout_kept, &self.known_secrets());
        let output = guard.take_output();
        let verdict = {
            let drain = async {
                if let Some((stdout, stderr)) = output {
                    capture.drain(stdout, stderr).await;
                }
            };
            let mut run = Run {
                line,
                limits,
                guard,
                stop: None,
            };
            let watch = run.until_gone(trust, cancel);
            tokio::pin!(drain, watch);
            tokio::select! {
                verdict = &mut watch => {
                    let _held_open = timeout(LAST_OUTPUT, drain).await;
                    verdict
                }
                () = &mut drain => watch.await,
            }
        }?;
        Ok((verdict, capture.finish().await))
    }
}

/// Why a command is not even started.
fn refusal(trust: MonotonicDeadline, cancel: &CancellationToken) -> Option<Ending> {
    if trust.passed() {
        Some(Ending::TrustLost)
    } else if cancel.is_cancelled() {
        Some(Ending::Cancelled)
    } else {
        None
    }
}

struct Verdict {
    ending: Ending,
    survivors: Vec<i32>,
}

impl Verdict {
    fn of(ending: Ending) -> Self {
        Self {
            ending,
            survivors: Vec::new(),
        }
    }
}

/// The guard was told to stop.
#[derive(Clone, Copy)]
struct Stop {
    ending: Ending,
    /// When a guard that has not reported by then is deaf.
    deaf_at: Instant,
}

/// One run under way.
struct Run<'a> {
    line: &'a CommandLine,
    limits: &'a Limits,
    guard: GuardProcess,
    stop: Option<Stop>,
}

impl Run<'_> {
    async fn until_gone(
        &mut self,
        trust: Trust,
        cancel: &CancellationToken,
    ) -> Result<Verdict, SpawnError> {
        match self.last_word(trust, cancel).await {
            LastWord::Said(report) => {
                let _status = self.guard.ended().await;
                self.judge(report)
            }
            LastWord::GuardGone => self.judge_without_report().await,
            LastWord::GuardDeaf(stop) => {
                tracing::warn!(program = %self.line.program.display(), "guard does not answer");
                Ok(Verdict {
                    ending: stop.ending,
                    survivors: self.guard.hunt().await,
                })
            }
        }
    }

    /// Listens until the guard has said its last word, and tells it meanwhile what it must know.
    async fn last_word(&mut self, mut trust: Trust, cancel: &CancellationToken) -> LastWord {
        let deadline = Instant::now() + self.limits.deadline;
        let mut owner_lives = true;
        loop {
            // Not marked as seen: a renewal of this moment must still reach the guard below.
            let until = *trust.borrow();
            // Every arm may be dropped when another wins, and none waits in its body.
            tokio::select! {
                report = self.guard.report() => match report {
                    Some(Report::Started(_)) => {}
                    Some(last) => return LastWord::Said(last),
                    None => return LastWord::GuardGone,
                },
                changed = trust.changed(), if owner_lives => {
                    owner_lives = changed.is_ok();
                    self.guard.tell(Order::Trust(*trust.borrow()));
                }
                () = cancel.cancelled(), if self.stop.is_none() => {
                    self.stop(Ending::Cancelled, self.limits.grace);
                }
                () = sleep_until(deadline), if self.stop.is_none() => {
                    self.stop(Ending::DeadlineExceeded, self.limits.grace);
                }
                // The guard sees this by itself; this is for one that is deaf.
                () = expiry(until), if self.stop.is_none() => {
                    self.stop(Ending::TrustLost, Duration::ZERO);
                }
                stop = deafness(self.stop) => return LastWord::GuardDeaf(stop),
            }
        }
    }

    fn stop(&mut self, ending: Ending, grace: Duration) {
        self.guard.tell(Order::Stop(grace));
        self.stop = Some(Stop {
            ending,
            deaf_at: Instant::now() + grace + DEAF_AFTER,
        });
    }

    fn judge(&self, report: Report) -> Result<Verdict, SpawnError> {
        let ending = match report {
            Report::Failed(errno) => {
                return Err(SpawnError::from_errno(self.line.program.clone(), errno));
            }
            Report::Exited(code) => Ending::Exited(code),
            Report::Signaled(signal) => Ending::Signaled(signal),
            Report::Untrusted => Ending::TrustLost,
            // `Started` is never a last word; both ways someone else ended the command.
            Report::Stopped | Report::Started(_) => {
                self.stop.map_or(Ending::Cancelled, |stop| stop.ending)
            }
        };
        Ok(Verdict::of(ending))
    }

    /// The guard died. Whatever it guarded goes with it.
    async fn judge_without_report(&mut self) -> Result<Verdict, SpawnError> {
        let status = self.guard.ended().await;
        let survivors = self.guard.hunt().await;
        if let Some(stop) = self.stop {
            return Ok(Verdict {
                ending: stop.ending,
                survivors,
            });
        }
        let program = self.line.program.clone();
        let status = status.map_err(|source| SpawnError::Start { program, source })?;
        match std::os::unix::process::ExitStatusExt::signal(&status) {
            Some(signal) => Ok(Verdict {
                ending: Ending::Signaled(signal),
                survivors,
            }),
            None => Err(SpawnError::GuardSilent {
                program: self.line.program.clone(),
                status,
            }),
        }
    }
}

/// How the talk with a guard ended.
enum LastWord {
    Said(Report),
    GuardGone,
    GuardDeaf(Stop),
}

async fn expiry(until: MonotonicDeadline) {
    match Instant::now().checked_add(until.remaining()) {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn deafness(stop: Option<Stop>) -> Stop {
    match stop {
        Some(stop) => {
            sleep_until(stop.deaf_at).await;
            stop
        }
        None => std::future::pending().await,
    }
}

/// A trust that never ends, for commands that need no lease (a probe asked for by a person).
/// Its sender is gone, so nobody can revoke it.
pub fn unconditional_trust() -> Trust {
    watch::channel(MonotonicDeadline::never()).1
}
