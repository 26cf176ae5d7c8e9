//! Prints a path through the model.

use std::fmt::Write;

use stateright::Path;

use crate::convergence;
use crate::protocol::{Event, Protocol};
use crate::row::Row;
use crate::state::State;
use crate::steps::{Artifacts, Record};

/// The path, and how the system then converges.
pub fn describe(protocol: &Protocol, path: Path<State, Event>) -> String {
    let mut text = String::new();
    let mut last = None;
    for (state, event) in path.into_vec() {
        let event = event.map_or("end of the path".to_owned(), |event| format!("{event:?}"));
        let _infallible = writeln!(text, "{}   {event}", line(&state));
        last = Some(state);
    }
    let Some(last) = last else { return text };
    let _infallible = writeln!(
        text,
        "violation: {:?}\nwithout further faults:",
        last.violation
    );
    text + &describe_convergence(protocol, &last)
}

/// How the system converges from here.
pub fn describe_convergence(protocol: &Protocol, from: &State) -> String {
    let mut text = line(from) + "\n";
    for (event, state) in convergence::path(protocol, from).into_iter().take(30) {
        let _infallible = writeln!(text, "{}   {event:?}", line(&state));
    }
    text
}

fn line(state: &State) -> String {
    let owners = state
        .owners
        .map(|owner| format!("{}:{}", owner.term, short(&owner.stage)));
    format!(
        "{:24} host {:?}/{:?}{}  lease {:?}  owners {}",
        state.row.map_or("no row".to_owned(), row),
        state.host.condition,
        state.host.spec,
        steps(state),
        state.lease.map(|lease| (lease.term, lease.left)),
        owners.join(" "),
    )
}

/// The artifacts and the records of the steps; empty if there are none.
fn steps(state: &State) -> String {
    if state.artifacts == Artifacts::NONE && state.steps == [None; 3] {
        return String::new();
    }
    let record = |record: Option<Record>| {
        let text = |r: Record| format!("{:?}/{:?}", r.state, r.input);
        record.map_or("-".to_owned(), text)
    };
    let artifacts = (state.artifacts.network, state.artifacts.last);
    format!(" {artifacts:?} steps {}", state.steps.map(record).join(" "))
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

/// The name of the variant, without its fields.
fn short(stage: &impl std::fmt::Debug) -> String {
    let text = format!("{stage:?}");
    text.split('(').next().unwrap_or_default().to_owned()
}
