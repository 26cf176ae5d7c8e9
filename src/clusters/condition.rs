//! The conditions of a cluster, as Kubernetes knows them: a few questions,
//! each answered yes, no, or not known.

use super::{Actual, Desired};
use crate::clusters::event::Reason;

/// A question about a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionType {
    /// Does it answer?
    Ready,
    /// Is something left to do that is being done, or about to be?
    Progressing,
    /// Does what is to be done wait for the good of all?
    Held,
    /// Is every step of what is declared done?
    StepsDone,
}

impl ConditionType {
    /// Every question.
    pub const ALL: [Self; 4] = [Self::Ready, Self::Progressing, Self::Held, Self::StepsDone];

    /// The word in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Progressing => "Progressing",
            Self::Held => "Held",
            Self::StepsDone => "StepsDone",
        }
    }
}

/// The answer to such a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// Yes.
    True,
    /// No.
    False,
    /// Nobody could look, or nobody has yet.
    Unknown,
}

impl ConditionStatus {
    /// Every answer.
    pub const ALL: [Self; 3] = [Self::True, Self::False, Self::Unknown];

    /// The word in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::False => "false",
            Self::Unknown => "unknown",
        }
    }

    fn of(answer: bool) -> Self {
        if answer { Self::True } else { Self::False }
    }
}

/// What the answers depend on: a part of the row, and of its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is wanted.
    pub desired: Desired,
    /// What was last recorded.
    pub actual: Actual,
    /// Why, if it is a word that is known.
    pub reason: Option<Reason>,
    /// Whether nothing is left to do.
    pub settled: bool,
    /// Whether nobody may act on it.
    pub hands_off: bool,
    /// Whether a recorded step is not done, also one that may fail.
    pub steps_left: bool,
}

impl Standing {
    /// The answer to one question.
    pub fn condition(self, question: ConditionType) -> ConditionStatus {
        match question {
            ConditionType::Ready => self.ready(),
            ConditionType::Progressing => ConditionStatus::of(self.progressing()),
            ConditionType::Held => ConditionStatus::of(self.held()),
            ConditionType::StepsDone => self.steps_done(),
        }
    }

    fn ready(self) -> ConditionStatus {
        // A look that failed tells nothing; what it was about may run or not.
        if self.actual == Actual::Unknown || self.reason == Some(Reason::ObservationFailed) {
            return ConditionStatus::Unknown;
        }
        ConditionStatus::of(matches!(self.actual, Actual::Running | Actual::Updating))
    }

    fn steps_done(self) -> ConditionStatus {
        // What is recorded of a step stands, also where nobody could look lately.
        if self.actual == Actual::Unknown && !self.steps_left {
            return ConditionStatus::Unknown;
        }
        ConditionStatus::of(self.settled && !self.steps_left)
    }

    fn progressing(self) -> bool {
        match self.actual {
            Actual::Creating | Actual::Updating | Actual::Stopping | Actual::Deleting => true,
            // It waits for its next attempt.
            Actual::Failed => false,
            Actual::Unknown | Actual::Running | Actual::Stopped => {
                !self.settled && !self.hands_off && !self.held()
            }
        }
    }

    fn held(self) -> bool {
        let wanted_gone = self.desired == Desired::Absent;
        let held = match self.reason {
            Some(Reason::DeletionHeld) => wanted_gone,
            Some(Reason::RepairHeld) => !wanted_gone,
            _ => false,
        };
        held && !self.hands_off
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(desired: Desired, actual: Actual, reason: Reason, settled: bool) -> Standing {
        Standing {
            desired,
            actual,
            reason: Some(reason),
            settled,
            hands_off: false,
            steps_left: false,
        }
    }

    fn answers(standing: Standing) -> [&'static str; 4] {
        ConditionType::ALL.map(|question| standing.condition(question).as_str())
    }

    #[test]
    fn each_standing_has_its_answers() {
        use Actual::{Creating, Deleting, Failed, Running, Stopped, Unknown, Updating};
        use Desired::{Absent, Present, Stopped as WantedStopped};
        for (standing, expected) in [
            (
                standing(Present, Running, Reason::Healthy, true),
                ["true", "false", "false", "true"],
            ),
            (
                standing(Present, Running, Reason::ObservationFailed, true),
                ["unknown", "false", "false", "true"],
            ),
            (
                standing(Present, Running, Reason::Healthy, false),
                ["true", "true", "false", "false"],
            ),
            (
                standing(Present, Running, Reason::RepairHeld, true),
                ["true", "false", "true", "true"],
            ),
            (
                standing(Present, Unknown, Reason::Deleted, false),
                ["unknown", "true", "false", "unknown"],
            ),
            (
                standing(Present, Creating, Reason::Creating, false),
                ["false", "true", "false", "false"],
            ),
            (
                standing(Present, Updating, Reason::Updating, false),
                ["true", "true", "false", "false"],
            ),
            (
                standing(Present, Failed, Reason::CreateFailed, false),
                ["false", "false", "false", "false"],
            ),
            (
                standing(Absent, Running, Reason::DeletionHeld, false),
                ["true", "false", "true", "false"],
            ),
            // Wanted again meanwhile: nothing is held any more.
            (
                standing(Present, Running, Reason::DeletionHeld, false),
                ["true", "true", "false", "false"],
            ),
            (
                standing(Absent, Deleting, Reason::Deleting, false),
                ["false", "true", "false", "false"],
            ),
            (
                standing(WantedStopped, Stopped, Reason::Stopped, true),
                ["false", "false", "false", "true"],
            ),
        ] {
            assert_eq!(answers(standing), expected, "{standing:?}");
        }
        let paused = Standing {
            hands_off: true,
            ..standing(Absent, Running, Reason::DeletionHeld, false)
        };
        assert_eq!(answers(paused), ["true", "false", "false", "false"]);
        let step_failed = Standing {
            steps_left: true,
            ..standing(Present, Running, Reason::StepFailed, true)
        };
        assert_eq!(answers(step_failed), ["true", "false", "false", "false"]);
        let not_seen = Standing {
            actual: Unknown,
            ..step_failed
        };
        assert_eq!(answers(not_seen)[3], "false");
    }
}
