//! The invariants, and the conditions that must be reachable for the invariants to be
//! meaningful.
//!
//! Convergence is checked as an `always` property of every state: without further
//! faults and changes the system comes to rest as its row declares. An `eventually`
//! property of `stateright` misses paths that end in a cycle, and a protocol that
//! retries is full of cycles.

use kindler::clusters::Desired;
use kindler::clusters::plan::Action;
use stateright::Property;

use crate::convergence;
use crate::host::Condition;
use crate::protocol::Protocol;
use crate::row::SpecVersion;
use crate::rules::Rules;
use crate::state::{Owner, Stage, State, Violation};
use crate::steps::{CLUSTER, NETWORK, Record, State as StepState};

pub const ONE_COMMAND: &str = "at most one command runs";
pub const FENCED_STATUS: &str = "no status is written with an outdated fence";
pub const FENCED_SPAWN: &str = "no command is started with an outdated fence";
pub const PAUSE_RESPECTED: &str = "no command is started although the fence shows a paused row";
pub const FENCED_EFFECT: &str = "no command changes the host with an outdated fence";
pub const STATUS_OF_ITS_ROW: &str = "a status is written only to the row version it was decided on";
pub const ORDERED_DELETE: &str = "no delete is committed that the row did not order";
pub const REMOVED_WHEN_ABSENT: &str =
    "a row is removed only when it says absent and the cluster is gone";
pub const APPLIED_SPEC_CORRECT: &str = "a spec that is recorded as applied is applied";
pub const RECORDED_EFFECT: &str = "no step acts before its owner has committed the start";
pub const START_CURRENT: &str = "no step begins for a row that was changed or paused since";
pub const APPLIED_ONCE: &str = "no step is applied again that is done, in place and unchanged";
pub const RUNNING_HAS_STEPS: &str = "no row is settled as running with a failed required step";
pub const NEWER_KEPT: &str = "the step records of a newer release are kept";
pub const STEP_INPUT_CORRECT: &str = "a step that is recorded as done has the recorded input";
pub const CONVERGES: &str = "without further faults the system converges";

pub fn all(rules: &Rules) -> Vec<Property<Protocol>> {
    let mut properties = always();
    properties.extend(reachable_conditions(rules));
    properties
}

pub fn always() -> Vec<Property<Protocol>> {
    vec![
        Property::always(ONE_COMMAND, |_, state: &State| state.commands.len() <= 1),
        Property::always(FENCED_STATUS, |_, state: &State| {
            state.violation != Some(Violation::StaleStatus)
        }),
        Property::always(FENCED_SPAWN, |_, state: &State| {
            state.violation != Some(Violation::StaleSpawn)
        }),
        Property::always(PAUSE_RESPECTED, |_, state: &State| {
            state.violation != Some(Violation::PausedSpawn)
        }),
        Property::always(FENCED_EFFECT, |_, state: &State| {
            state.violation != Some(Violation::StaleEffect)
        }),
        Property::always(STATUS_OF_ITS_ROW, |_, state: &State| {
            state.violation != Some(Violation::StatusOfAnotherRow)
        }),
        Property::always(ORDERED_DELETE, |_, state: &State| {
            state.violation != Some(Violation::DeleteNotOrdered)
        }),
        Property::always(REMOVED_WHEN_ABSENT, |_, state: &State| {
            state.violation != Some(Violation::RemovedTooEarly)
        }),
        Property::always(APPLIED_SPEC_CORRECT, |_, state: &State| {
            applied_spec_correct(state)
        }),
        Property::always(RECORDED_EFFECT, |_, state: &State| {
            state.violation != Some(Violation::UnrecordedEffect)
        }),
        Property::always(START_CURRENT, |_, state: &State| {
            state.violation != Some(Violation::OutdatedStart)
        }),
        Property::always(APPLIED_ONCE, |_, state: &State| {
            state.violation != Some(Violation::NeedlessApply)
        }),
        Property::always(RUNNING_HAS_STEPS, |_, state: &State| {
            state.violation != Some(Violation::RunningWithoutStep)
        }),
        Property::always(NEWER_KEPT, |_, state: &State| {
            state.violation != Some(Violation::NewerChanged)
        }),
        Property::always(STEP_INPUT_CORRECT, |protocol: &Protocol, state: &State| {
            !protocol.rules.layout.observable() || step_inputs_correct(state)
        }),
        Property::always(CONVERGES, convergence::converges),
    ]
}

