//! The conditions of a cluster, as in Kubernetes: each is true, false or unknown.

use super::{Actual, Desired};
use crate::clusters::event::Reason;

/// The type of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "PascalCase")]
pub enum ConditionType {
    /// Is the cluster running? It is until the third probe in a row has failed, by default.
    Ready,
    /// Is an action running, or about to start?
    Progressing,
    /// Is the action deferred by a safety limit?
    Held,
    /// Is the declaration reached, with every recorded step done?
    StepsDone,
    /// Does the cluster fail its probes and recover again and again?
    Flapping,
    /// Is it declared with something that only a recreation can change?
    NeedsRecreation,
}

impl ConditionType {
    /// Every type.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// The cluster could not be observed, or was not observed yet.
    Unknown,
}

impl ConditionStatus {
    /// Every status.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    fn of(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// The values that conditions are computed from: a part of the row and of its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConditionInputs {
    /// The desired state.
    pub desired: Desired,
    /// The recorded state.
    pub actual: Actual,
    /// The reason of the recorded state, if this release knows it.
    pub reason: Option<Reason>,
    /// Whether the declaration is reached.
    pub settled: bool,
    /// Whether the cluster is only observed.
    pub observe_only: bool,
    /// Whether a recorded step is not done, required or not.
    pub steps_left: bool,
    /// Whether it recovers or is lost again and again.
    pub flapping: bool,
}

impl ConditionInputs {
    /// The status of one condition.
    pub fn condition(self, condition: ConditionType) -> ConditionStatus {
        match condition {
            ConditionType::Ready => self.ready(),
            ConditionType::Progressing => ConditionStatus::of(self.progressing()),
            ConditionType::Held => ConditionStatus::of(self.deferred()),
            ConditionType::StepsDone => self.steps_done(),
            ConditionType::Flapping => ConditionStatus::of(self.flapping),
            ConditionType::NeedsRecreation => {
                ConditionStatus::of(self.reason == Some(Reason::NeedsRecreation))
            }
        }
    }

    fn ready(self) -> ConditionStatus {
        // After a failed observation the cluster may run or not.
        if self.actual == Actual::Unknown || self.reason == Some(Reason::ObservationFailed) {
            return ConditionStatus::Unknown;
        }
        ConditionStatus::of(matches!(self.actual, Actual::Running | Actual::Updating))
    }

    fn steps_done(self) -> ConditionStatus {
        // A recorded step that is not done counts also if the cluster is not observed.
        if self.actual == Actual::Unknown && !self.steps_left {
            return ConditionStatus::Unknown;
        }
        ConditionStatus::of(self.settled && !self.steps_left)
    }

    fn progressing(self) -> bool {
        match self.actual {
            Actual::Creating
            | Actual::Restarting
            | Actual::Updating
            | Actual::Stopping
            | Actual::Deleting => true,
            // It waits for its next attempt.
            Actual::Failed => false,
            // Nothing goes on until a person acts.
            Actual::Running if self.reason == Some(Reason::NeedsRecreation) => false,
            Actual::Unknown | Actual::Running | Actual::Stopped => {
                !self.settled && !self.observe_only && !self.deferred()
            }
        }
    }

    fn deferred(self) -> bool {
        let absent = self.desired == Desired::Absent;
        let deferred = match self.reason {
            Some(Reason::DeletionHeld) => absent,
            Some(Reason::RepairHeld) => !absent,
            Some(Reason::ChangeDeferred) => !absent && !self.settled,
            _ => false,
        };
        deferred && !self.observe_only
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(desired: Desired, actual: Actual, reason: Reason, settled: bool) -> ConditionInputs {
        ConditionInputs {
            desired,
            actual,
            reason: Some(reason),
            settled,
            observe_only: false,
            steps_left: false,
            flapping: false,
        }
    }

    /// Ready, Progressing, Held, StepsDone.
    fn statuses(inputs: ConditionInputs) -> [&'static str; 4] {
        std::array::from_fn(|index| inputs.condition(ConditionType::ALL[index]).as_str())
    }

    #[test]
    fn conditions_follow_from_state_and_reason() {
        use Actual::{Creating, Deleting, Failed, Restarting, Running, Stopped, Unknown, Updating};
        use Desired::{Absent, Present, Stopped as DesiredStopped};
        for (inputs, expected) in [
            (
                inputs(Present, Running, Reason::Healthy, true),
                ["true", "false", "false", "true"],
            ),
            (
                inputs(Present, Running, Reason::ObservationFailed, true),
                ["unknown", "false", "false", "true"],
            ),
            (
                inputs(Present, Running, Reason::Healthy, false),
                ["true", "true", "false", "false"],
            ),
            (
                inputs(Present, Running, Reason::RepairHeld, true),
                ["true", "false", "true", "true"],
            ),
            (
                inputs(Present, Unknown, Reason::Deleted, false),
                ["unknown", "true", "false", "unknown"],
            ),
            (
                inputs(Present, Creating, Reason::Creating, false),
                ["false", "true", "false", "false"],
            ),
            (
                inputs(Present, Restarting, Reason::Repairing, false),
                ["false", "true", "false", "false"],
            ),
            (
                inputs(Present, Updating, Reason::Updating, false),
                ["true", "true", "false", "false"],
            ),
            (
                inputs(Present, Failed, Reason::CreateFailed, false),
                ["false", "false", "false", "false"],
            ),
            (
                inputs(Absent, Running, Reason::DeletionHeld, false),
                ["true", "false", "true", "false"],
            ),
            // Declared present again: the deletion is not deferred any more.
            (
                inputs(Present, Running, Reason::DeletionHeld, false),
                ["true", "true", "false", "false"],
            ),
            (
                inputs(Absent, Deleting, Reason::Deleting, false),
                ["false", "true", "false", "false"],
            ),
            (
                inputs(DesiredStopped, Stopped, Reason::Stopped, true),
                ["false", "false", "false", "true"],
            ),
        ] {
            assert_eq!(statuses(inputs), expected, "{inputs:?}");
        }
        let paused = ConditionInputs {
            observe_only: true,
            ..inputs(Absent, Running, Reason::DeletionHeld, false)
        };
        assert_eq!(statuses(paused), ["true", "false", "false", "false"]);
        let step_failed = ConditionInputs {
            steps_left: true,
            ..inputs(Present, Running, Reason::StepFailed, true)
        };
        assert_eq!(statuses(step_failed), ["true", "false", "false", "false"]);
        let unobserved = ConditionInputs {
            actual: Unknown,
            ..step_failed
        };
        assert_eq!(statuses(unobserved)[3], "false");
        let flapping = ConditionInputs {
            flapping: true,
            ..inputs(Present, Running, Reason::Flapping, true)
        };
        assert_eq!(statuses(flapping), ["true", "false", "false", "true"]);
        assert_eq!(
            flapping.condition(ConditionType::Flapping),
            ConditionStatus::True
        );
    }
}
