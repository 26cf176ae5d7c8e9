//! Decides from outcome and observation how an ended action is recorded; the exit code alone
//! does not suffice. Pure, like the rest of the plan.

use crate::clusters::event::Reason;
use crate::clusters::observation::{Observation, PresentState};
use crate::clusters::{Actual, Cluster, Desired};

use crate::core::steps::StepError;

use super::{Action, Applied, Moment, Policy, Status};

/// Whether a retry soon may succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The next attempt may succeed.
    Transient,
    /// It fails until a person changes something (a missing script, a rejected option);
    /// retried at the longest delay only.
    Permanent,
}

/// A failed action, in words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether a retry soon may succeed.
    pub persistence: Persistence,
    /// One line: which command, and how it ended.
    pub summary: String,
    /// The last lines of output and the path of the log; may be empty.
    pub detail: String,
}

impl Failure {
    /// The failure to record for an error; none if the work was interrupted.
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

/// How an action ended, by its own report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It reported success.
    Succeeded,
    /// It reported a failure, exceeded its deadline, or could not start.
    Failed(Failure),
}

/// What to write after an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Conclusion {
    /// Write this status.
    Record(Status),
    /// Remove the row: the cluster is verified absent and declared absent.
    Remove,
}

/// Concludes an ended action from its outcome and the observation after it. `cluster` is the
/// row with the action's intent.
pub fn conclude(
    cluster: &Cluster,
    action: Action,
    outcome: &Outcome,
    observed: &Observation,
    policy: &Policy,
    moment: Moment,
) -> Conclusion {
    let ended = ConcludedAction {
        cluster,
        action,
        outcome,
        observed,
        policy,
        moment,
    };
    let conclusion = match action {
        Action::Create => Conclusion::Record(ended.create()),
        Action::Update => Conclusion::Record(ended.update()),
        Action::Start => Conclusion::Record(ended.start()),
        Action::Stop => Conclusion::Record(ended.stop()),
        Action::Delete => ended.delete(),
    };
    match conclusion {
        Conclusion::Record(status) => Conclusion::Record(status.with_absence(Some(observed))),
        Conclusion::Remove => Conclusion::Remove,
    }
}

#[derive(Clone, Copy)]
struct ConcludedAction<'a> {
    cluster: &'a Cluster,
    action: Action,
    outcome: &'a Outcome,
    observed: &'a Observation,
    policy: &'a Policy,
    moment: Moment,
}

impl ConcludedAction<'_> {
    fn create(self) -> Status {
        match (self.outcome, self.observed) {
            (Outcome::Succeeded, Observation::Present(PresentState::Healthy)) => {
                self.applied(match self.cluster.actual {
                    Actual::Restarting => Reason::Repaired,
                    _ => Reason::Created,
                })
            }
            // The host's script exits with 1 for problems around a cluster that runs. The
            // message shows it; the create is not repeated.
            (Outcome::Failed(failure), Observation::Present(PresentState::Healthy))
                if failure.persistence == Persistence::Transient =>
            {
                Status {
                    message: format!("healthy: the probe succeeded, although {}", failure.summary),
                    ..self.applied(Reason::CreatedWithWarning)
                }
            }
            _ => self.failed(),
        }
    }

    /// A cluster with the old spec is healthy too, so the command must have succeeded.
    fn update(self) -> Status {
        match (self.outcome, self.observed) {
            (Outcome::Succeeded, Observation::Present(PresentState::Healthy)) => {
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
            (_, Observation::Present(PresentState::Healthy | PresentState::Foreign(_))) => false,
            (_, Observation::Present(PresentState::Stopped) | Observation::Absent) => true,
            // Not every driver distinguishes stopped from unhealthy: the outcome decides,
            // unless the probe contradicts it.
            (
                outcome,
                Observation::Present(PresentState::Unhealthy(_)) | Observation::Unknown(_),
            ) => *outcome == Outcome::Succeeded,
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
                Conclusion::Record(Status::deleted(self.cluster))
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
        let (persistence, message, detail) = match self.outcome {
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
            message.clone()
        } else {
            format!("{message}\n{detail}")
        };
        Status {
            actual: Actual::Failed,
            reason: self.action.failed_reason(),
            message,
            error: Some(error),
            failed_attempts: attempts,
            next_attempt_at: Some(self.moment.after(delay)),
            ..Status::unchanged(self.cluster)
        }
    }

    fn next_check(self) -> jiff::Timestamp {
        self.moment
            .after(self.policy.health.next_check(self.moment.jitter))
    }
}
