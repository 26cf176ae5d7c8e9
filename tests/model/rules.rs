//! The bounds of an exploration, and the deliberate defects of a model.

use kindler::core::steps::Requirement;

use crate::steps::{CLUSTER, LAST, NETWORK};

/// The lifetime of a lease in the database, in ticks.
pub const LEASE: u8 = 2;
/// Ticks for which an owner and its guards trust the lease: fewer, so that a guard has
/// time to end a command. `kindler::core::lease` keeps the same relation.
pub const TRUST: u8 = 1;

/// One rule of the protocol that a model breaks, to show that the properties can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Defect {
    /// `write_status.sql` without the term.
    StatusIgnoresTerm,
    /// `write_status.sql` without the generation.
    StatusIgnoresGeneration,
    /// `write_status.sql` without the state that was read.
    StatusIgnoresState,
    /// `remove.sql` without generation, desire and term.
    RemovalIgnoresRow,
    /// `claim.sql` takes over a lease that has not expired.
    ClaimIgnoresLease,
    /// `release.sql` without the term.
    ReleaseIgnoresTerm,
    /// The fence check before a spawn ignores a pause.
    FenceIgnoresPause,
    /// A command is started without a check of the trust.
    SpawnIgnoresTrust,
    /// Commands continue when their owner has gone or no longer trusts its lease.
    NoGuard,
    /// An owner trusts its lease one tick longer than the database keeps it.
    TrustOutlivesLease,
    /// The lease of a dead owner is released although a command of it still runs.
    LockIgnoresCommands,
    /// A failed observation counts as absence.
    FailedObservationIsAbsence,
    /// An intent keeps the record that a spec is applied.
    IntentKeepsApplied,
    /// The lease of a dead owner never expires.
    LeaseNeverExpires,
    /// The dead end of the old system: no owner finishes a withdrawn delete.
    WithdrawnDeleteNotFinished,
    /// The other dead end of the states: no owner finishes an interrupted create.
    InterruptedCreateNotFinished,
    /// A step acts before its start is committed.
    StartAfterEffect,
    /// `advance_steps.sql` without the generation.
    AdvanceIgnoresGeneration,
    /// `advance_steps.sql` without the term.
    AdvanceIgnoresTerm,
    /// A successor treats a step that is recorded as running as done.
    RunningCountsAsDone,
    /// A row is removed without a check for leftovers of its steps.
    RemovalIgnoresSteps,
    /// Every step is applied again in every run.
    AppliesEveryStep,
    /// A record of a newer release is treated like one of this release.
    VersionIgnored,
    /// An owner plans again without reading the steps again.
    StepsReadOnce,
    /// A cluster that answers counts as healthy although a step failed.
    FailedStepIgnored,
    /// An observation shows that a step exists, but not that its input is another one.
    ObservationMissesInput,
}

/// The steps in which the driver of a model works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// No steps: nothing is recorded.
    AtOnce,
    /// One step that cannot be observed separately, such as the host's own command.
    OneCommand,
    /// Network and cluster, which are required, and a best-effort step.
    BestEffortLast,
    /// Three required steps.
    AllRequired,
}

impl Layout {
    pub const ALL: [Self; 4] = [
        Self::AtOnce,
        Self::OneCommand,
        Self::BestEffortLast,
        Self::AllRequired,
    ];

    /// Its steps, in their order.
    pub fn steps(self) -> &'static [usize] {
        match self {
            Self::AtOnce => &[],
            Self::OneCommand => &[CLUSTER],
            Self::BestEffortLast | Self::AllRequired => &[NETWORK, CLUSTER, LAST],
        }
    }

    /// Whether its steps can be observed one by one.
    pub fn observable(self) -> bool {
        matches!(self, Self::BestEffortLast | Self::AllRequired)
    }

    pub fn requirement(self, index: usize) -> Requirement {
        if self == Self::BestEffortLast && index == LAST {
            Requirement::BestEffort
        } else {
            Requirement::Required
        }
    }
}

/// The layout of the steps, how many changes and faults may happen, and the defect, if
/// any.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub defect: Option<Defect>,
    pub layout: Layout,
    /// A step that a newer release made before the start.
    pub newer: Option<usize>,
    /// The number of changes of desire or spec, and of new declarations.
    pub changes: u8,
    /// The number of times that the row is paused or resumed.
    pub pauses: u8,
    /// The number of faults: crashes, lost answers, failed observations and commands,
    /// changes of the host without a command.
    pub faults: u8,
    /// Whether to start from every row and host, or from a new declaration.
    pub from_every_row: bool,
    /// Whether an owner that lost its lease, and will only send statements that are
    /// rejected without one, counts as rejected: far fewer states.
    pub fold: bool,
}

impl Rules {
    pub fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    pub fn trust(&self) -> u8 {
        if self.has(Defect::TrustOutlivesLease) {
            LEASE + 1
        } else {
            TRUST
        }
    }
}
