//! Deciding, purely: from a row, what was observed of it, the policy and the
//! moment to *one* step, with its reason.
//!
//! It reads no clock, rolls no dice and touches nothing, so every cell of the
//! state matrix is a plain test (`tests.rs`). Carrying a step out is
//! `reconcile`'s job; what an ended action means is [`conclude`]'s; whether a
//! running one must be cut short is [`interrupt`]'s.
//!
//! ```text
//!   row ──> plan ──> Rest                      nothing is due
//!            │ ├───> Observe ──> plan again    the row alone cannot tell
//!            │ ├───> Record                    only the row changes
//!            │ ├───> Remove                    verified gone: the row goes too
//!            │ └───> Act ──> intent is committed ──> driver ──> observe ──> conclude
//! ```

mod conclude;
mod status;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

use crate::backoff::Backoff;
use crate::cluster::{Actual, Cluster, Desired};
use crate::event::Reason;
use crate::health::{HealthPolicy, Verdict};
use crate::observation::{Condition, Observation};

pub use conclude::{Conclusion, Failure, Outcome, Persistence, conclude};
pub use status::{Applied, Status};

/// The numbers that decisions depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Between attempts that fail.
    pub backoff: Backoff,
    /// For clusters that run.
    pub health: HealthPolicy,
    /// Before looking again after a look that failed.
    pub look_again: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            health: HealthPolicy::default(),
            look_again: Duration::from_secs(30),
        }
    }
}

/// When a decision is made: the database's time and one throw of the dice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// The database's clock, read with the row.
    pub now: Timestamp,
    /// In `0.0..1.0`.
    pub jitter: f64,
}

impl Moment {
    /// The time `delay` from now; the end of time if that is too far.
    pub fn after(&self, delay: Duration) -> Timestamp {
        jiff::SignedDuration::try_from(delay)
            .ok()
            .and_then(|delay| self.now.checked_add(delay).ok())
            .unwrap_or(Timestamp::MAX)
    }
}

/// What a driver can be asked to do to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make it; idempotent, so also: finish a half-made one, repair one.
    Create,
    /// Apply a changed spec; for drivers the same as create.
    Update,
    /// Start one that is stopped.
    Start,
    /// Stop it and keep it.
    Stop,
    /// Remove it and all that belongs to it.
    Delete,
}

impl Action {
    /// Every action, so that metrics can start all of them at zero.
    pub const ALL: [Self; 5] = [
        Self::Create,
        Self::Update,
        Self::Start,
        Self::Stop,
        Self::Delete,
    ];

    /// The word in logs, labels and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Delete => "delete",
        }
    }

    /// The state that is committed before the action begins.
    pub fn intent(self) -> Actual {
        match self {
            // A start goes through `creating`: the table has no word of its
            // own for it, and a crash asks the same question of both.
            Self::Create | Self::Start => Actual::Creating,
            Self::Update => Actual::Updating,
            Self::Stop => Actual::Stopping,
            Self::Delete => Actual::Deleting,
        }
    }

    fn begun(self) -> Reason {
        match self {
            Self::Create => Reason::Creating,
            Self::Update => Reason::Updating,
            Self::Start => Reason::Starting,
            Self::Stop => Reason::Stopping,
            Self::Delete => Reason::Deleting,
        }
    }

    fn failed(self) -> Reason {
        match self {
            Self::Create => Reason::CreateFailed,
            Self::Update => Reason::UpdateFailed,
            Self::Start => Reason::StartFailed,
            Self::Stop => Reason::StopFailed,
            Self::Delete => Reason::DeleteFailed,
        }
    }
}

/// One step, with its reason.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing is due before `until`.
    Rest {
        /// The row's own next time.
        until: Timestamp,
    },
    /// The row alone cannot tell: look, then plan again with what was seen.
    Observe {
        /// What the look is for.
        why: &'static str,
    },
    /// Nothing to do on the host; the row learns something.
    Record(Status),
    /// Commit `intent`, then do `action`, then conclude.
    Act {
        /// What to do.
        action: Action,
        /// What the row says meanwhile, and after a crash.
        intent: Status,
    },
    /// The cluster is verified gone and its row says `absent`: remove the row.
    Remove,
}

