//! Runs one command from the daemon: decides when it must stop, and collects its result. This module
//! does not signal processes (the guard does) and does not judge the result.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::capture::{KeptOutput, OutputCapture, STDOUT_KEPT};
use super::control_socket::{GuardReport, GuardRequest};
use super::environment;
use super::files::state_files;
use super::guard_process::GuardProcess;
use super::line::{CommandLimits, CommandLine};
use super::log::CommandLog;
use super::outcome::{Ending, FinishedCommand, SpawnError};
use crate::core::lease::LeasePolicy;
use crate::core::trust::{MonotonicDeadline, Trust};
use crate::redact::KnownSecrets;

/// How long after the grace a guard may take to report before it counts as unresponsive. The
/// lease is renewed meanwhile; if its trust ends, [`Runner::untrusted_answer`] counts.
const UNRESPONSIVE_AFTER: Duration = Duration::from_secs(3);
/// How long output is read after the end. What is in the pipes arrives at once; this is the limit
/// if an escaped process keeps them open.
const LAST_OUTPUT: Duration = Duration::from_millis(200);

/// Runs commands, each under its own guard.
#[derive(Debug, Clone)]
pub struct Runner {
    /// The binary that is started with the first argument `guard`.
    pub guard_program: PathBuf,
    /// Names of further variables that commands inherit; a final `*` matches any suffix.
    pub pass_env: Vec<String>,
    /// The file of the owner's lock, which guards hold; see [`super::OwnerLocks`].
    pub owner_lock: Option<PathBuf>,
    /// How much of the start of stdout is kept, in bytes.
    pub stdout_kept: usize,
    /// How long a guard may take to report after the trust has ended, before its process tree is
    /// killed without it. It must be well below the time until another owner may take over.
    pub untrusted_answer: Duration,
    /// Values that are redacted in the output, besides those of the variables that
    /// [`pass_env`](Self::pass_env) names and whose names look like a secret.
    pub secrets: KnownSecrets,
}

impl Default for Runner {
    /// The guard program is this binary, even after an upgrade has replaced its file.
    fn default() -> Self {
        Self {
            guard_program: PathBuf::from("/proc/self/exe"),
            pass_env: Vec::new(),
            owner_lock: None,
            stdout_kept: STDOUT_KEPT,
            untrusted_answer: LeasePolicy::default().guard_answers_within(),
            secrets: KnownSecrets::default(),
        }
    }
}

/// The path, if its file exists. Also if the file system does not say so in time: the guard then
/// starts nothing without it.
async fn existing(path: Option<&Path>) -> Option<PathBuf> {
    let path = path?.to_owned();
    let checked = path.clone();
    let exists = state_files().run(move || checked.exists()).await;
    exists.unwrap_or(true).then_some(path)
}

impl Runner {
    /// Runs one command until its whole process tree has ended.
    ///
    /// Stops the command (SIGTERM, SIGKILL after the grace) at its deadline and on `cancel`, and
    /// kills it at once when `trust` expires. Does not start it if it is cancelled or trust has
    /// expired. A command that ended just before it was stopped counts as ended by itself.
    ///
    /// Takes at most the deadline, the grace and a few seconds. Dropping the future ends the process
    /// tree within two seconds. An error of the log never fails the command.
    pub async fn run(
        &self,
        line: &CommandLine,
        limits: &CommandLimits,
        trust: Trust,
        cancel: &CancellationToken,
        mut log: Option<&mut CommandLog>,
    ) -> Result<FinishedCommand, SpawnError> {
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
                Ok((end, _)) => log.end(&end.ending, duration).await,
                Err(error) => log.end(error, duration).await,
            }
        }
        let (end, kept) = result?;
        Ok(FinishedCommand {
            ending: end.ending,
            tail: kept.tail.into_lines(),
            stdout: kept.stdout,
            stdout_bytes: kept.stdout_bytes,
            stderr_bytes: kept.stderr_bytes,
            duration,
            survivors: end.survivors,
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
        limits: &CommandLimits,
        trust: Trust,
        cancel: &CancellationToken,
        log: Option<&mut CommandLog>,
    ) -> Result<(CommandEnd, KeptOutput), SpawnError> {
        let until = *trust.borrow();
        if let Some(ending) = rejection(until, cancel) {
            return Ok((CommandEnd::of(ending), KeptOutput::default()));
        }
        // Without the file no process can conclude that this one has ended.
        let owner_lock = existing(self.owner_lock.as_deref()).await;
        let owner_lock = owner_lock.as_deref();
        let guard = GuardProcess::start(
            (&self.guard_program, owner_lock),
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
        let mut capture = OutputCapture::new(log, self.stdout_kept, &self.known_secrets());
        let output = guard.take_output();
        let end = {
            let drain = async {
                if let Some((stdout, stderr)) = output {
                    capture.drain(stdout, stderr).await;
                }
            };
            let mut run = GuardedRun {
                line,
                limits,
                untrusted_answer: self.untrusted_answer,
                guard,
                stop: None,
                untrusted: false,
            };
            let until_ended = run.until_ended(trust, cancel);
            tokio::pin!(drain, until_ended);
            tokio::select! {
                end = &mut until_ended => {
                    let _ = timeout(LAST_OUTPUT, drain).await;
                    end
                }
                () = &mut drain => until_ended.await,
            }
        }?;
        Ok((end, capture.finish().await))
    }
}

/// Why the command must not start, if so.
fn rejection(trust: MonotonicDeadline, cancel: &CancellationToken) -> Option<Ending> {
    if trust.passed() {
        Some(Ending::TrustLost)
    } else if cancel.is_cancelled() {
        Some(Ending::Cancelled)
    } else {
        None
    }
}

struct CommandEnd {
    ending: Ending,
    survivors: Vec<i32>,
}

impl CommandEnd {
    fn of(ending: Ending) -> Self {
        Self {
            ending,
            survivors: Vec::new(),
        }
    }
}

/// A stop that the guard was asked for.
#[derive(Clone, Copy)]
struct RequestedStop {
    ending: Ending,
    /// When the guard counts as unresponsive if it has not reported.
    report_due: Instant,
}

struct GuardedRun<'a> {
    line: &'a CommandLine,
    limits: &'a CommandLimits,
    untrusted_answer: Duration,
    guard: GuardProcess,
    stop: Option<RequestedStop>,
    /// The trust has ended.
    untrusted: bool,
}

