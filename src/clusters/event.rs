//! The reasons of cluster states: one list for rows, events, log lines, metric labels, the
//! API and the page.

use std::fmt;

/// Why a cluster is in its state: a closed set, so that it can be a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The intent to create it is committed.
    Creating,
    /// The create succeeded and the cluster is healthy.
    Created,
    /// The create command failed, but the cluster is healthy.
    CreatedWithWarning,
    /// The create failed.
    CreateFailed,
    /// The intent to apply the spec is committed.
    Updating,
    /// The spec is applied and the cluster is healthy.
    Updated,
    /// The update failed.
    UpdateFailed,
    /// The intent to start it is committed.
    Starting,
    /// It was started and is healthy.
    Started,
    /// The start failed.
    StartFailed,
    /// The intent to stop it is committed.
    Stopping,
    /// It is stopped.
    Stopped,
    /// The stop failed.
    StopFailed,
    /// It was declared stopped before it was created.
    NotCreated,
    /// Its delete is deferred by the cap on deletions per minute.
    DeletionHeld,
    /// The intent to delete it is committed.
    Deleting,
    /// It is deleted.
    Deleted,
    /// The delete failed, or could not be verified.
    DeleteFailed,
    /// Its probe succeeded.
    Healthy,
    /// A probe failed, but not often enough to count the cluster as lost.
    ProbeFailed,
    /// Too many probes failed in a row.
    HealthLost,
    /// Its repair is deferred while most clusters do not answer.
    RepairHeld,
    /// It is healthy again without a repair.
    Recovered,
    /// It could not be observed.
    ObservationFailed,
    /// A step of the running cluster failed.
    StepFailed,
    /// A newer release or another driver created steps that this daemon cannot remove.
    StepsUnknown,
    /// It is paused: only observed.
    Paused,
    /// It is protected: only observed.
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

    /// The reason with this word, if there is one.
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
    fn every_reason_has_its_own_word() {
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
