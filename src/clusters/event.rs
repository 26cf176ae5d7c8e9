//! The words in which Kindler explains itself.
//!
//! A [`Reason`] is what the row, the event, the log line, the metric label and
//! the page say about one and the same thing, so there is one list of them.

use std::fmt;

/// Why a cluster is in its state: a closed set, fit for a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A create was committed to.
    Creating,
    /// A create ended well and the cluster answers.
    Created,
    /// The create command failed, yet the cluster answers.
    CreatedWithWarning,
    /// The create failed.
    CreateFailed,
    /// A changed spec is being applied.
    Updating,
    /// The changed spec is applied and the cluster answers.
    Updated,
    /// The changed spec could not be applied.
    UpdateFailed,
    /// A start was committed to.
    Starting,
    /// It was started and answers.
    Started,
    /// The start failed.
    StartFailed,
    /// A stop was committed to.
    Stopping,
    /// It is stopped.
    Stopped,
    /// The stop failed.
    StopFailed,
    /// Declared stopped before it was ever made.
    NotCreated,
    /// Its delete waits, because many were begun within the last minute.
    DeletionHeld,
    /// A delete was committed to.
    Deleting,
    /// It is gone.
    Deleted,
    /// The delete failed, or could not be verified.
    DeleteFailed,
    /// It answered its probe.
    Healthy,
    /// It failed a probe, but not often enough to count as lost.
    ProbeFailed,
    /// It failed too many probes in a row.
    HealthLost,
    /// It needs a repair, and gets none while most clusters do not answer.
    RepairHeld,
    /// It answers again without a repair.
    Recovered,
    /// The last look failed, so nothing is known.
    ObservationFailed,
    /// It runs, and a step of it failed.
    StepFailed,
    /// A newer release made steps of it that this one does not know.
    StepsUnknown,
    /// Somebody paused it: only looked at.
    Paused,
    /// It is protected: only looked at.
    Protected,
    /// Its row cannot be read.
    RowInvalid,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 29] = [
        Self::Creating,
        Self::Created,
        Self::CreatedWithWarning,
        Self::CreateFailed,
        Self::Updating,
        Self::Updated,
        Self::UpdateFailed,
        Self::Starting,
        Self::Started,
        Self::StartFailed,
        Self::Stopping,
        Self::Stopped,
        Self::StopFailed,
        Self::NotCreated,
        Self::DeletionHeld,
        Self::Deleting,
        Self::Deleted,
        Self::DeleteFailed,
        Self::Healthy,
        Self::ProbeFailed,
        Self::HealthLost,
        Self::RepairHeld,
        Self::Recovered,
        Self::ObservationFailed,
        Self::StepFailed,
        Self::StepsUnknown,
        Self::Paused,
        Self::Protected,
        Self::RowInvalid,
    ];

    /// The reason that a word names, if it names one.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// The word in the row, the label and the JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Created => "Created",
            Self::CreatedWithWarning => "CreatedWithWarning",
            Self::CreateFailed => "CreateFailed",
            Self::Updating => "Updating",
            Self::Updated => "Updated",
            Self::UpdateFailed => "UpdateFailed",
            Self::Starting => "Starting",
            Self::Started => "Started",
            Self::StartFailed => "StartFailed",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
            Self::StopFailed => "StopFailed",
            Self::NotCreated => "NotCreated",
            Self::DeletionHeld => "DeletionHeld",
            Self::Deleting => "Deleting",
            Self::Deleted => "Deleted",
            Self::DeleteFailed => "DeleteFailed",
            Self::Healthy => "Healthy",
            Self::ProbeFailed => "ProbeFailed",
            Self::HealthLost => "HealthLost",
            Self::RepairHeld => "RepairHeld",
            Self::Recovered => "Recovered",
            Self::ObservationFailed => "ObservationFailed",
            Self::StepFailed => "StepFailed",
            Self::StepsUnknown => "StepsUnknown",
            Self::Paused => "Paused",
            Self::Protected => "Protected",
            Self::RowInvalid => "RowInvalid",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let mut words: Vec<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::named(reason.as_str()), Some(reason));
        }
        assert_eq!(Reason::named("no such reason"), None);
    }
}
