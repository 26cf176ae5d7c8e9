//! A row of `clusters` in few bytes.
//!
//! Time is reduced to one question: is the row's next time in the future or not.

use std::sync::OnceLock;

use jiff::Timestamp;
use kindler::clusters::observation::Observation;
use kindler::clusters::plan::{Applied, Failure, Outcome, Persistence, Status};
use kindler::clusters::{Actual, Cluster, Desired};

use crate::cluster::sample_cluster;

pub const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
pub const EARLIER: Timestamp = Timestamp::constant(1_700_000_000, 0);
pub const LATER: Timestamp = Timestamp::constant(1_900_000_000, 0);

/// Two specs are enough: one to change to, and one to change back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecVersion {
    A,
    B,
}

impl SpecVersion {
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// The columns that decisions depend on, without the count of failed attempts, which
/// only lengthens delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    pub desired: Desired,
    pub actual: Actual,
    pub spec: SpecVersion,
    /// `observed_spec_hash`
    pub applied: Option<SpecVersion>,
    pub generation: u8,
    /// `observed_generation = generation`
    pub reached: bool,
    /// `next_attempt_at` is in the future
    pub attempt_later: bool,
    /// `next_check_at` is in the future
    pub check_later: bool,
    pub health_failures: u8,
    /// Only observed until it is resumed.
    pub paused: bool,
}

impl Row {
    /// The row as a person inserts it.
    pub fn declared(generation: u8) -> Self {
        Self {
            desired: Desired::Present,
            actual: Actual::Unknown,
            spec: SpecVersion::A,
            applied: None,
            generation,
            reached: false,
            attempt_later: false,
            check_later: false,
            health_failures: 0,
            paused: false,
        }
    }

    /// A person pauses or resumes it, which does not change the generation.
    pub fn paused_or_resumed(self) -> Self {
        let row = Self {
            paused: !self.paused,
            ..self
        };
        row.without_idle_times()
    }

    /// A person changes it, with the effect of the trigger `clusters_govern_update`.
    pub fn changed(self, change: impl FnOnce(&mut Self)) -> Self {
        let mut row = Self {
            generation: self.generation + 1,
            reached: false,
            attempt_later: false,
            check_later: false,
            ..self
        };
        change(&mut row);
        row
    }

    pub fn is_due(&self) -> bool {
        self.cluster().due_at().is_none_or(|due| due <= NOW)
    }

    pub fn settled(&self) -> bool {
        self.cluster().settled()
    }

    /// The same row once its next time has come.
    pub fn come_due(self) -> Self {
        if self.only_checks_count() {
            Self {
                check_later: false,
                ..self
            }
        } else {
            Self {
                attempt_later: false,
                ..self
            }
        }
    }

    fn only_checks_count(&self) -> bool {
        self.paused || self.settled()
    }

    /// Whether a decision on one row may be written to the other: both declare the same
    /// and have the same state.
    pub fn same_declaration_and_state(&self, other: &Self) -> bool {
        let said = |row: &Self| (row.generation, row.desired, row.spec, row.actual);
        said(self) == said(other)
    }

    pub fn cluster(&self) -> Cluster {
        let later = |ahead: bool| ahead.then_some(LATER);
        Cluster {
            desired: self.desired,
            actual: self.actual,
            generation: self.generation.into(),
            observed_generation: if self.reached {
                self.generation.into()
            } else {
                0
            },
            spec_applied: self.applied == Some(self.spec),
            next_attempt_at: later(self.attempt_later),
            next_check_at: later(self.check_later),
            health_failures: self.health_failures.into(),
            paused: self.paused,
            ..template().clone()
        }
    }

    /// The row after a status write: `Status::apply_to`, and the effect of
    /// `write_status.sql` on the spec hash, which a `Cluster` reduces to yes or no.
    pub fn with(&self, status: &Status, decided_on: &Self) -> Self {
        let mut cluster = self.cluster();
        status.apply_to(&mut cluster, NOW);
        let ahead = |time: Option<Timestamp>| time.is_some_and(|time| time > NOW);
        Self {
            actual: cluster.actual,
            applied: match status.applied {
                Applied::Kept => self.applied,
                Applied::Cleared => None,
                Applied::Proven => Some(decided_on.spec),
            },
            reached: cluster.observed_generation == cluster.generation,
            attempt_later: ahead(cluster.next_attempt_at),
            check_later: ahead(cluster.next_check_at),
            // More failures have the same effect.
            health_failures: cluster.health_failures.min(2).try_into().expect("few"),
            ..*self
        }
        .without_idle_times()
    }

    /// Only one of the two times counts, and every write that makes it count also sets
    /// it: the other one is normalized.
    fn without_idle_times(self) -> Self {
        let checks = self.only_checks_count();
        Self {
            attempt_later: self.attempt_later && !checks,
            check_later: self.check_later && checks,
            ..self
        }
    }
}

/// A value of [`Observation`], without its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Observed {
    Healthy,
    Unhealthy,
    Stopped,
    Absent,
    Unknown,
}

impl Observed {
    pub fn observation(self) -> Observation {
        match self {
            Self::Healthy => Observation::HEALTHY,
            Self::Unhealthy => Observation::unhealthy("refused"),
            Self::Stopped => Observation::STOPPED,
            Self::Absent => Observation::Absent,
            Self::Unknown => Observation::unknown("no answer"),
        }
    }
}

/// The result of a command that ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommandResult {
    Succeeded,
    Failed,
}

impl CommandResult {
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Succeeded => Outcome::Succeeded,
            Self::Failed => Outcome::Failed(Failure {
                persistence: Persistence::Transient,
                summary: "exit code 1".into(),
                detail: String::new(),
            }),
        }
    }
}

pub fn template() -> &'static Cluster {
    static TEMPLATE: OnceLock<Cluster> = OnceLock::new();
    // Healthy once, so that repairs have their own state.
    TEMPLATE.get_or_init(|| Cluster {
        last_healthy_at: Some(EARLIER),
        ..sample_cluster()
    })
}
