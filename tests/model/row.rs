//! A row of `clusters` in few bytes.
//!
//! Time is one question only: has a row's next time come or not.

use std::sync::OnceLock;

use jiff::Timestamp;
use kindler::clusters::observation::Observation;
use kindler::clusters::plan::{Applied, Failure, Outcome, Persistence, Status};
use kindler::clusters::{Actual, Cluster, ClusterName, Desired, PartialSpec};

pub const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
pub const EARLIER: Timestamp = Timestamp::constant(1_700_000_000, 0);
pub const LATER: Timestamp = Timestamp::constant(1_900_000_000, 0);

/// Two specs are enough: one to leave, and to come back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    A,
    B,
}

impl Shape {
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// The columns that decisions depend on. The count of failed attempts is left
/// out: it only stretches delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    pub desired: Desired,
    pub actual: Actual,
    pub spec: Shape,
    /// `observed_spec_hash`
    pub applied: Option<Shape>,
    pub generation: u8,
    /// `observed_generation = generation`
    pub reached: bool,
    /// `next_attempt_at` lies ahead
    pub attempt_later: bool,
    /// `next_check_at` lies ahead
    pub check_later: bool,
    pub health_failures: u8,
    /// Only to be looked at, until resumed.
    pub paused: bool,
}

impl Row {
    /// As a person inserts it.
    pub fn declared(generation: u8) -> Self {
        Self {
            desired: Desired::Present,
            actual: Actual::Unknown,
            spec: Shape::A,
            applied: None,
            generation,
            reached: false,
            attempt_later: false,
            check_later: false,
            health_failures: 0,
            paused: false,
        }
    }

    /// A person pauses or resumes it, which is no new generation.
    pub fn paused_or_resumed(self) -> Self {
        let row = Self {
            paused: !self.paused,
            ..self
        };
        row.without_idle_times()
    }

    /// A person changes it: what the trigger `clusters_govern_update` does.
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
        if self.only_checks_are_due() {
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

    fn only_checks_are_due(&self) -> bool {
        self.paused || self.settled()
    }

    /// Whether a decision on the one may be written onto the other: wanted
    /// alike, and recorded alike.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
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

    /// The row after a status was written: `Status::apply_to`, and for the
    /// hash of the spec, which a `Cluster` holds as yes or no, what
    /// `write_status.sql` does with it.
    pub fn with(&self, status: &Status, held: &Self) -> Self {
        let mut cluster = self.cluster();
        status.apply_to(&mut cluster, NOW);
        let ahead = |time: Option<Timestamp>| time.is_some_and(|time| time > NOW);
        Self {
            actual: cluster.actual,
            applied: match status.applied {
                Applied::Kept => self.applied,
                Applied::Cleared => None,
                Applied::Proven => Some(held.spec),
            },
            reached: cluster.observed_generation == cluster.generation,
            attempt_later: ahead(cluster.next_attempt_at),
            check_later: ahead(cluster.next_check_at),
            // More of them mean the same.
            health_failures: cluster.health_failures.min(2).try_into().expect("few"),
            ..*self
        }
        .without_idle_times()
    }

    /// Only one of the two times counts, and it is set anew by every write
    /// that makes it count: the other need not be told apart.
    fn without_idle_times(self) -> Self {
        let checks = self.only_checks_are_due();
        Self {
            attempt_later: self.attempt_later && !checks,
            check_later: self.check_later && checks,
            ..self
        }
    }
}

/// A value of [`Observation`], without its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seen {
    Healthy,
    Ill,
    Stopped,
    Absent,
    Nothing,
}

impl Seen {
    pub fn observation(self) -> Observation {
        match self {
            Self::Healthy => Observation::HEALTHY,
            Self::Ill => Observation::unhealthy("refused"),
            Self::Stopped => Observation::STOPPED,
            Self::Absent => Observation::Absent,
            Self::Nothing => Observation::unknown("no answer"),
        }
    }
}

/// How a command ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ended {
    Well,
    Badly,
}

impl Ended {
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Well => Outcome::Succeeded,
            Self::Badly => Outcome::Failed(Failure {
                persistence: Persistence::Transient,
                summary: "exit code 1".into(),
                detail: String::new(),
            }),
        }
    }
}

pub fn template() -> &'static Cluster {
    static TEMPLATE: OnceLock<Cluster> = OnceLock::new();
    TEMPLATE.get_or_init(|| Cluster {
        retry_requested_at: None,
        name: ClusterName::parse("dev").expect("a name"),
        uid: uuid::Uuid::from_u128(1),
        spec_hash: String::new(),
        spec: PartialSpec::default().or_default(),
        desired: Desired::Present,
        actual: Actual::Unknown,
        status_reason: None,
        status_message: None,
        reconcile_error: None,
        labels: serde_json::json!({}),
        paused: false,
        protected: false,
        generation: 1,
        observed_generation: 0,
        spec_applied: false,
        failed_attempts: 0,
        next_attempt_at: None,
        health_failures: 0,
        last_healthy_at: None,
        next_check_at: None,
        last_reconciled_at: None,
        server_ip: None,
        placed_by: None,
        created_at: None,
        updated_at: None,
    })
}