/// Decides the next step for one row. Total: there is an answer for every
/// triple of desired, actual and observed, and none of them is a dead end.
///
/// `observed` is what [`Step::Observe`] led to, `None` before that; the answer
/// to `Some` is never `Observe` again.
pub fn plan(
    cluster: &Cluster,
    observed: Option<&Observation>,
    policy: &Policy,
    moment: Moment,
) -> Step {
    if let Some(until) = cluster.due_at().filter(|due| *due > moment.now) {
        return Step::Rest { until };
    }
    let decision = Decision {
        cluster,
        observed,
        policy,
        moment,
    };
    if cluster.hands_off() {
        return decision.only_look();
    }
    match cluster.desired {
        Desired::Present => decision.present(),
        Desired::Stopped => decision.stopped(),
        Desired::Absent => decision.absent(),
    }
}

/// Whether a change of desire must cut a running action short, and why.
///
/// A delete is never cut short: half a cluster is nobody's wish, so it is
/// finished and verified first. A changed *spec* cuts nothing short either: it
/// is applied when the command has ended.
pub fn interrupt(action: Action, wanted: Desired) -> Option<&'static str> {
    match (action, wanted) {
        (Action::Delete, _)
        | (Action::Create | Action::Update | Action::Start, Desired::Present)
        | (Action::Stop, Desired::Stopped) => None,
        (_, Desired::Absent) => Some("it is declared absent now"),
        (_, Desired::Stopped) => Some("it is declared stopped now"),
        (_, Desired::Present) => Some("it is declared present again"),
    }
}

impl Cluster {
    /// When this row is to be looked at; none means at once. The database
    /// computes the same in `clusters.due_at`, which a test compares.
    pub fn due_at(&self) -> Option<Timestamp> {
        if self.hands_off() || self.settled() {
            self.next_check_at
        } else {
            self.next_attempt_at
        }
    }
}

/// The arguments of one decision, so that its parts can be functions.
#[derive(Clone, Copy)]
struct Decision<'a> {
    cluster: &'a Cluster,
    observed: Option<&'a Observation>,
    policy: &'a Policy,
    moment: Moment,
}

