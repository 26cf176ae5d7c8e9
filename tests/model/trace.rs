//! A path through the model, in lines that a person can follow.

use std::fmt::Write;

use stateright::Path;

use crate::calm;
use crate::protocol::{Event, Protocol};
use crate::row::Row;
use crate::state::State;
use crate::steps::{Parts, Record};

/// The path, and where the system then goes by itself.
pub fn told(protocol: &Protocol, path: Path<State, Event>) -> String {
    let mut told = String::new();
    let mut last = None;
    for (state, event) in path.into_vec() {
        let event = event.map_or("and there".to_owned(), |event| format!("{event:?}"));
        let _infallible = writeln!(told, "{}   {event}", line(&state));
        last = Some(state);
    }
    let Some(last) = last else { return told };
    let _infallible = writeln!(told, "breach: {:?}\nwithout further faults:", last.breach);
    told + &way(protocol, &last)
}

/// Where the system goes by itself from here.
pub fn way(protocol: &Protocol, from: &State) -> String {
    let mut told = line(from) + "\n";
    for (event, state) in calm::way(protocol, from).into_iter().take(30) {
        let _infallible = writeln!(told, "{}   {event:?}", line(&state));
    }
    told
}

fn line(state: &State) -> String {
    let owners = state
        .owners
        .map(|owner| format!("{}:{}", owner.term, short(&owner.place)));
    format!(
        "{:24} host {:?}/{:?}{}  lease {:?}  owners {}",
        state.row.map_or("no row".to_owned(), row),
        state.world.form,
        state.world.of,
        steps(state),
        state.lease.map(|lease| (lease.term, lease.left)),
        owners.join(" "),
    )
}

/// What is there of the steps, and what is recorded of them; nothing without any.
fn steps(state: &State) -> String {
    if state.parts == Parts::NONE && state.steps == [None; 3] {
        return String::new();
    }
    let record = |record: Option<Record>| {
        let told = |r: Record| format!("{:?}/{:?}", r.state, r.input);
        record.map_or("-".to_owned(), told)
    };
    let parts = (state.parts.network, state.parts.last);
    format!(" {parts:?} steps {}", state.steps.map(record).join(" "))
}

fn row(row: Row) -> String {
    let applied = if row.applied == Some(row.spec) {
        ""
    } else {
        "*"
    };
    format!(
        "{}/{}{applied} g{}",
        row.desired, row.actual, row.generation
    )
}

/// The variant's name, without the rows in it.
fn short(place: &impl std::fmt::Debug) -> String {
    let told = format!("{place:?}");
    told.split('(').next().unwrap_or_default().to_owned()
}