impl GuardedRun<'_> {
    async fn until_ended(
        &mut self,
        trust: Trust,
        cancel: &CancellationToken,
    ) -> Result<CommandEnd, SpawnError> {
        match self.guard_outcome(trust, cancel).await {
            GuardOutcome::Reported(report) => {
                let _ignored_status = self.guard.ended().await;
                self.end_of(report)
            }
            GuardOutcome::Ended => self.end_without_report().await,
            GuardOutcome::Unresponsive(stop) => {
                tracing::warn!(program = %self.line.program.display(), "guard does not respond");
                Ok(CommandEnd {
                    ending: stop.ending,
                    survivors: self.guard.kill().await,
                })
            }
        }
    }

    /// Waits for the guard's final report, and sends it renewals of trust and the request to stop.
    async fn guard_outcome(
        &mut self,
        mut trust: Trust,
        cancel: &CancellationToken,
    ) -> GuardOutcome {
        let deadline = Instant::now() + self.limits.deadline;
        let mut trust_changes = true;
        loop {
            // Does not mark the value as seen, so `changed` below still reports it.
            let until = *trust.borrow();
            // Every branch is cancel-safe, and none awaits in its body.
            tokio::select! {
                report = self.guard.report() => match report {
                    Some(GuardReport::Started(_)) => {}
                    Some(report) => return GuardOutcome::Reported(report),
                    None => return GuardOutcome::Ended,
                },
                changed = trust.changed(), if trust_changes => {
                    trust_changes = changed.is_ok();
                    self.guard.send(GuardRequest::Trust(*trust.borrow()));
                }
                () = cancel.cancelled(), if self.stop.is_none() => {
                    self.stop(Ending::Cancelled, self.limits.grace, UNRESPONSIVE_AFTER);
                }
                () = sleep_until(deadline), if self.stop.is_none() => {
                    self.stop(Ending::DeadlineExceeded, self.limits.grace, UNRESPONSIVE_AFTER);
                }
                // The guard does this by itself unless it is unresponsive. It shortens the grace of
                // an earlier stop.
                () = expiry(until), if !self.untrusted => {
                    self.untrusted = true;
                    self.stop(Ending::TrustLost, Duration::ZERO, self.untrusted_answer);
                }
                stop = overdue(self.stop) => return GuardOutcome::Unresponsive(stop),
            }
        }
    }

    /// Requests the end of the command; a second request keeps the reason of the first, and takes
    /// effect if it is due earlier.
    fn stop(&mut self, ending: Ending, grace: Duration, answer_within: Duration) {
        self.guard.send(GuardRequest::Stop(grace));
        let report_due = Instant::now() + grace + answer_within;
        let stop = self
            .stop
            .get_or_insert(RequestedStop { ending, report_due });
        stop.report_due = stop.report_due.min(report_due);
    }

    fn end_of(&self, report: GuardReport) -> Result<CommandEnd, SpawnError> {
        let ending = match report {
            GuardReport::Failed(errno) => {
                return Err(SpawnError::from_errno(self.line.program.clone(), errno));
            }
            GuardReport::Unlocked if self.stop.is_none() => {
                let program = self.line.program.clone();
                return Err(SpawnError::StateFolder { program });
            }
            GuardReport::Exited(code) => Ending::Exited(code),
            GuardReport::Signaled(signal) => Ending::Signaled(signal),
            GuardReport::Untrusted => Ending::TrustLost,
            // `Started` is never final.
            GuardReport::Stopped | GuardReport::Started(_) | GuardReport::Unlocked => {
                self.stop.map_or(Ending::Cancelled, |stop| stop.ending)
            }
        };
        Ok(CommandEnd::of(ending))
    }

    /// The guard died: kills its process tree.
    async fn end_without_report(&mut self) -> Result<CommandEnd, SpawnError> {
        let status = self.guard.ended().await;
        let survivors = self.guard.kill().await;
        if let Some(stop) = self.stop {
            return Ok(CommandEnd {
                ending: stop.ending,
                survivors,
            });
        }
        let program = self.line.program.clone();
        let status = status.map_err(|source| SpawnError::Start { program, source })?;
        match std::os::unix::process::ExitStatusExt::signal(&status) {
            Some(signal) => Ok(CommandEnd {
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

enum GuardOutcome {
    Reported(GuardReport),
    /// The guard ended without a report.
    Ended,
    Unresponsive(RequestedStop),
}

async fn expiry(until: MonotonicDeadline) {
    match Instant::now().checked_add(until.remaining()) {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn overdue(stop: Option<RequestedStop>) -> RequestedStop {
    match stop {
        Some(stop) => {
            sleep_until(stop.report_due).await;
            stop
        }
        None => std::future::pending().await,
    }
}

/// Trust that never expires, for commands that need no lease (such as a probe on a person's
/// request). It has no sender, so it cannot be revoked.
pub fn unconditional_trust() -> Trust {
    watch::channel(MonotonicDeadline::never()).1
}