impl Decision<'_> {
    fn present(self) -> Step {
        match self.cluster.actual {
            Actual::Unknown => self.act(Action::Create),
            Actual::Creating => self.present_creating(),
            Actual::Running if !self.cluster.spec_applied => self.act(Action::Update),
            Actual::Running => self.check_health(),
            Actual::Updating => self.act(Action::Update),
            Actual::Stopping | Actual::Stopped => self.present_stopped(),
            Actual::Failed => self.present_failed(),
            Actual::Deleting => self.present_deleting(),
        }
    }

    /// Nobody holds it, so its owner died between intent and conclusion.
    fn present_creating(self) -> Step {
        match self.observed {
            None => Step::Observe {
                why: "its create was interrupted",
            },
            Some(Observation::Unknown(why)) => self.look_again(why),
            Some(Observation::Present(Condition::Healthy)) => Step::Record(Status {
                message: "it answers, though its create was interrupted".into(),
                // The command did not end, so the spec is not proven applied:
                // the next plan applies it again, which create allows.
                ..self.healthy(Reason::Recovered)
            }),
            Some(Observation::Absent | Observation::Present(_)) => self.act(Action::Create),
        }
    }

    fn present_stopped(self) -> Step {
        match self.observed {
            None => Step::Observe {
                why: "a stopped cluster is wanted present",
            },
            Some(Observation::Unknown(why)) => self.look_again(why),
            Some(Observation::Absent) => self.act(Action::Create),
            Some(Observation::Present(Condition::Healthy)) => {
                Step::Record(self.healthy(Reason::Started))
            }
            Some(Observation::Present(_)) => self.act(Action::Start),
        }
    }

    /// Repair before recreate: what only stopped is started, and what came
    /// back by itself is left alone.
    fn present_failed(self) -> Step {
        match self.observed {
            None => Step::Observe {
                why: "the last attempt failed",
            },
            Some(Observation::Present(Condition::Healthy)) if self.cluster.spec_applied => {
                Step::Record(self.healthy(Reason::Recovered))
            }
            Some(Observation::Present(Condition::Stopped)) => self.act(Action::Start),
            Some(Observation::Present(_) | Observation::Absent | Observation::Unknown(_)) => {
                self.act(Action::Create)
            }
        }
    }

    /// The delete was ordered, then withdrawn, and nobody is carrying it out.
    fn present_deleting(self) -> Step {
        match self.observed {
            None => Step::Observe {
                why: "its delete was withdrawn",
            },
            Some(Observation::Unknown(why)) => self.look_again(why),
            Some(Observation::Absent) => self.act(Action::Create),
            // Nothing that answers is deleted unless its row says `absent`:
            // applying the spec again mends what the delete had begun.
            Some(Observation::Present(Condition::Healthy)) => self.act(Action::Update),
            // Half deleted: no create can be trusted on top of it.
            Some(Observation::Present(_)) => self.act(Action::Delete),
        }
    }

    fn check_health(self) -> Step {
        let Some(observed) = self.observed else {
            return Step::Observe {
                why: "its health check is due",
            };
        };
        let health = self.policy.health;
        match health.judge(self.cluster.health_failures, observed) {
            Verdict::Healthy => Step::Record(self.healthy(Reason::Healthy)),
            Verdict::Unknown { why } => Step::Record(Status {
                reason: Reason::ObservationFailed,
                message: format!("its health check could not look: {why}"),
                next_check_at: Some(self.moment.after(health.reprobe)),
                reached: true,
                ..Status::keeping(self.cluster)
            }),
            Verdict::Suspect { failures, why } => Step::Record(Status {
                reason: Reason::ProbeFailed,
                message: format!("{failures} of {} probes failed: {why}", health.threshold),
                health_failures: failures,
                next_check_at: Some(self.moment.after(health.reprobe)),
                reached: true,
                ..Status::keeping(self.cluster)
            }),
            Verdict::Lost { failures, why } => Step::Record(Status {
                actual: Actual::Failed,
                reason: Reason::HealthLost,
                message: format!("{failures} probes failed in a row: {why}"),
                error: Some(format!("{failures} probes failed in a row: {why}")),
                health_failures: failures,
                next_attempt_at: None,
                ..Status::keeping(self.cluster)
            }),
        }
    }

    fn stopped(self) -> Step {
        let observe = || Step::Observe {
            why: "it is wanted stopped",
        };
        match self.cluster.actual {
            Actual::Running | Actual::Stopping => self.act(Action::Stop),
            Actual::Stopped => match self.observed {
                None => observe(),
                Some(Observation::Present(Condition::Healthy)) => self.act(Action::Stop),
                Some(_) => Step::Record(Status {
                    next_check_at: Some(self.next_check()),
                    reached: true,
                    ..Status::keeping(self.cluster)
                }),
            },
            Actual::Unknown
            | Actual::Creating
            | Actual::Updating
            | Actual::Failed
            | Actual::Deleting => match self.observed {
                None => observe(),
                Some(Observation::Unknown(why)) => self.look_again(why),
                Some(Observation::Absent) => Step::Record(Status {
                    message: "it does not exist yet; it is made when it is wanted present".into(),
                    ..self.at_rest(Reason::NotCreated)
                }),
                Some(Observation::Present(Condition::Stopped)) => {
                    Step::Record(self.at_rest(Reason::Stopped))
                }
                Some(Observation::Present(_)) => self.act(Action::Stop),
            },
        }
    }

    fn absent(self) -> Step {
        match self.cluster.actual {
            Actual::Unknown => match self.observed {
                None => Step::Observe {
                    why: "it is wanted absent and was never looked at",
                },
                Some(Observation::Unknown(why)) => self.look_again(why),
                Some(Observation::Absent) => Step::Remove,
                Some(Observation::Present(_)) => self.act(Action::Delete),
            },
            Actual::Deleting => match self.observed {
                None => Step::Observe {
                    why: "its delete was interrupted",
                },
                Some(Observation::Absent) => Step::Remove,
                Some(Observation::Present(_) | Observation::Unknown(_)) => self.act(Action::Delete),
            },
            Actual::Creating
            | Actual::Running
            | Actual::Updating
            | Actual::Stopping
            | Actual::Stopped
            | Actual::Failed => self.act(Action::Delete),
        }
    }

    /// Paused or protected: show what is there, and nothing else.
    fn only_look(self) -> Step {
        let cluster = self.cluster;
        let (reason, because) = if cluster.paused {
            (Reason::Paused, "paused")
        } else {
            (Reason::Protected, "protected")
        };
        let Some(observed) = self.observed else {
            return Step::Observe {
                why: "it is only looked at",
            };
        };
        let health = self.policy.health;
        let seen = Status {
            reason,
            message: format!("{because}: {observed}"),
            next_check_at: Some(self.moment.after(health.reprobe)),
            ..Status::keeping(cluster)
        };
        Step::Record(
            match (observed, health.judge(cluster.health_failures, observed)) {
                (_, Verdict::Healthy) => Status {
                    actual: Actual::Running,
                    health_failures: 0,
                    healthy: true,
                    next_check_at: Some(self.next_check()),
                    ..seen
                },
                (Observation::Present(Condition::Stopped), _) => Status {
                    actual: Actual::Stopped,
                    next_check_at: Some(self.next_check()),
                    ..seen
                },
                (Observation::Absent, _) => Status {
                    actual: Actual::Unknown,
                    next_check_at: Some(self.next_check()),
                    ..seen
                },
                (_, Verdict::Lost { failures, .. }) => Status {
                    actual: Actual::Failed,
                    health_failures: failures,
                    next_check_at: Some(self.next_check()),
                    ..seen
                },
                (_, Verdict::Suspect { failures, .. }) => Status {
                    health_failures: failures,
                    ..seen
                },
                (_, Verdict::Unknown { .. }) => Status {
                    next_check_at: Some(self.moment.after(self.policy.look_again)),
                    ..seen
                },
            },
        )
    }

    fn act(self, action: Action) -> Step {
        let attempt = self.cluster.failed_attempts.saturating_add(1);
        let message = if attempt == 1 {
            format!("{} begun", action.as_str())
        } else {
            format!("{} begun, attempt {attempt}", action.as_str())
        };
        let applied = match action {
            Action::Create | Action::Update | Action::Delete => Applied::Cleared,
            Action::Start | Action::Stop => Applied::Kept,
        };
        let intent = Status {
            actual: action.intent(),
            reason: action.begun(),
            message,
            // The first error stays visible while the retry runs.
            next_attempt_at: None,
            applied,
            ..Status::keeping(self.cluster)
        };
        Step::Act { action, intent }
    }

    /// It answers: running, with a clean slate.
    fn healthy(self, reason: Reason) -> Status {
        Status::running(self.cluster, reason, self.next_check())
    }

    /// Nothing of it runs, as wanted.
    fn at_rest(self, reason: Reason) -> Status {
        Status::stopped(self.cluster, reason, self.next_check())
    }

    /// Ignorance: keep everything, spend no attempt, look again later.
    fn look_again(self, why: &str) -> Step {
        Step::Record(Status {
            reason: Reason::ObservationFailed,
            message: format!("waiting, because it cannot be observed: {why}"),
            next_attempt_at: Some(self.moment.after(self.policy.look_again)),
            ..Status::keeping(self.cluster)
        })
    }

    fn next_check(self) -> Timestamp {
        self.moment
            .after(self.policy.health.next_check(self.moment.jitter))
    }
}
