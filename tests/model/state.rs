//! One state of the whole system, in a canonical form.
//!
//! Terms are renamed to 1, 2, 3 in their order, and the two owners are sorted: states
//! that differ only in names are equal.

use kindler::clusters::plan::Action;

use crate::decisions::Basis;
use crate::host::{Command, Condition, Host};
use crate::row::{CommandResult, Observed, Row, SpecVersion};
use crate::rules::Rules;
use crate::run::Run;
use crate::steps::{Artifacts, Record, Records, State as StepState};
use kindler::clusters::{Actual, Desired};

/// A violated invariant, noted by the transition that violated it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A term without a lease wrote a status.
    StaleStatus,
    /// A status was written to a row that had changed since the decision.
    StatusOfAnotherRow,
    /// A term without a lease started a command.
    StaleSpawn,
    /// A command was about to start although the fence showed a paused row.
    PausedSpawn,
    /// A command changed the host while its term held no lease.
    StaleEffect,
    /// A delete was committed that no `absent` had ordered.
    DeleteNotOrdered,
    /// A row was removed although the cluster existed or was still desired.
    RemovedTooEarly,
    /// A step acted before its owner had committed its start.
    UnrecordedEffect,
    /// A step began for a row that had been changed or paused since.
    OutdatedStart,
    /// A step began again although it was done, in place and of the same input.
    NeedlessApply,
    /// A row was settled as running although a required step had failed.
    RunningWithoutStep,
    /// The record of a newer release was changed.
    NewerChanged,
}

/// The row of `cluster_leases`, while it has not expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub term: u8,
    pub left: u8,
}

/// Why an owner cancels its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cancellation {
    DesireChanged,
    /// The lease is lost, or the process ends.
    OwnerStops,
}

/// The stage of `reconcile` that an owner is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Idle,
    /// The claim has read its snapshot and does not have the lease yet.
    Claiming(Row),
    /// Observes the cluster in order to plan.
    Observing(Row),
    /// Writes the status of the planned decision.
    Writing(Row, Option<Observed>),
    /// Checks the fence before the spawn.
    Fencing(Row, Action),
    Spawning(Row, Action),
    /// Looks for the next step that has to act.
    ObservingSteps(Row, ObserveFor),
    /// Writes the results of steps and the start of the next one.
    Advancing(Row, Action),
    Acting(Row, Action, Option<Cancellation>),
    /// Observes the cluster after a command has ended.
    Verifying(Row, Action, CommandResult),
    /// Writes the result of an action.
    Concluding(Row, Action, CommandResult, Observed),
    /// Writes that a required step of a running cluster is lost.
    WritingStepLost(Row),
    Removing(Row),
    /// A write was rejected: reads the row under the lease again.
    Reloading,
    Releasing,
}

/// Why an owner observes steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObserveFor {
    /// For an action that was planned with this observation.
    Intent(Option<Observed>),
    /// For the next step of this action.
    NextStep(Action),
    /// To maintain the steps of a healthy cluster.
    Maintenance,
}

/// The worker of one replica. After a crash a new, idle one replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// 0 means no lease.
    pub term: u8,
    /// Ticks for which it trusts its lease.
    pub trust: u8,
    pub stage: Stage,
    pub run: Run,
}

impl Owner {
    pub const IDLE: Self = Self {
        term: 0,
        trust: 0,
        stage: Stage::Idle,
        run: Run::NONE,
    };

    /// Whether it waits for a command that it started under this term.
    fn awaits(&self, term: u8) -> bool {
        self.term == term && matches!(self.stage, Stage::Acting(..))
    }

    /// An order for the two owners: only an idle or claiming one has no term of its
    /// own.
    fn rank(&self) -> (u8, Option<Row>, Run) {
        match self.stage {
            Stage::Claiming(read) => (self.term, Some(read), self.run),
            _ => (self.term, None, self.run),
        }
    }
}

/// The step records that a statement writes, and those that its sender knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepWrite {
    pub known: Records,
    pub changes: Records,
}

/// A statement that is sent to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Statement {
    Claim(Row),
    Renew(u8),
    Write(u8, Row, Basis, StepWrite),
    /// The row that the work is for, and the changes of its step records.
    Advance(u8, Row, StepWrite),
    Remove(u8, Row),
    Release(u8),
}

