//! The size of a run, and the defects that a model can be given on purpose.

use kindler::core::steps::Requirement;

use crate::steps::{CLUSTER, LAST, NETWORK};

/// Ticks that the database gives a lease.
pub const LEASE: u8 = 2;
/// Ticks that an owner and its guards trust it: less, by the time that a guard
/// needs to end a command. `kindler::core::lease` holds the same relation.
pub const TRUST: u8 = 1;

/// One rule of the protocol that a model breaks, to show that the properties
/// can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Defect {
    /// `write_status.sql` without the term.
    StatusIgnoresTerm,
    /// `write_status.sql` without the generation.
    StatusIgnoresGeneration,
    /// `write_status.sql` without the state that was read.
    StatusIgnoresState,
    /// `remove_cluster.sql` without generation, desire and term.
    RemovalIgnoresRow,
    /// `claim_cluster.sql` takes a lease over that has not expired.
    ClaimIgnoresLease,
    /// `release_lease.sql` without the term.
    ReleaseIgnoresTerm,
    /// Who looks at the fence before a spawn overlooks a pause.
    FenceIgnoresPause,
    /// A command is started without a look at the trust.
    SpawnIgnoresTrust,
    /// Commands run on when their owner is gone or its trust is over.
    NoGuard,
    /// An owner trusts its lease as long as the database does, and a tick more.
    TrustOutlivesLease,
    /// A look that failed is taken for absence.
    IgnoranceIsAbsence,
    /// An intent keeps the record that a spec is applied.
    IntentKeepsApplied,
    /// A lease whose owner died is kept for it.
    LeaseNeverEnds,
    /// The old system's dead end: nobody finishes a delete that was withdrawn.
    WithdrawnDeleteRests,
    /// The state machine's other dead end: an interrupted create is left alone.
    InterruptedCreateRests,
    /// A step acts before its start is committed.
    StartAfterEffect,
    /// `advance_steps.sql` without the generation.
    AdvanceIgnoresGeneration,
    /// `advance_steps.sql` without the term.
    AdvanceIgnoresTerm,
    /// A successor takes a step that is recorded as running for done.
    RunningCountsAsDone,
    /// A row is removed without asking what is left of its steps.
    RemovalIgnoresSteps,
    /// Every step is applied again in every run.
    AppliesEveryStep,
    /// What a newer release recorded is treated as one's own.
    VersionIgnored,
    /// An owner plans again without reading the steps again.
    StepsReadOnce,
    /// A cluster that answers is well, whatever became of its steps.
    FailedStepIgnored,
    /// A look shows that a step is there, but not as what it was declared.
    LooksMissTheInput,
}

/// In which steps the driver of a model works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// None: all at once, and nothing is recorded.
    AtOnce,
    /// One that cannot be observed by itself, as the host's own command.
    OneCommand,
    /// Network and cluster, which are required, and a best-effort step.
    BestEffortLast,
    /// Three that are required.
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

/// What a model may do, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub defect: Option<Defect>,
    pub layout: Layout,
    /// A step that a newer release made before the start.
    pub newer: Option<usize>,
    /// Changes of mind: of desire or spec, or a declaration anew.
    pub changes: u8,
    /// How often the row is paused or resumed.
    pub pauses: u8,
    /// Crashes, lost answers, failing looks and commands, misfortunes of the
    /// host, all together.
    pub faults: u8,
    /// Whether to start from every row and host, or from a declaration.
    pub from_every_row: bool,
    /// Whether an owner that has lost its lease, and only asks for what is
    /// refused without one, counts as refused: far fewer states.
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
