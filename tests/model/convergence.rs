//! The behaviour without further faults and changes: one fair path from every state,
//! followed until the system is at rest.
//!
//! Every step of the path is a transition of the model.

use std::hash::{DefaultHasher, Hash, Hasher};

use kindler::clusters::plan::interrupt;
use kindler::clusters::{Actual, Desired};
use stateright::Model;

use crate::host::{Condition, Phase, Work};
use crate::protocol::{Event, Protocol};
use crate::row::Row;
use crate::state::{Owner, Stage, State};
use crate::steps::{LAST, NETWORK, Record, State as StepState};

/// More steps than any state needs to come to rest.
const MAX_STEPS: u8 = 100;

/// Whether the system comes to rest from here. Paths join, so each is walked once.
pub fn converges(protocol: &Protocol, state: &State) -> bool {
    if state.violation.is_some() || state.commands.len() > 1 {
        return true; // another property's concern
    }
    let mut path = Vec::new();
    let mut now = state.clone();
    let mut left = loop {
        let key = fingerprint(&now);
        if let Some(known) = protocol.steps_to_rest.lock().expect("no panic").get(&key) {
            break *known;
        }
        path.push(key);
        let Some(event) = next_event(protocol, &now) else {
            if !at_rest(protocol, &now) {
                return false;
            }
            path.pop();
            protocol
                .steps_to_rest
                .lock()
                .expect("no panic")
                .insert(key, 0);
            break 0;
        };
        if path.len() > usize::from(MAX_STEPS) {
            return false;
        }
        match protocol.next_state(&now, event) {
            Some(next) => now = next,
            None => return false,
        }
    };
    let mut steps_to_rest = protocol.steps_to_rest.lock().expect("no panic");
    while let Some(key) = path.pop() {
        left = left.saturating_add(1);
        steps_to_rest.insert(key, left);
    }
    left <= MAX_STEPS
}

fn fingerprint(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// The path from here, as text.
pub fn path(protocol: &Protocol, from: &State) -> Vec<(Event, State)> {
    let mut states = vec![from.clone()];
    let mut path = Vec::new();
    while let Some(state) = states.pop()
        && let Some(event) = next_event(protocol, &state)
        && let Some(next) = protocol.next_state(&state, event)
        && path.len() < usize::from(MAX_STEPS)
    {
        path.push((event, next.clone()));
        states.push(next);
    }
    path
}

/// The next event without further faults; none at the end.
fn next_event(protocol: &Protocol, state: &State) -> Option<Event> {
    if state.delayed.is_some() {
        return Some(Event::ApplyDelayed);
    }
    if let Some(command) = state.commands.first() {
        if protocol.must_end(state, command) {
            return Some(Event::GuardKills(0));
        }
        return Some(desire_change(state).unwrap_or(match command.phase {
            Phase::Begun if command.can_be_half_done() => Event::Work(0, Work::Begin),
            Phase::Begun | Phase::HalfWay => Event::Work(0, Work::Finish),
        }));
    }
    let busy = |owner: &Owner| owner.stage != Stage::Idle;
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

/// The renewal with which the owner of a running command reads a changed desire.
fn desire_change(state: &State) -> Option<Event> {
    let expected = state.row?.desired;
    let must_read = |owner: &Owner| matches!(owner.stage, Stage::Acting(_, action, None) if interrupt(action, expected).is_some());
    state.owners.iter().position(must_read).map(Event::Renew)
}

/// Nothing is in progress, and the host is as the row declares.
fn at_rest(protocol: &Protocol, state: &State) -> bool {
    let Some(row) = state.row else {
        return state.host.condition == Condition::Absent && !state.artifacts.any_left();
    };
    if is_blocked(state, row) {
        return true;
    }
    if row.paused {
        // It was observed, and there is nothing else to do.
        return !row.is_due();
    }
    row.settled()
        && match row.desired {
            Desired::Present => {
                state.host.condition == Condition::Healthy
                    && state.host.spec == Some(row.spec)
                    && (!protocol.rules.layout.observable() || steps_in_place(state, row))
            }
            // Not every driver can distinguish a stopped cluster from an unhealthy one.
            Desired::Stopped => state.host.condition != Condition::Healthy,
            Desired::Absent => false,
        }
}

/// Every step is recorded as done, and exists.
fn steps_in_place(state: &State, row: Row) -> bool {
    let done = |record: &Option<Record>| {
        let same = |record: Record| record.state == StepState::Done && record.input == row.spec;
        record.is_some_and(|record| record.newer || same(record))
    };
    let newer = |index: usize| state.steps[index].is_some_and(|record| record.newer);
    state.steps.iter().all(done)
        && (newer(NETWORK) || state.artifacts.network == Some(row.spec))
        && (newer(LAST) || state.artifacts.last.is_some())
}

/// Only a newer release can continue: the row says so, and is checked again later.
fn is_blocked(state: &State, row: Row) -> bool {
    let left = |record: &Record| record.newer && !record.leaves_nothing();
    row.desired == Desired::Absent
        && row.actual == Actual::Failed
        && row.attempt_later
        && state.host.condition == Condition::Absent
        && state.steps.iter().flatten().any(left)
}