impl Statement {
    fn term(&mut self) -> Option<&mut u8> {
        match self {
            Self::Claim(_) => None,
            Self::Renew(term)
            | Self::Write(term, ..)
            | Self::Advance(term, ..)
            | Self::Remove(term, _)
            | Self::Release(term) => Some(term),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub row: Option<Row>,
    /// Is kept when the row is removed, as in `cluster_revisions`.
    pub generation: u8,
    pub lease: Option<Lease>,
    pub owners: [Owner; 2],
    pub commands: Vec<Command>,
    /// A statement whose sender gave up on it; it may still take effect.
    pub delayed: Option<Statement>,
    pub host: Host,
    /// The actual effects of the steps other than the cluster's.
    pub artifacts: Artifacts,
    /// The rows of `cluster_steps`.
    pub steps: Records,
    /// The row said `absent` when the recorded delete was committed.
    pub delete_ordered: bool,
    pub changes: u8,
    pub pauses: u8,
    pub faults: u8,
    pub violation: Option<Violation>,
}

impl State {
    /// The initial states that the rules ask for.
    pub fn starts(rules: &Rules) -> Vec<Self> {
        let fresh = Self {
            row: Some(Row::declared(1)),
            generation: 1,
            lease: None,
            owners: [Owner::IDLE; 2],
            commands: Vec::new(),
            delayed: None,
            host: Host::ABSENT,
            artifacts: Artifacts::NONE,
            steps: [None; 3],
            delete_ordered: false,
            changes: rules.changes,
            pauses: rules.pauses,
            faults: rules.faults,
            violation: None,
        };
        if !rules.from_every_row {
            return vec![fresh.made_by_newer(rules)];
        }
        let mut starts = Vec::new();
        for (desired, actual) in Desired::ALL
            .iter()
            .flat_map(|desired| Actual::ALL.iter().map(move |actual| (*desired, *actual)))
        {
            for (host, applied) in hosts() {
                // If an unobserved row finds a cluster that answers, the cluster is
                // adopted: so the rows of the old system are taken over.
                let foreign =
                    host.condition == Condition::Healthy && host.spec != Some(SpecVersion::A);
                if actual == Actual::Unknown && foreign {
                    continue;
                }
                starts.push(Self {
                    row: Some(Row {
                        desired,
                        actual,
                        applied,
                        reached: applied.is_some(),
                        ..Row::declared(1)
                    }),
                    host,
                    delete_ordered: actual == Actual::Deleting,
                    ..fresh.clone()
                });
            }
        }
        starts
    }

    /// A newer release made one step before the start.
    fn made_by_newer(mut self, rules: &Rules) -> Self {
        let Some(index) = rules.newer else {
            return self;
        };
        self.artifacts.set(index, Some(SpecVersion::A));
        self.steps[index] = Some(Record {
            newer: true,
            ..Record::new(StepState::Done, SpecVersion::A)
        });
        self
    }

    pub fn holds(&self, term: u8) -> bool {
        self.lease.is_some_and(|lease| lease.term == term)
    }

    /// The owner that waits for a command of this term; none if it crashed.
    pub fn owner_of_command(&mut self, term: u8) -> Option<&mut Owner> {
        self.owners.iter_mut().find(|owner| owner.awaits(term))
    }

    pub fn is_orphan(&self, command: &Command) -> bool {
        !self.owners.iter().any(|owner| owner.awaits(command.term))
    }

    /// A number above all terms in use.
    pub fn next_term(&mut self) -> u8 {
        let mut highest = 0;
        self.each_term(|term| highest = highest.max(*term));
        highest + 1
    }

    /// A step may act only if its start is committed under its owner's term.
    pub fn check_step_started(&mut self, command: &Command) {
        let Some(index) = command.step.map(usize::from) else {
            return;
        };
        let started = self.steps[index]
            .is_some_and(|record| record.state.is_start() && record.term == command.term);
        if !started {
            self.note_violation(Violation::UnrecordedEffect);
        }
    }

    pub fn note_violation(&mut self, violation: Violation) {
        self.violation = self.violation.or(Some(violation));
    }

    /// The same form for all states that differ only in names.
    pub fn canonical(mut self, rules: &Rules) -> Self {
        if rules.fold {
            self.fold();
        }
        self.clear_unused_terms();
        let mut known = [0; 16];
        self.each_term(|term| known[usize::from(*term)] = u8::from(*term > 0));
        self.each_term(|term| *term = known[..=usize::from(*term)].iter().sum());
        if self.owners[0].rank() > self.owners[1].rank() {
            self.owners.swap(0, 1);
        }
        self.commands
            .sort_by_key(|command| (command.term, command.phase, command.trusted));
        self
    }

    /// A lost term never becomes valid again. An owner that only sends statements under
    /// a lost term will be rejected, so it counts as rejected already.
    fn fold(&mut self) {
        for index in 0..self.owners.len() {
            let owner = self.owners[index];
            if owner.only_sends_statements() && !self.holds(owner.term) {
                self.owners[index] = Owner::IDLE;
            }
        }
        let mut delayed = self.delayed;
        if let Some(term) = delayed.as_mut().and_then(Statement::term)
            && !self.holds(*term)
        {
            self.delayed = None;
        }
    }

    /// A record's term does not matter once no owner, command or statement has it.
    fn clear_unused_terms(&mut self) {
        let mut steps = std::mem::take(&mut self.steps);
        let mut used = [false; 16];
        self.each_term(|term| used[usize::from(*term)] = true);
        for record in steps.iter_mut().flatten() {
            if !used[usize::from(record.term)] {
                record.term = 0;
            }
        }
        self.steps = steps;
    }

    fn each_term(&mut self, mut visit: impl FnMut(&mut u8)) {
        if let Some(lease) = &mut self.lease {
            visit(&mut lease.term);
        }
        for owner in &mut self.owners {
            visit(&mut owner.term);
        }
        for command in &mut self.commands {
            visit(&mut command.term);
        }
        for record in self.steps.iter_mut().flatten() {
            visit(&mut record.term);
        }
        if let Some(term) = self.delayed.as_mut().and_then(Statement::term) {
            visit(term);
        }
    }
}

/// Every host with every record that can be true of it.
fn hosts() -> Vec<(Host, Option<SpecVersion>)> {
    let mut hosts = Vec::new();
    for condition in [
        Condition::Absent,
        Condition::Healthy,
        Condition::Unhealthy,
        Condition::Stopped,
    ] {
        for spec in [None, Some(SpecVersion::A), Some(SpecVersion::B)] {
            let host = Host::new(condition, spec);
            hosts.push((host, None));
            if condition == Condition::Absent || spec == Some(SpecVersion::A) {
                hosts.push((host, Some(SpecVersion::A)));
            }
        }
    }
    hosts.dedup();
    hosts
}
