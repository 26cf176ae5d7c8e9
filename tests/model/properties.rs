//! What must always hold, and what must be reachable for that to mean much.
//!
//! "It converges" is checked as an `always`, of every state: once no fault and
//! no change comes any more, the system comes to rest as its row wants. An
//! `eventually` of `stateright` overlooks paths that end in a cycle, and a
//! protocol that retries is full of cycles.

use kindler::clusters::Desired;
use kindler::clusters::plan::Action;
use stateright::Property;

use crate::calm;
use crate::protocol::Protocol;
use crate::row::Shape;
use crate::rules::Rules;
use crate::state::{Breach, Owner, Place, State};
use crate::steps::{CLUSTER, NETWORK, Record, State as StepState};
use crate::world::Form;

pub const ONE_COMMAND: &str = "never two live commands";
pub const FENCED_STATUS: &str = "no status is written with an outdated fence";
pub const FENCED_SPAWN: &str = "no command is started with an outdated fence";
pub const HEEDED_PAUSE: &str = "no command is started that the fence shows as paused";
pub const FENCED_EFFECT: &str = "no command changes the host with an outdated fence";
pub const STATUS_OF_ITS_ROW: &str = "every status was decided on the row it is written onto";
pub const ORDERED_DELETE: &str = "no delete that the row did not order";
pub const REMOVED_WHEN_GONE: &str = "a row goes only when it says absent and the cluster is gone";
pub const TRUE_RECORD: &str = "a spec that is recorded as applied is applied";
pub const RECORDED_EFFECT: &str = "no step acts whose start its owner has not committed";
pub const START_IN_TIME: &str = "no step begins for a row that was changed or paused since";
pub const APPLIED_ONCE: &str = "no step is applied again that is done, in place and the same";
pub const TRUE_RUNNING: &str = "no row is settled as running whose required step failed";
pub const NEWER_KEPT: &str = "what a newer release recorded of a step stays";
pub const TRUE_STEP: &str = "a step that is recorded as done is not of another input";
pub const CONVERGES: &str = "once faults end it converges";

pub fn all(rules: &Rules) -> Vec<Property<Protocol>> {
    let mut properties = always();
    properties.extend(dangers(rules));
    properties
}

pub fn always() -> Vec<Property<Protocol>> {
    vec![
        Property::always(ONE_COMMAND, |_, state: &State| state.commands.len() <= 1),
        Property::always(FENCED_STATUS, |_, state: &State| {
            state.breach != Some(Breach::StaleStatus)
        }),
        Property::always(FENCED_SPAWN, |_, state: &State| {
            state.breach != Some(Breach::StaleSpawn)
        }),
        Property::always(HEEDED_PAUSE, |_, state: &State| {
            state.breach != Some(Breach::PausedSpawn)
        }),
        Property::always(FENCED_EFFECT, |_, state: &State| {
            state.breach != Some(Breach::StaleEffect)
        }),
        Property::always(STATUS_OF_ITS_ROW, |_, state: &State| {
            state.breach != Some(Breach::StatusOfAnotherRow)
        }),
        Property::always(ORDERED_DELETE, |_, state: &State| {
            state.breach != Some(Breach::DeleteNotOrdered)
        }),
        Property::always(REMOVED_WHEN_GONE, |_, state: &State| {
            state.breach != Some(Breach::RemovedTooEarly)
        }),
        Property::always(TRUE_RECORD, |_, state: &State| record_is_true(state)),
        Property::always(RECORDED_EFFECT, |_, state: &State| {
            state.breach != Some(Breach::UnrecordedEffect)
        }),
        Property::always(START_IN_TIME, |_, state: &State| {
            state.breach != Some(Breach::OutdatedStart)
        }),
        Property::always(APPLIED_ONCE, |_, state: &State| {
            state.breach != Some(Breach::NeedlessApply)
        }),
        Property::always(TRUE_RUNNING, |_, state: &State| {
            state.breach != Some(Breach::RunningWithoutStep)
        }),
        Property::always(NEWER_KEPT, |_, state: &State| {
            state.breach != Some(Breach::NewerChanged)
        }),
        Property::always(TRUE_STEP, |protocol: &Protocol, state: &State| {
            !protocol.rules.layout.observable() || steps_are_true(state)
        }),
        Property::always(CONVERGES, calm::converges),
    ]
}

