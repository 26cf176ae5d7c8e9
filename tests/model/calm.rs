//! Where the system goes once nothing goes wrong and nobody changes anything:
//! one fair way out of every state, followed to its rest.
//!
//! Every step of it is one that the model may take.

use std::hash::{DefaultHasher, Hash, Hasher};

use kindler::clusters::plan::interrupt;
use kindler::clusters::{Actual, Desired};
use stateright::Model;

use crate::protocol::{Event, Protocol};
use crate::row::Row;
use crate::state::{Owner, Place, State};
use crate::steps::{LAST, NETWORK, Record, State as StepState};
use crate::world::{Form, Phase, Work};

/// More steps than any state needs to come to rest.
const ENOUGH_STEPS: u8 = 100;

/// Whether it comes to rest from here. Ways join, so each is walked once.
pub fn converges(protocol: &Protocol, state: &State) -> bool {
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
            if !at_rest(protocol, &now) {
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

/// The way from here, for a person to read.
pub fn way(protocol: &Protocol, from: &State) -> Vec<(Event, State)> {
    let mut states = vec![from.clone()];
    let mut way = Vec::new();
    while let Some(state) = states.pop()
        && let Some(event) = calm(protocol, &state)
        && let Some(next) = protocol.next_state(&state, event)
        && way.len() < usize::from(ENOUGH_STEPS)
    {
        way.push((event, next.clone()));
        states.push(next);
    }
    way
}

/// What happens next where nothing goes wrong any more; none at the end.
fn calm(protocol: &Protocol, state: &State) -> Option<Event> {
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
    let busy = |owner: &Owner| owner.place != Place::Idle;
    if let Some(index) = state.owners.iter().position(busy) {
        return Some(Event::Proceed(index));
    }
    if state.lease.is_some() {
        return Some(Event::Tick);
    }
    let row = state.row?;
    if at_rest(protocol, state) {
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
    let concerned = |owner: &Owner| matches!(owner.place, Place::Acting(_, action, None) if interrupt(action, wanted).is_some());
    state.owners.iter().position(concerned).map(Event::Renew)
}

/// Nothing is under way, and the host is as the row wants it.
fn at_rest(protocol: &Protocol, state: &State) -> bool {
    let Some(row) = state.row else {
        return state.world.form == Form::Absent && !state.parts.anything();
    };
    if is_blocked(state, row) {
        return true;
    }
    if row.paused {
        // It was looked at, and nothing else is to be done.
        return !row.is_due();
    }
    row.settled()
        && match row.desired {
            Desired::Present => {
                state.world.form == Form::Healthy
                    && state.world.of == Some(row.spec)
                    && (!protocol.rules.layout.observable() || steps_in_place(state, row))
            }
            // Not every driver can tell what is stopped from what is ill.
            Desired::Stopped => state.world.form != Form::Healthy,
            Desired::Absent => false,
        }
}

/// Every step is recorded as done, and there.
fn steps_in_place(state: &State, row: Row) -> bool {
    let done = |record: &Option<Record>| {
        let same = |record: Record| record.state == StepState::Done && record.input == row.spec;
        record.is_some_and(|record| record.newer || same(record))
    };
    let newer = |index: usize| state.steps[index].is_some_and(|record| record.newer);
    state.steps.iter().all(done)
        && (newer(NETWORK) || state.parts.network == Some(row.spec))
        && (newer(LAST) || state.parts.last.is_some())
}

/// Only a newer release can go on: the row says so, and is looked at again.
fn is_blocked(state: &State, row: Row) -> bool {
    let left = |record: &Record| record.newer && !record.leaves_nothing();
    row.desired == Desired::Absent
        && row.actual == Actual::Failed
        && row.attempt_later
        && state.world.form == Form::Absent
        && state.steps.iter().flatten().any(left)
}
