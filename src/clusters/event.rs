//! The reasons of cluster states: one list for rows, their events, log lines, metric labels,
//! the API and the page. The reasons of steps are in `core::steps`.

use std::fmt;

/// Why a cluster is in its state: a closed set, so that it can be a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "PascalCase")]
pub enum Reason {
    /// It is declared; no daemon has observed it yet.
    Declared,
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
    /// The intent to repair it in place is committed.
    Repairing,
    /// It is repaired in place and healthy.
    Repaired,
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
    /// It runs, but it fails probes and recovers again and again.
    Flapping,
    /// Too many probes failed in a row.
    HealthLost,
    /// Its repair is deferred while most clusters do not answer.
    RepairHeld,
    /// Its spec changes whenever its command runs: the change is applied after a pause.
    ChangeDeferred,
    /// It is healthy again without a repair.
    Recovered,
    /// It could not be observed.
    ObservationFailed,
    /// Its action waits until this host can run it.
    HostUnusable,
    /// It runs with other ports, another network or image than declared, which its provider
    /// cannot change.
    NeedsRecreation,
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
    /// The database refused a write to its row.
    WriteRefused,
}

impl Reason {
    /// Every reason.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The reason with this word, if there is one.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == word)
    }

    /// The word in the row, the label and the JSON.
    pub fn as_str(self) -> &'static str {
        self.into()
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
        for &reason in Reason::ALL {
            assert_eq!(Reason::named(reason.as_str()), Some(reason));
        }
        assert_eq!(Reason::named("no such reason"), None);
    }
}
