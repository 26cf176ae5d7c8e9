//! The host: one cluster, and the commands that change it in visible steps.
//!
//! It does not know rows, leases or owners.

use kindler::clusters::plan::Action;

use crate::row::{CommandResult, Observed, SpecVersion};
use crate::steps::{Artifacts, CLUSTER};

/// The state of the cluster on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    Absent,
    Healthy,
    Unhealthy,
    Stopped,
}

/// The cluster on the host and the spec that was applied to it; no spec after a command
/// was killed between its effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    pub condition: Condition,
    pub spec: Option<SpecVersion>,
}

impl Host {
    pub const ABSENT: Self = Self {
        condition: Condition::Absent,
        spec: None,
    };

    pub fn new(condition: Condition, spec: Option<SpecVersion>) -> Self {
        match condition {
            Condition::Absent => Self::ABSENT,
            Condition::Healthy | Condition::Unhealthy | Condition::Stopped => {
                Self { condition, spec }
            }
        }
    }

    pub fn observed(self) -> Observed {
        match self.condition {
            Condition::Absent => Observed::Absent,
            Condition::Healthy => Observed::Healthy,
            Condition::Unhealthy => Observed::Unhealthy,
            Condition::Stopped => Observed::Stopped,
        }
    }

    /// A command is half-way, and may be killed here.
    pub fn half_done(self, action: Action, spec: SpecVersion) -> Self {
        match action {
            // A healthy cluster stays healthy while a spec is applied to it.
            Action::Create | Action::Update if self.condition == Condition::Healthy => Self::new(
                Condition::Healthy,
                self.spec.filter(|applied| *applied == spec),
            ),
            Action::Create | Action::Update => Self::new(
                Condition::Unhealthy,
                self.spec.filter(|applied| *applied == spec),
            ),
            Action::Delete if self.condition != Condition::Absent => {
                Self::new(Condition::Unhealthy, None)
            }
            Action::Delete | Action::Start | Action::Stop => self,
        }
    }

    /// A command has done its work.
    pub fn done(self, action: Action, spec: SpecVersion) -> Self {
        match action {
            Action::Create | Action::Update => Self::new(Condition::Healthy, Some(spec)),
            // A half-made cluster does not start.
            Action::Start if self.spec.is_none() => Self::new(self.unhealthy().condition, None),
            Action::Start => Self::new(Condition::Healthy, self.spec),
            Action::Stop if self.condition == Condition::Absent => self,
            Action::Stop => Self::new(Condition::Stopped, self.spec),
            Action::Delete => Self::ABSENT,
        }
    }

    fn unhealthy(self) -> Self {
        match self.condition {
            Condition::Absent => self,
            Condition::Healthy | Condition::Unhealthy | Condition::Stopped => {
                Self::new(Condition::Unhealthy, self.spec)
            }
        }
    }

    /// What may happen to a cluster without any command.
    pub fn spontaneous_changes(self) -> &'static [Condition] {
        match self.condition {
            Condition::Absent => &[],
            Condition::Healthy => &[Condition::Unhealthy, Condition::Stopped, Condition::Absent],
            // Only a completely made cluster can recover.
            Condition::Unhealthy if self.spec.is_some() => {
                &[Condition::Healthy, Condition::Stopped, Condition::Absent]
            }
            Condition::Unhealthy | Condition::Stopped => &[Condition::Absent],
        }
    }
}

/// The progress of a running command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    Begun,
    HalfWay,
}

/// A running command, with what its guard knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    pub action: Action,
    pub spec: SpecVersion,
    /// The step that it executes; none: it does everything at once.
    pub step: Option<u8>,
    /// The term of the lease under which it was started.
    pub term: u8,
    pub phase: Phase,
    /// Ticks for which its guard still trusts the lease.
    pub trusted: u8,
    /// Its owner asked the guard to end it.
    pub cancelled: bool,
}

/// The next thing that a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// It makes its first effects.
    Begin,
    /// It makes the remaining effects and succeeds.
    Finish,
    /// It fails, with the effects so far.
    Fail,
    /// It fails after all its work: an error although the cluster runs.
    FinishThenFail,
    /// It reports success without having done the work.
    FalseSuccess,
    /// It fails for the last time: a best-effort removal is given up.
    GiveUp,
}

impl Command {
    pub fn live(action: Action, spec: SpecVersion, term: u8, trusted: u8) -> Self {
        Self {
            action,
            spec,
            step: None,
            term,
            phase: Phase::Begun,
            trusted,
            cancelled: false,
        }
    }

    /// Whether a kill can leave the work half done.
    pub fn can_be_half_done(self) -> bool {
        if self.artifact().is_some() {
            return false;
        }
        match self.action {
            Action::Create | Action::Update | Action::Delete => true,
            Action::Start | Action::Stop => false,
        }
    }

    /// The step other than the cluster's that it works on, if any.
    fn artifact(self) -> Option<usize> {
        self.step.map(usize::from).filter(|step| *step != CLUSTER)
    }

    /// Like [`Self::work`], for a step other than the cluster's.
    pub fn work_on_artifact(
        self,
        work: Work,
        artifacts: &mut Artifacts,
    ) -> Option<Option<CommandResult>> {
        let index = self.artifact()?;
        let made = (self.action != Action::Delete).then_some(self.spec);
        Some(match work {
            Work::Begin => None,
            Work::Finish | Work::FinishThenFail => {
                artifacts.set(index, made);
                Some(if work == Work::Finish {
                    CommandResult::Succeeded
                } else {
                    CommandResult::Failed
                })
            }
            Work::GiveUp => {
                artifacts.given_up = artifacts.last.is_some();
                Some(CommandResult::Failed)
            }
            Work::Fail | Work::FalseSuccess => Some(CommandResult::Failed),
        })
    }

    /// The host after this piece of work, and the result if the command ended.
    pub fn work(self, work: Work, host: Host) -> (Host, Option<CommandResult>) {
        // The cluster's step is always applied in full.
        let action = match self.action {
            Action::Start if self.step.is_some() => Action::Create,
            action => action,
        };
        match work {
            Work::Begin => (host.half_done(action, self.spec), None),
            Work::Finish => (host.done(action, self.spec), Some(CommandResult::Succeeded)),
            Work::Fail | Work::GiveUp => (host, Some(CommandResult::Failed)),
            Work::FinishThenFail => (host.done(action, self.spec), Some(CommandResult::Failed)),
            Work::FalseSuccess => (host, Some(CommandResult::Succeeded)),
        }
    }
}