/// The dangers that the properties are about, as far as these rules let them
/// come up: each must.
fn dangers(rules: &Rules) -> Vec<Property<Protocol>> {
    let mut dangers = vec![Property::sometimes(
        "an owner without a lease is about to start",
        |_, state| is_stale(state, |place| matches!(place, Place::Spawning(..))),
    )];
    if rules.newer.is_none() && (rules.changes > 0 || rules.from_every_row) {
        dangers.push(Property::sometimes(
            "a row is removed",
            |_, state: &State| state.row.is_none(),
        ));
    }
    if rules.faults > 0 {
        dangers.extend([
            Property::sometimes(
                "a command lives whose owner does not",
                |_, state: &State| {
                    let orphan = |command| state.is_orphan(command);
                    state.commands.iter().any(orphan)
                },
            ),
            Property::sometimes("a lost statement is astray", |_, state: &State| {
                state.astray.is_some()
            }),
        ]);
    }
    if !rules.fold {
        dangers.extend([
            Property::sometimes("an owner without a lease is about to write", |_, state| {
                is_stale(state, |place| {
                    matches!(place, Place::Writing(..) | Place::Concluding(..))
                })
            }),
            Property::sometimes("an owner without a lease is about to remove", |_, state| {
                is_stale(state, |place| matches!(place, Place::Removing(_)))
            }),
        ]);
    }
    if rules.pauses > 0 {
        dangers.push(Property::sometimes(
            "a row is paused whose command is about to start",
            |_, state: &State| {
                let fencing = |owner: &Owner| matches!(owner.place, Place::Fencing(..));
                state.row.is_some_and(|row| row.paused) && state.owners.iter().any(fencing)
            },
        ));
    }
    if rules.changes > 1 || rules.from_every_row {
        dangers.push(Property::sometimes(
            "a delete runs that was withdrawn",
            |_, state: &State| {
                state.commands.iter().any(|c| c.action == Action::Delete)
                    && state.row.is_some_and(|row| row.desired != Desired::Absent)
            },
        ));
    }
    dangers
}

fn is_stale(state: &State, place: fn(&Place) -> bool) -> bool {
    let mut owners = state.owners.iter();
    owners.any(|owner| owner.term > 0 && !state.holds(owner.term) && place(&owner.place))
}

fn record_is_true(state: &State) -> bool {
    let Some(applied) = state.row.and_then(|row| row.applied) else {
        return true;
    };
    // A step that is put back in a cluster that runs is recorded as under way.
    let under_way = |record: Record| record.state != StepState::Done;
    let known = state.world.of.is_none() && state.steps[CLUSTER].is_some_and(under_way);
    let cluster = state.world.form == Form::Absent || state.world.of == Some(applied);
    // What only a newer release may apply is left as it is.
    let newer = state.steps[NETWORK].is_some_and(|record| record.newer);
    let network = state.parts.network.is_none_or(|network| network == applied);
    (cluster || known) && (network || newer)
}

/// What was made is of the input that is recorded with it, or gone. The last
/// step cannot be seen to be of another.
fn steps_are_true(state: &State) -> bool {
    let done = |index: usize| {
        let done = |record: &Record| record.state == StepState::Done && !record.newer;
        state.steps[index].filter(done).map(|record| record.input)
    };
    let same = |made: Option<Shape>, input: Shape| made.is_none_or(|made| made == input);
    let network = done(NETWORK).is_none_or(|input| same(state.parts.network, input));
    let cluster = done(CLUSTER).is_none_or(|input| same(state.world.of, input));
    network && cluster
}
