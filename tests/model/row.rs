//! A row of `clusters` in few bytes, and the product's own decisions about it.
//!
//! Everything that decides is asked of `kindler::clusters::plan`; nothing here may decide
//! by itself. Time is one question only: has a row's next time come or not.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::OnceLock;

use jiff::Timestamp;
use kindler::clusters::health::HealthPolicy;
use kindler::clusters::observation::Observation;
use kindler::clusters::plan::{
    Action, Applied, Conclusion, Decision, Failure, Moment, Outcome, Persistence, Policy, Status,
    conclude, plan,
};
use kindler::clusters::{Actual, Cluster, ClusterName, Desired, Port, Provider, Spec};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const LATER: Timestamp = Timestamp::constant(1_900_000_000, 0);

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

    fn cluster(&self) -> Cluster {
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
    fn with(&self, status: &Status, held: &Self) -> Self {
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
            health_failures: cluster.health_failures.try_into().unwrap_or(u8::MAX),
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
    fn observation(self) -> Observation {
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
    fn outcome(self) -> Outcome {
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

/// What a status was decided from, so that it can be decided again when the
/// write lands: a state of the model holds this instead of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grounds {
    Planned(Option<Seen>),
    Concluded(Action, Ended, Seen),
}

/// A [`Decision`] without the status in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    Rest,
    Look,
    Record,
    Act(Action),
    Remove,
}

/// What the product decides. The answer depends on nothing but the arguments,
/// so each question is put to it once per thread.
pub fn decide(row: &Row, grounds: Grounds) -> Decided {
    ANSWERS.with_borrow_mut(|answers| {
        *answers
            .decided
            .entry((*row, grounds))
            .or_insert_with(|| ask(row, grounds).0)
    })
}

/// The row as the product would write it onto `current`, decided on `held`.
pub fn written(current: &Row, held: &Row, grounds: Grounds) -> Row {
    ANSWERS.with_borrow_mut(|answers| {
        *answers
            .written
            .entry((*current, *held, grounds))
            .or_insert_with(|| {
                let status = ask(held, grounds).1.expect("only a status is written");
                current.with(&status, held)
            })
    })
}

#[derive(Default)]
struct Answers {
    decided: HashMap<(Row, Grounds), Decided>,
    written: HashMap<(Row, Row, Grounds), Row>,
}

thread_local! {
    static ANSWERS: RefCell<Answers> = RefCell::default();
}

fn ask(row: &Row, grounds: Grounds) -> (Decided, Option<Status>) {
    let moment = Moment {
        now: NOW,
        jitter: 0.5,
    };
    let cluster = row.cluster();
    match grounds {
        Grounds::Planned(seen) => {
            let observed = seen.map(Seen::observation);
            match plan(&cluster, observed.as_ref(), &policy(), moment) {
                Decision::Rest { .. } => (Decided::Rest, None),
                Decision::Observe { .. } => (Decided::Look, None),
                Decision::Record(status) => (Decided::Record, Some(status)),
                Decision::Act { action, intent } => (Decided::Act(action), Some(intent)),
                Decision::Remove => (Decided::Remove, None),
            }
        }
        Grounds::Concluded(action, ended, seen) => {
            let (outcome, seen) = (ended.outcome(), seen.observation());
            match conclude(&cluster, action, &outcome, &seen, &policy(), moment) {
                Conclusion::Record(status) => (Decided::Record, Some(status)),
                Conclusion::Remove => (Decided::Remove, None),
            }
        }
    }
}

/// Two failed probes mean lost, which saves states and shows the same.
fn policy() -> Policy {
    Policy {
        health: HealthPolicy {
            threshold: 2,
            ..HealthPolicy::default()
        },
        ..Policy::default()
    }
}

pub fn template() -> &'static Cluster {
    static TEMPLATE: OnceLock<Cluster> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let port = |number| Port::new("port", number).expect("a port");
        Cluster {
            retry_requested_at: None,
            name: ClusterName::parse("dev").expect("a name"),
            uid: uuid::Uuid::from_u128(1),
            spec_hash: String::new(),
            spec: Spec {
                provider: Provider::K3d,
                subnet: None,
                node_port: port(30080),
                pf_port: port(19000),
                http_port: port(18080),
                https_port: port(18443),
                register_portainer: true,
                haproxy_route: true,
                register_argocd: true,
            },
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
        }
    })
}
