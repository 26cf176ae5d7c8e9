//! A cluster of a row's name that the row did not make. Nothing is done to it: the row waits, failed,
//! with the ways to go on. Pure, like the rest of the plan.

use crate::clusters::observation::{Observation, PresentState};
use crate::clusters::{Actual, Desired};

use super::decide::DecisionInput;
use super::{Action, Decision, Status};

impl DecisionInput<'_> {
    /// The decision, with nothing done to a cluster that may be of another: a row that owns none is
    /// observed before its first action.
    pub(super) fn of_its_own(self, decision: Decision) -> Decision {
        if let Some(Observation::Present(PresentState::Foreign(why))) = self.observed {
            return Decision::Record(self.foreign(why));
        }
        let acts = matches!(decision, Decision::Act { .. });
        if !acts || self.cluster.owns_a_cluster() {
            return decision;
        }
        match self.observed {
            None => Decision::Observe {
                why: "a cluster of its name may exist already",
            },
            Some(Observation::Unknown(why)) => self.observe_later(why),
            Some(Observation::Absent) if self.cluster.desired == Desired::Absent => {
                Decision::Remove
            }
            Some(Observation::Absent | Observation::Present(_)) => decision,
        }
    }

    /// Observed again soon: the cluster may be deleted by hand.
    pub(super) fn foreign(self, why: &str) -> Status {
        let failed = match self.cluster.desired {
            Desired::Present => Action::Create,
            Desired::Stopped => Action::Stop,
            Desired::Absent => Action::Delete,
        };
        Status {
            actual: Actual::Failed,
            reason: failed.failed_reason(),
            message: why.to_owned(),
            error: Some(why.to_owned()),
            failed_attempts: self.cluster.failed_attempts.max(1),
            next_attempt_at: Some(self.moment.after(self.policy.observe_retry)),
            ..Status::unchanged(self.cluster)
        }
    }
}
