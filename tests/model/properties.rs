//! What must always hold, and what must be reachable for that to mean much.
//!
//! "It converges" is checked as an `always`, of every state: once no fault and
//! no change comes any more, the system comes to rest as its row wants. An
//! `eventually` of `stateright` overlooks paths that end in a cycle, and a
//! protocol that retries is full of cycles.

use std::hash::{DefaultHasher, Hash, Hasher};

use kindler::cluster::Desired;
use kindler::plan::{Action, interrupt};
use stateright::{Model, Property};

use crate::protocol::{Event, Protocol};
use crate::state::{Breach, Place, State};
use crate::world::{Form, Phase, Work};

pub const ONE_COMMAND: &str = "never two live commands";
pub const FENCED_STATUS: &str = "no status is written with an outdated fence";
pub const FENCED_SPAWN: &str = "no command is started with an outdated fence";
pub const FENCED_EFFECT: &str = "no command changes the host with an outdated fence";
pub const STATUS_OF_ITS_ROW: &str = "every status was decided on the row it is written onto";
pub const ORDERED_DELETE: &str = "no delete that the row did not order";
pub const REMOVED_WHEN_GONE: &str = "a row goes only when it says absent and the cluster is gone";
pub const TRUE_RECORD: &str = "a spec that is recorded as applied is applied";
pub const CONVERGES: &str = "once faults end it converges";

/// More steps than any state needs to come to rest.
const ENOUGH_STEPS: u8 = 100;

pub fn all() -> Vec<Property<Protocol>> {
    let mut properties = always();
    properties.extend(sometimes());
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
        Property::always(CONVERGES, converges),
    ]
}

/// The dangers that the properties are about do come up.
fn sometimes() -> Vec<Property<Protocol>> {
    vec![
        Property::sometimes(
            "an owner without a lease is about to write",
            |_, state: &State| {
                is_stale(state, |place| {
                    matches!(place, Place::Writing(..) | Place::Concluding(..))
                })
            },
        ),
        Property::sometimes(
            "an owner without a lease is about to start",
            |_, state: &State| is_stale(state, |place| matches!(place, Place::Spawning(..))),
        ),
        Property::sometimes(
            "an owner without a lease is about to remove",
            |_, state: &State| is_stale(state, |place| matches!(place, Place::Removing(_))),
        ),
        Property::sometimes(
            "a command lives whose owner does not",
            |_, state: &State| {
                state
                    .commands
                    .iter()
                    .any(|command| state.is_orphan(command))
            },
        ),
        Property::sometimes("a withdrawn delete runs", |_, state: &State| {
            state.commands.iter().any(|c| c.action == Action::Delete)
                && state.row.is_some_and(|row| row.desired != Desired::Absent)
        }),
        Property::sometimes(
            "a lost write is astray under a taken lease",
            |_, state: &State| state.astray.is_some() && state.lease.is_some(),
        ),
        Property::sometimes("a row is removed", |_, state: &State| state.row.is_none()),
    ]
}

fn is_stale(state: &State, place: fn(&Place) -> bool) -> bool {
    let mut owners = state.owners.iter();
    owners.any(|owner| owner.term > 0 && !state.holds(owner.term) && place(&owner.place))
}

fn record_is_true(state: &State) -> bool {
    let applied = state.row.and_then(|row| row.applied);
    applied.is_none() || state.world.form == Form::Absent || state.world.of == applied
}

fn converges(protocol: &Protocol, state: &State) -> bool {
    if state.breach.is_some() || state.commands.len() > 1 {
        return true; // another property's concern
    }
    let mut path = Vec::new();
    let mut now = state.clone();
    let mut left = loop {
        let key = fingerprint(&now);
        if let Some(known) = protocol.followed.lock().expect("no panic").get(&key) {
            break *known;
        }
        path.push(key);
        let Some(event) = calm(protocol, &now) else {
            if !at_rest(&now) {
                return false;
            }
            path.pop();
            protocol.followed.lock().expect("no panic").insert(key, 0);
            break 0;
        };
        if path.len() > usize::from(ENOUGH_STEPS) {
            return false;
        }
        match protocol.next_state(&now, event) {
            Some(next) => now = next,
            None => return false,
        }
    };
    let mut followed = protocol.followed.lock().expect("no panic");
    while let Some(key) = path.pop() {
        left = left.saturating_add(1);
        followed.insert(key, left);
    }
    left <= ENOUGH_STEPS
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// What happens next where nothing goes wrong any more; none at the end.
pub fn calm(protocol: &Protocol, state: &State) -> Option<Event> {
    if state.astray.is_some() {
        return Some(Event::Land);
    }
    if let Some(command) = state.commands.first() {
        if protocol.must_end(state, command) {
            return Some(Event::Guard(0));
        }
        return Some(hears_a_change(state).unwrap_or(match command.phase {
            Phase::Begun if command.has_a_middle() => Event::Work(0, Work::Begin),
            Phase::Begun | Phase::HalfWay => Event::Work(0, Work::Finish),
        }));
    }
    let busy = |owner: &crate::state::Owner| owner.place != Place::Idle;
    if let Some(index) = state.owners.iter().position(busy) {
        return Some(Event::Proceed(index));
    }
    if state.lease.is_some() {
        return Some(Event::Tick);
    }
    let row = state.row?;
    if at_rest(state) {
        None
    } else if row.is_due() {
        Some(Event::Proceed(0))
    } else {
        Some(Event::ComeDue)
    }
}

/// A running command's owner renews, and hears that something else is wanted.
fn hears_a_change(state: &State) -> Option<Event> {
    let wanted = state.row?.desired;
    let concerned = |owner: &crate::state::Owner| matches!(owner.place, Place::Acting(_, action, None) if interrupt(action, wanted).is_some());
    state.owners.iter().position(concerned).map(Event::Renew)
}

/// Nothing is under way, and the host is as the row wants it.
fn at_rest(state: &State) -> bool {
    let Some(row) = state.row else {
        return state.world.form == Form::Absent;
    };
    row.settled()
        && match row.desired {
            Desired::Present => {
                state.world.form == Form::Healthy && state.world.of == Some(row.spec)
            }
            // Not every driver can tell what is stopped from what is ill.
            Desired::Stopped => state.world.form != Form::Healthy,
            Desired::Absent => false,
        }
}
