//! What an ended action means: judged by observation, not by the exit code
//! alone. Pure, like the rest of the plan.

use crate::clusters::event::Reason;
use crate::clusters::observation::{Condition, Observation};
use crate::clusters::{Actual, Cluster, Desired};

use crate::core::steps::StepError;

use super::{Action, Applied, Moment, Policy, Status};

/// Whether trying the same again soon can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The world may have changed by the next attempt.
    Transient,
    /// It fails the same way until a person changes something (no such
    /// script, a refused option); retried at the longest delay only.
    Permanent,
}

/// A failed action, as a person needs to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether a quick retry can help.
    pub persistence: Persistence,
    /// One line: which command, and how it ended.
    pub summary: String,
    /// What else helps: the last lines, where the log is. May be empty.
    pub detail: String,
}

impl Failure {
    /// The failure to record of an error, unless the work was merely cut short.
    pub fn of(error: StepError) -> Option<Self> {
        let (persistence, summary, detail) = match error {
            StepError::Transient { summary, detail } | StepError::Late { summary, detail } => {
                (Persistence::Transient, summary, detail)
            }
            StepError::Permanent { summary, detail } => (Persistence::Permanent, summary, detail),
            StepError::Interrupted => return None,
        };
        Some(Self {
            persistence,
            summary,
            detail,
        })
    }
}

/// How an action's command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It reported success.
    Succeeded,
    /// It reported a failure, was late, or could not start.
    Failed(Failure),
}

/// What is to be written after an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Conclusion {
    /// The row's new status.
    Record(Status),
    /// Verified gone, and wanted so: the row goes.
    Remove,
}

/// Judges an ended action by its outcome and by what was observed afterwards.
/// `cluster` is the row as it stands: with the action's intent recorded.
pub fn conclude(
    cluster: &Cluster,
    action: Action,
    outcome: &Outcome,
    observed: &Observation,
    policy: &Policy,
    moment: Moment,
) -> Conclusion {
    let end = End {
        cluster,
        action,
        outcome,
        observed,
        policy,
        moment,
    };
    let conclusion = match action {
        Action::Create => Conclusion::Record(end.create()),
        Action::Update => Conclusion::Record(end.update()),
        Action::Start => Conclusion::Record(end.start()),
        Action::Stop => Conclusion::Record(end.stop()),
        Action::Delete => end.delete(),
    };
    match conclusion {
        Conclusion::Record(status) => Conclusion::Record(status.noting(Some(observed))),
        Conclusion::Remove => Conclusion::Remove,
    }
}

#[derive(Clone, Copy)]
struct End<'a> {
    cluster: &'a Cluster,
    action: Action,
    outcome: &'a Outcome,
    observed: &'a Observation,
    policy: &'a Policy,
    moment: Moment,
}

impl End<'_> {
    fn create(self) -> Status {
        match (self.outcome, self.observed) {
            (Outcome::Succeeded, Observation::Present(Condition::Healthy)) => {
                self.applied(Reason::Created)
            }
            // The host's script reports 1 for trouble around a cluster that
            // runs all the same; a person reads of it, nobody makes it twice.
            (Outcome::Failed(failure), Observation::Present(Condition::Healthy))
                if failure.persistence == Persistence::Transient =>
            {
                Status {
                    message: format!("it answers its probe, although {}", failure.summary),
                    ..self.applied(Reason::CreatedWithWarning)
                }
            }
            _ => self.failed(),
        }
    }

    /// An old spec answers probes just as well, so here the command's own
    /// word is needed too.
    fn update(self) -> Status {
        match (self.outcome, self.observed) {
            (Outcome::Succeeded, Observation::Present(Condition::Healthy)) => {
                self.applied(Reason::Updated)
            }
            _ => self.failed(),
        }
    }

    fn start(self) -> Status {
        if self.observed.is_healthy() {
            Status::running(self.cluster, Reason::Started, self.next_check())
        } else {
            self.failed()
        }
    }

    fn stop(self) -> Status {
        let stopped = match (self.outcome, self.observed) {
            (_, Observation::Present(Condition::Healthy)) => false,
            (_, Observation::Present(Condition::Stopped) | Observation::Absent) => true,
            // Not every driver can tell stopped from ill: the command's word
            // decides where the probe at least does not contradict it.
            (outcome, Observation::Present(Condition::Unhealthy(_)) | Observation::Unknown(_)) => {
                *outcome == Outcome::Succeeded
            }
        };
        if stopped {
            Status::stopped(self.cluster, Reason::Stopped, self.next_check())
        } else {
            self.failed()
        }
    }

    fn delete(self) -> Conclusion {
        match (self.observed, self.cluster.desired) {
            (Observation::Absent, Desired::Absent) => Conclusion::Remove,
            (Observation::Absent, Desired::Present | Desired::Stopped) => {
                Conclusion::Record(Status {
                    actual: Actual::Unknown,
                    reason: Reason::Deleted,
                    message: "it is gone, and wanted again".into(),
                    error: None,
                    failed_attempts: 0,
                    next_attempt_at: None,
                    ..Status::keeping(self.cluster)
                })
            }
            (Observation::Present(_) | Observation::Unknown(_), _) => {
                Conclusion::Record(self.failed())
            }
        }
    }

    fn applied(self, reason: Reason) -> Status {
        Status {
            applied: Applied::Proven,
            reached: true,
            ..Status::running(self.cluster, reason, self.next_check())
        }
    }

    fn failed(self) -> Status {
        let attempts = self.cluster.failed_attempts.saturating_add(1);
        let (persistence, told, detail) = match self.outcome {
            Outcome::Succeeded => (
                Persistence::Transient,
                format!(
                    "{} reported success, but {}",
                    self.action.as_str(),
                    self.observed
                ),
                "",
            ),
            Outcome::Failed(f) => (
                f.persistence,
                format!("{}; {}", f.summary, self.observed),
                f.detail.as_str(),
            ),
        };
        let delay = match persistence {
            Persistence::Transient => self.policy.backoff.delay(attempts, self.moment.jitter),
            Persistence::Permanent => self.policy.backoff.longest(self.moment.jitter),
        };
        let error = if detail.is_empty() {
            told.clone()
        } else {
            format!("{told}\n{detail}")
        };
        Status {
            actual: Actual::Failed,
            reason: self.action.failed(),
            message: told,
            error: Some(error),
            failed_attempts: attempts,
            next_attempt_at: Some(self.moment.after(delay)),
            ..Status::keeping(self.cluster)
        }
    }

    fn next_check(self) -> jiff::Timestamp {
        self.moment
            .after(self.policy.health.next_check(self.moment.jitter))
    }
}
