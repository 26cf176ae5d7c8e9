//! The state matrix, with a function for each part that needs an observation. Every match
//! names all states, so that a new state is a compile error here.

use jiff::Timestamp;

use crate::clusters::event::Reason;
use crate::clusters::health::{Flaps, HealthCheckResult};
use crate::clusters::observation::{Observation, PresentState};
use crate::clusters::{Actual, Cluster, Desired};

use super::defer::is_requested;
use super::intent::{intent, last_failure};
use super::{Action, Applied, Decision, Moment, Policy, Status};

/// The input of one decision.
#[derive(Clone, Copy)]
pub(super) struct DecisionInput<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) observed: Option<&'a Observation>,
    pub(super) policy: &'a Policy,
    pub(super) moment: Moment,
}

impl DecisionInput<'_> {
    pub(super) fn present(self) -> Decision {
        if self.cluster.recreate_requested_at.is_some() {
            return self.present_requested();
        }
        match self.cluster.actual {
            Actual::Unknown => self.act(Action::Create),
            Actual::Creating => self.present_creating(),
            Actual::Running if !self.cluster.spec_applied => self.act(Action::Update),
            Actual::Running => self.check_health(),
            Actual::Restarting => self.present_restarting(),
            Actual::Updating => self.present_updating(),
            Actual::Stopping | Actual::Stopped => self.present_stopped(),
            Actual::Failed => self.present_failed(),
            Actual::Deleting => self.present_deleting(),
        }
    }

    /// A person requested that it is deleted and created again. What is verified absent is
    /// created next, by the ordinary decisions.
    fn present_requested(self) -> Decision {
        match self.observed {
            None => Decision::Observe {
                why: "its recreation was requested",
            },
            Some(Observation::Unknown(why)) => self.observe_later(why),
            Some(Observation::Absent) => Decision::Record(Status {
                applied: Applied::Cleared,
                ..Status::deleted(self.cluster)
            }),
            Some(Observation::Present(_)) => self.act(Action::Delete),
        }
    }

    /// No replica holds its lease, so its owner died between intent and conclusion.
    fn present_creating(self) -> Decision {
        match self.observed {
            None => Decision::Observe {
                why: "its create was interrupted",
            },
            Some(Observation::Unknown(why)) => self.observe_later(why),
            Some(Observation::Present(PresentState::Healthy)) => Decision::Record(Status {
                message: "healthy, although its create was interrupted".into(),
                // The command did not end, so the spec is not proven to be applied: the
                // next decision applies it again.
                ..self.healthy(Reason::Recovered)
            }),
            Some(Observation::Absent | Observation::Present(_)) => self.act(Action::Create),
        }
    }

    /// No replica holds its lease, so its start or its repair was interrupted.
    fn present_restarting(self) -> Decision {
        match self.observed {
            None => Decision::Observe {
                why: "its start or repair was interrupted",
            },
            Some(Observation::Unknown(why)) => self.observe_later(why),
            Some(Observation::Present(PresentState::Healthy)) => Decision::Record(Status {
                message: "healthy, although its start or repair was interrupted".into(),
                ..self.healthy(Reason::Recovered)
            }),
            Some(Observation::Present(PresentState::Stopped)) => self.act(Action::Start),
            Some(Observation::Absent | Observation::Present(_)) => self.act(Action::Create),
        }
    }

    /// No replica holds its lease, so its update was interrupted. An observation cannot prove
    /// that the spec is applied.
    fn present_updating(self) -> Decision {
        match self.observed {
            None => Decision::Observe {
                why: "its update was interrupted",
            },
            Some(Observation::Unknown(why)) => self.observe_later(why),
            Some(Observation::Absent | Observation::Present(_)) => self.act(Action::Update),
        }
    }

    fn present_stopped(self) -> Decision {
        match self.observed {
            None => Decision::Observe {
                why: "a stopped cluster is declared present",
            },
            Some(Observation::Unknown(why)) => self.observe_later(why),
            Some(Observation::Absent) => self.act(Action::Create),
            Some(Observation::Present(PresentState::Healthy)) => {
                Decision::Record(self.healthy(Reason::Started))
            }
            Some(Observation::Present(_)) => self.act(Action::Start),
        }
    }

    /// A stopped cluster is started, and a healthy one whose spec is applied is kept; only
    /// otherwise it is created again.
    fn present_failed(self) -> Decision {
        match self.observed {
            None => Decision::Observe {
                why: "the last attempt failed",
            },
            Some(Observation::Present(PresentState::Healthy)) if self.cluster.spec_applied => {
                Decision::Record(self.healthy(Reason::Recovered))
            }
            // A healthy cluster may have an older spec. A create that fails counts as done
            // if the cluster is healthy; an update must succeed.
            Some(Observation::Present(PresentState::Healthy)) => self.act(Action::Update),
            Some(Observation::Present(PresentState::Stopped)) => self.act(Action::Start),
            Some(Observation::Present(PresentState::Foreign(why))) => {
                Decision::Record(self.foreign(why))
            }
            // It may be healthy, so only a person's request runs its command again.
            Some(Observation::Unknown(why)) if !is_requested(self.cluster, self.moment) => {
                self.observe_later(why)
            }
            Some(
                Observation::Present(PresentState::Unhealthy(_))
                | Observation::Absent
                | Observation::Unknown(_),
            ) => self.act(Action::Create),
        }
    }

    /// The delete was declared, then withdrawn, and no replica runs it.
    fn present_deleting(self) -> Decision {
        match self.observed {
            None => Decision::Observe {
                why: "its delete was withdrawn",
            },
            Some(Observation::Unknown(why)) => self.observe_later(why),
            Some(Observation::Absent) => self.act(Action::Create),
            // A healthy cluster is deleted only if its row says `absent`: applying the spec
            // again repairs what the delete had removed.
            Some(Observation::Present(PresentState::Healthy)) => self.act(Action::Update),
            // Stopped and perhaps complete; missing parts show after the start.
            Some(Observation::Present(PresentState::Stopped)) => self.act(Action::Start),
            Some(Observation::Present(PresentState::Foreign(why))) => {
                Decision::Record(self.foreign(why))
            }
            // Half deleted: complete the delete before a create.
            Some(Observation::Present(PresentState::Unhealthy(_))) => self.act(Action::Delete),
        }
    }

    fn check_health(self) -> Decision {
        let Some(observed) = self.observed else {
            return Decision::Observe {
                why: "its health check is due",
            };
        };
        let health = self.policy.health;
        match health.evaluate(self.cluster.health_failures, observed) {
            HealthCheckResult::Healthy => Decision::Record(self.still_healthy()),
            HealthCheckResult::Unknown { why } => Decision::Record(Status {
                reason: Reason::ObservationFailed,
                message: format!("the health check could not run: {why}"),
                next_check_at: Some(self.moment.after(health.reprobe)),
                reached: true,
                ..Status::unchanged(self.cluster)
            }),
            HealthCheckResult::Suspect { failures, why } => {
                let flaps = Flaps::of(self.cluster);
                Decision::Record(flaps.mention(Status {
                    reason: Reason::ProbeFailed,
                    message: format!("{failures} of {} probes failed: {why}", health.threshold),
                    health_failures: failures,
                    next_check_at: Some(self.moment.after(health.reprobe)),
                    reached: true,
                    ..Status::unchanged(self.cluster)
                }))
            }
            HealthCheckResult::Lost { failures, why } => Decision::Record(Status {
                flaps: Flaps::of(self.cluster).after(true, self.moment.now),
                actual: Actual::Failed,
                reason: Reason::HealthLost,
                message: format!("{failures} probes failed in a row: {why}"),
                error: Some(format!("{failures} probes failed in a row: {why}")),
                health_failures: failures,
                next_attempt_at: None,
                ..Status::unchanged(self.cluster)
            }),
        }
    }

    /// A successful check of a running cluster; after failed ones it has recovered.
    fn still_healthy(self) -> Status {
        let recovered = self.cluster.health_failures > 0;
        let flaps = Flaps::of(self.cluster).after(recovered, self.moment.now);
        flaps.mention(Status {
            flaps,
            ..self.healthy(Reason::Healthy)
        })
    }

    pub(super) fn stopped(self) -> Decision {
        let observe = || Decision::Observe {
            why: "it is declared stopped",
        };
        match self.cluster.actual {
            Actual::Running => self.act(Action::Stop),
            Actual::Stopped => match self.observed {
                None => observe(),
                Some(Observation::Present(PresentState::Healthy)) => self.act(Action::Stop),
                Some(observed) => Decision::Record(self.still_stopped(observed)),
            },
            Actual::Unknown
            | Actual::Creating
            | Actual::Restarting
            | Actual::Updating
            | Actual::Stopping
            | Actual::Failed
            | Actual::Deleting => match self.observed {
                None => observe(),
                Some(Observation::Unknown(why)) => self.observe_later(why),
                Some(Observation::Absent) => Decision::Record(self.not_created()),
                Some(Observation::Present(PresentState::Stopped)) => {
                    Decision::Record(self.as_stopped(Reason::Stopped))
                }
                Some(Observation::Present(_)) => self.act(Action::Stop),
            },
        }
    }

    pub(super) fn absent(self) -> Decision {
        match self.cluster.actual {
            // If the row could not be removed, the cluster is most likely gone already.
            Actual::Failed if !self.may_be_deleted() => self.act(Action::Delete),
            Actual::Unknown | Actual::Failed => match self.observed {
                None => Decision::Observe {
                    why: "it is declared absent and was not observed yet",
                },
                Some(Observation::Unknown(why)) => self.observe_later(why),
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
            | Actual::Restarting
            | Actual::Updating
            | Actual::Stopping
            | Actual::Stopped => self.act(Action::Delete),
        }
    }

    /// Whether a delete may have succeeded although the row says that it failed.
    fn may_be_deleted(self) -> bool {
        self.cluster.desired == Desired::Absent && self.cluster.has_reason(Reason::WriteRefused)
    }

    /// Paused or protected: records the observation, and does nothing else.
    pub(super) fn observe_only(self) -> Decision {
        let cluster = self.cluster;
        let reason = if cluster.paused {
            Reason::Paused
        } else {
            Reason::Protected
        };
        let Some(observed) = self.observed else {
            return Decision::Observe {
                why: "it is only observed",
            };
        };
        let health = self.policy.health;
        let failure = last_failure(cluster).map_or(String::new(), |why| {
            format!("; the last attempt failed: {why}")
        });
        let seen = Status {
            reason,
            message: format!("{observed}{failure}"),
            next_check_at: Some(self.moment.after(health.reprobe)),
            ..Status::unchanged(cluster)
        };
        Decision::Record(
            match (observed, health.evaluate(cluster.health_failures, observed)) {
                (_, HealthCheckResult::Healthy) => Status {
                    actual: Actual::Running,
                    health_failures: 0,
                    healthy: true,
                    next_check_at: Some(self.next_check()),
                    ..seen
                },
                (Observation::Present(PresentState::Stopped), _) => Status {
                    actual: Actual::Stopped,
                    next_check_at: Some(self.next_check()),
                    ..seen
                },
                (Observation::Absent, _) => Status {
                    // A failure stays visible.
                    actual: match cluster.actual {
                        Actual::Failed => Actual::Failed,
                        _ => Actual::Unknown,
                    },
                    next_check_at: Some(self.next_check()),
                    ..seen
                },
                (_, HealthCheckResult::Lost { failures, .. }) => Status {
                    actual: Actual::Failed,
                    health_failures: failures,
                    next_check_at: Some(self.next_check()),
                    ..seen
                },
                (_, HealthCheckResult::Suspect { failures, .. }) => Status {
                    health_failures: failures,
                    ..seen
                },
                (_, HealthCheckResult::Unknown { .. }) => Status {
                    // As above: the reason is lost, so the state says that it must be observed.
                    actual: match cluster.actual {
                        Actual::Failed if self.may_be_deleted() => Actual::Unknown,
                        actual => actual,
                    },
                    next_check_at: Some(self.moment.after(self.policy.observe_retry)),
                    ..seen
                },
            },
        )
    }

    fn act(self, action: Action) -> Decision {
        let intent = intent(self.cluster, action, self.observed);
        Decision::Act { action, intent }
    }

    /// Running and healthy.
    fn healthy(self, reason: Reason) -> Status {
        Status::running(self.cluster, reason, self.next_check())
    }

    /// Stopped, as declared.
    fn as_stopped(self, reason: Reason) -> Status {
        Status::stopped(self.cluster, reason, self.next_check())
    }

    /// Stopped, as declared, because it does not exist.
    fn not_created(self) -> Status {
        Status {
            message: "not created yet; it is created when it is declared present".into(),
            ..self.as_stopped(Reason::NotCreated)
        }
    }

    /// A check of a stopped cluster: the counts stay.
    fn still_stopped(self, observed: &Observation) -> Status {
        let seen = match observed {
            Observation::Absent => self.not_created(),
            Observation::Present(_) => self.as_stopped(Reason::Stopped),
            Observation::Unknown(why) => Status {
                message: format!("the check could not run: {why}"),
                ..self.as_stopped(Reason::ObservationFailed)
            },
        };
        Status {
            reason: seen.reason,
            message: seen.message,
            next_check_at: seen.next_check_at,
            reached: true,
            ..Status::unchanged(self.cluster)
        }
    }

    /// The observation is unknown: changes nothing, counts no attempt, observes later. A
    /// refused write stays the reason, because such a row is observed before a delete.
    pub(super) fn observe_later(self, why: &str) -> Decision {
        let reason = if self.cluster.has_reason(Reason::WriteRefused) {
            Reason::WriteRefused
        } else {
            Reason::ObservationFailed
        };
        Decision::Record(Status {
            reason,
            message: format!("waiting: the cluster cannot be observed: {why}"),
            next_attempt_at: Some(self.moment.after(self.policy.observe_retry)),
            ..Status::unchanged(self.cluster)
        })
    }

    fn next_check(self) -> Timestamp {
        self.moment
            .after(self.policy.health.next_check(self.moment.jitter))
    }
}
