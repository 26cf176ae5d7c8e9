//! The state matrix, a function for each part that needs a look at the host.
//! Every match names all states, so that a new one is a compile error here.

use jiff::Timestamp;

use crate::clusters::event::Reason;
use crate::clusters::health::Verdict;
use crate::clusters::observation::{Condition, Observation};
use crate::clusters::{Actual, Cluster};

use super::{Action, Applied, Decision, Moment, Policy, Status};

/// The arguments of one decision, so that its parts can be functions.
#[derive(Clone, Copy)]
pub(super) struct Deciding<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) observed: Option<&'a Observation>,
    pub(super) policy: &'a Policy,
    pub(super) moment: Moment,
}

impl Deciding<'_> {
    pub(super) fn present(self) -> Decision {
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
    fn present_creating(self) -> Decision {
        match self.observed {
            None => Decision::Observe {
                why: "its create was interrupted",
            },
            Some(Observation::Unknown(why)) => self.look_again(why),
            Some(Observation::Present(Condition::Healthy)) => Decision::Record(Status {
                message: "it answers, though its create was interrupted".into(),
                // The command did not end, so the spec is not proven applied:
                // the next plan applies it again, which create allows.
                ..self.healthy(Reason::Recovered)
            }),
            Some(Observation::Absent | Observation::Present(_)) => self.act(Action::Create),
        }
    }

    fn present_stopped(self) -> Decision {
        match self.observed {
            None => Decision::Observe {
                why: "a stopped cluster is wanted present",
            },
            Some(Observation::Unknown(why)) => self.look_again(why),
            Some(Observation::Absent) => self.act(Action::Create),
            Some(Observation::Present(Condition::Healthy)) => {
                Decision::Record(self.healthy(Reason::Started))
            }
            Some(Observation::Present(_)) => self.act(Action::Start),
        }
    }

    /// Repair before recreate: what only stopped is started, and what came
    /// back by itself is left alone.
    fn present_failed(self) -> Decision {
        match self.observed {
            None => Decision::Observe {
                why: "the last attempt failed",
            },
            Some(Observation::Present(Condition::Healthy)) if self.cluster.spec_applied => {
                Decision::Record(self.healthy(Reason::Recovered))
            }
            // What answers may be of an older spec. A create that fails around
            // a cluster that answers counts as done; an update must end well.
            Some(Observation::Present(Condition::Healthy)) => self.act(Action::Update),
            Some(Observation::Present(Condition::Stopped)) => self.act(Action::Start),
            Some(
                Observation::Present(Condition::Unhealthy(_))
                | Observation::Absent
                | Observation::Unknown(_),
            ) => self.act(Action::Create),
        }
    }

    /// The delete was ordered, then withdrawn, and nobody is carrying it out.
    fn present_deleting(self) -> Decision {
        match self.observed {
            None => Decision::Observe {
                why: "its delete was withdrawn",
            },
            Some(Observation::Unknown(why)) => self.look_again(why),
            Some(Observation::Absent) => self.act(Action::Create),
            // Nothing that answers is deleted unless its row says `absent`:
            // applying the spec again mends what the delete had begun.
            Some(Observation::Present(Condition::Healthy)) => self.act(Action::Update),
            // Stopped and perhaps whole; what is missing shows after the start.
            Some(Observation::Present(Condition::Stopped)) => self.act(Action::Start),
            // Half deleted: no create can be trusted on top of it.
            Some(Observation::Present(Condition::Unhealthy(_))) => self.act(Action::Delete),
        }
    }

    fn check_health(self) -> Decision {
        let Some(observed) = self.observed else {
            return Decision::Observe {
                why: "its health check is due",
            };
        };
        let health = self.policy.health;
        match health.judge(self.cluster.health_failures, observed) {
            Verdict::Healthy => Decision::Record(self.healthy(Reason::Healthy)),
            Verdict::Unknown { why } => Decision::Record(Status {
                reason: Reason::ObservationFailed,
                message: format!("its health check could not look: {why}"),
                next_check_at: Some(self.moment.after(health.reprobe)),
                reached: true,
                ..Status::keeping(self.cluster)
            }),
            Verdict::Suspect { failures, why } => Decision::Record(Status {
                reason: Reason::ProbeFailed,
                message: format!("{failures} of {} probes failed: {why}", health.threshold),
                health_failures: failures,
                next_check_at: Some(self.moment.after(health.reprobe)),
                reached: true,
                ..Status::keeping(self.cluster)
            }),
            Verdict::Lost { failures, why } => Decision::Record(Status {
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

    pub(super) fn stopped(self) -> Decision {
        let observe = || Decision::Observe {
            why: "it is wanted stopped",
        };
        match self.cluster.actual {
            Actual::Running | Actual::Stopping => self.act(Action::Stop),
            Actual::Stopped => match self.observed {
                None => observe(),
                Some(Observation::Present(Condition::Healthy)) => self.act(Action::Stop),
                Some(observed) => Decision::Record(self.still_stopped(observed)),
            },
            Actual::Unknown
            | Actual::Creating
            | Actual::Updating
            | Actual::Failed
            | Actual::Deleting => match self.observed {
                None => observe(),
                Some(Observation::Unknown(why)) => self.look_again(why),
                Some(Observation::Absent) => Decision::Record(self.not_made()),
                Some(Observation::Present(Condition::Stopped)) => {
                    Decision::Record(self.at_rest(Reason::Stopped))
                }
                Some(Observation::Present(_)) => self.act(Action::Stop),
            },
        }
    }

    pub(super) fn absent(self) -> Decision {
        match self.cluster.actual {
            Actual::Unknown => match self.observed {
                None => Decision::Observe {
                    why: "it is wanted absent and was never looked at",
                },
                Some(Observation::Unknown(why)) => self.look_again(why),
                Some(Observation::Absent) => Decision::Remove,
                Some(Observation::Present(_)) => self.act(Action::Delete),
            },
            Actual::Deleting => match self.observed {
                None => Decision::Observe {
                    why: "its delete was interrupted",
                },
                Some(Observation::Absent) => Decision::Remove,
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
    pub(super) fn only_look(self) -> Decision {
        let cluster = self.cluster;
        let reason = if cluster.paused {
            Reason::Paused
        } else {
            Reason::Protected
        };
        let Some(observed) = self.observed else {
            return Decision::Observe {
                why: "it is only looked at",
            };
        };
        let health = self.policy.health;
        let seen = Status {
            reason,
            message: observed.to_string(),
            next_check_at: Some(self.moment.after(health.reprobe)),
            ..Status::keeping(cluster)
        };
        Decision::Record(
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

    fn act(self, action: Action) -> Decision {
        let attempt = self.cluster.failed_attempts.saturating_add(1);
        let message = if attempt == 1 {
            format!("{} begun", action.as_str())
        } else {
            format!("{} begun, attempt {attempt}", action.as_str())
        };
        let applied = match action {
            Action::Create | Action::Update | Action::Delete => Applied::Cleared,
            // A start in steps may apply the spec that is declared now.
            Action::Start if !self.cluster.spec_applied => Applied::Cleared,
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
        Decision::Act { action, intent }
    }

    /// It answers: running, with a clean slate.
    fn healthy(self, reason: Reason) -> Status {
        Status::running(self.cluster, reason, self.next_check())
    }

    /// Nothing of it runs, as wanted.
    fn at_rest(self, reason: Reason) -> Status {
        Status::stopped(self.cluster, reason, self.next_check())
    }

    /// Stopped as wanted, because nothing of it is there.
    fn not_made(self) -> Status {
        Status {
            message: "it does not exist yet; it is made when it is wanted present".into(),
            ..self.at_rest(Reason::NotCreated)
        }
    }

    /// Another look at what is stopped as wanted: its counts stay as they are.
    fn still_stopped(self, observed: &Observation) -> Status {
        let seen = match observed {
            Observation::Absent => self.not_made(),
            Observation::Present(_) => self.at_rest(Reason::Stopped),
            Observation::Unknown(why) => Status {
                message: format!("its check could not look: {why}"),
                ..self.at_rest(Reason::ObservationFailed)
            },
        };
        Status {
            reason: seen.reason,
            message: seen.message,
            next_check_at: seen.next_check_at,
            reached: true,
            ..Status::keeping(self.cluster)
        }
    }

    /// Ignorance: keep everything, spend no attempt, look again later.
    fn look_again(self, why: &str) -> Decision {
        Decision::Record(Status {
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