/// The dangerous conditions that the invariants are about, as far as these rules can
/// produce them: each must be reachable.
fn reachable_conditions(rules: &Rules) -> Vec<Property<Protocol>> {
    let mut conditions = vec![Property::sometimes(
        "an owner without a lease is about to start",
        |_, state| is_stale(state, |stage| matches!(stage, Stage::Spawning(..))),
    )];
    if rules.newer.is_none() && (rules.changes > 0 || rules.from_every_row) {
        conditions.push(Property::sometimes(
            "a row is removed",
            |_, state: &State| state.row.is_none(),
        ));
    }
    if rules.faults > 0 {
        conditions.extend([
            Property::sometimes("a command runs without its owner", |_, state: &State| {
                let orphan = |command| state.is_orphan(command);
                state.commands.iter().any(orphan)
            }),
            Property::sometimes("a lost statement is delayed", |_, state: &State| {
                state.delayed.is_some()
            }),
        ]);
    }
    if !rules.fold {
        conditions.extend([
            Property::sometimes("an owner without a lease is about to write", |_, state| {
                is_stale(state, |stage| {
                    matches!(stage, Stage::Writing(..) | Stage::Concluding(..))
                })
            }),
            Property::sometimes("an owner without a lease is about to remove", |_, state| {
                is_stale(state, |stage| matches!(stage, Stage::Removing(_)))
            }),
        ]);
    }
    if rules.pauses > 0 {
        conditions.push(Property::sometimes(
            "a row is paused while its command is about to start",
            |_, state: &State| {
                let fencing = |owner: &Owner| matches!(owner.stage, Stage::Fencing(..));
                state.row.is_some_and(|row| row.paused) && state.owners.iter().any(fencing)
            },
        ));
    }
    if rules.changes > 1 || rules.from_every_row {
        conditions.push(Property::sometimes(
            "a delete runs after it was withdrawn",
            |_, state: &State| {
                state.commands.iter().any(|c| c.action == Action::Delete)
                    && state.row.is_some_and(|row| row.desired != Desired::Absent)
            },
        ));
    }
    conditions
}

fn is_stale(state: &State, stage: fn(&Stage) -> bool) -> bool {
    let mut owners = state.owners.iter();
    owners.any(|owner| owner.term > 0 && !state.holds(owner.term) && stage(&owner.stage))
}

fn applied_spec_correct(state: &State) -> bool {
    let Some(applied) = state.row.and_then(|row| row.applied) else {
        return true;
    };
    // A step that is reapplied in a running cluster is recorded as running.
    let under_way = |record: Record| record.state != StepState::Done;
    let known = state.host.spec.is_none() && state.steps[CLUSTER].is_some_and(under_way);
    let cluster = state.host.condition == Condition::Absent || state.host.spec == Some(applied);
    // A step that only a newer release may apply is left alone.
    let newer = state.steps[NETWORK].is_some_and(|record| record.newer);
    let network = state
        .artifacts
        .network
        .is_none_or(|network| network == applied);
    (cluster || known) && (network || newer)
}

/// Every effect has the input that is recorded with it, or is gone. The last step's
/// effect does not show its input.
fn step_inputs_correct(state: &State) -> bool {
    let done = |index: usize| {
        let done = |record: &Record| record.state == StepState::Done && !record.newer;
        state.steps[index].filter(done).map(|record| record.input)
    };
    let same =
        |made: Option<SpecVersion>, input: SpecVersion| made.is_none_or(|made| made == input);
    let network = done(NETWORK).is_none_or(|input| same(state.artifacts.network, input));
    let cluster = done(CLUSTER).is_none_or(|input| same(state.host.spec, input));
    network && cluster
}
