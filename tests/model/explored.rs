//! The protocol as it is, explored to the last state within its bounds:
//! nothing may be found, and every danger must have come up.

use std::io::{self, Write};
use std::time::Instant;

use stateright::{Checker, Expectation, Model};

use crate::calm;
use crate::properties;
use crate::protocol::Protocol;
use crate::row::Shape;
use crate::rules::{Layout, Rules};
use crate::state::State;
use crate::steps::{LAST, NETWORK, Record, State as StepState};
use crate::trace;
use crate::world::Form;

/// Explores everything, tells how much that was, and fails with a trace.
fn holds(what: &str, rules: Rules) {
    let began = Instant::now();
    let checker = Protocol::new(rules).checker().threads(2).spawn_bfs().join();
    // Past the capture of the test harness: how much was explored is the result.
    let _unheard = writeln!(
        io::stderr(),
        "model, {what}: {} states, {} transitions, {} deep, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64(),
    );
    assert!(checker.is_done(), "not everything was explored");
    for property in properties::all(&rules) {
        let found = checker.discovery(property.name);
        match property.expectation {
            Expectation::Sometimes => {
                assert!(found.is_some(), "never came up: {}", property.name);
            }
            Expectation::Always | Expectation::Eventually => {
                let trace = found.map(|path| trace::told(checker.model(), path));
                assert!(trace.is_none(), "{}\n{}", property.name, trace.unwrap());
            }
        }
    }
}

const SMALL: Rules = Rules {
    defect: None,
    layout: Layout::AtOnce,
    newer: None,
    changes: 1,
    pauses: 0,
    faults: 1,
    from_every_row: false,
    fold: true,
};

/// Every step of an owner that lost its lease, up to its last refused write.
#[test]
fn one_fault_and_one_change_with_every_refusal() {
    holds(
        "1 fault, 1 change, every refusal",
        Rules {
            fold: false,
            ..SMALL
        },
    );
}

#[test]
fn two_faults_and_two_changes() {
    holds(
        "2 faults, 2 changes",
        Rules {
            faults: 2,
            changes: 2,
            ..SMALL
        },
    );
}

#[test]
fn one_change_of_a_row_that_is_paused_and_resumed() {
    holds(
        "1 change, a pause and its end",
        Rules {
            pauses: 2,
            faults: 0,
            ..SMALL
        },
    );
}

/// The long form, of changes of mind.
#[test]
#[ignore = "the long form: half a minute more"]
fn one_fault_and_three_changes() {
    holds(
        "1 fault, 3 changes",
        Rules {
            changes: 3,
            ..SMALL
        },
    );
}

/// Every pair of desired and actual state, beside every host.
#[test]
fn one_fault_from_every_row() {
    holds(
        "1 fault, from every row and host",
        Rules {
            changes: 0,
            from_every_row: true,
            ..SMALL
        },
    );
}

/// In recorded steps, of which the last one is best-effort.
const STEPS: Rules = Rules {
    layout: Layout::BestEffortLast,
    ..SMALL
};

#[test]
fn one_fault_and_one_change_in_steps() {
    holds("in steps, 1 fault, 1 change", STEPS);
}

#[test]
fn one_fault_and_one_change_in_required_steps() {
    let rules = Rules {
        layout: Layout::AllRequired,
        ..STEPS
    };
    holds("in required steps, 1 fault, 1 change", rules);
}

#[test]
fn one_fault_and_one_change_in_one_recorded_step() {
    let rules = Rules {
        layout: Layout::OneCommand,
        ..STEPS
    };
    holds("in one step, 1 fault, 1 change", rules);
}

#[test]
fn two_faults_in_steps() {
    let rules = Rules {
        faults: 2,
        changes: 0,
        ..STEPS
    };
    holds("in steps, 2 faults", rules);
}

#[test]
fn two_changes_in_steps() {
    let rules = Rules {
        faults: 0,
        changes: 2,
        ..STEPS
    };
    holds("in steps, 2 changes", rules);
}

#[test]
fn one_fault_and_a_pause_in_steps() {
    let rules = Rules {
        changes: 0,
        pauses: 1,
        ..STEPS
    };
    holds("in steps, 1 fault, a pause", rules);
}

#[test]
fn a_newer_release_made_a_step() {
    for newer in [NETWORK, LAST] {
        let rules = Rules {
            newer: Some(newer),
            ..STEPS
        };
        holds("a newer release made a step, 1 fault, 1 change", rules);
    }
}

/// The long form: minutes.
#[test]
#[ignore = "the long form: minutes"]
fn two_faults_and_one_change_in_steps() {
    let rules = Rules { faults: 2, ..STEPS };
    holds("in steps, 2 faults, 1 change", rules);
}

/// Every pair of desired and actual state, with every subset of steps recorded and
/// made: from each the way to rest is followed, without exploring around it.
#[test]
fn every_subset_of_steps_converges() {
    let began = Instant::now();
    let mut count = 0_u32;
    for layout in [Layout::BestEffortLast, Layout::AllRequired] {
        let rules = Rules {
            layout,
            changes: 0,
            faults: 0,
            from_every_row: true,
            ..STEPS
        };
        let protocol = Protocol::new(rules);
        for start in State::starts(&rules).iter().flat_map(with_steps) {
            count += 1;
            let way = || trace::way(&protocol, &start);
            assert!(calm::converges(&protocol, &start), "{}", way());
        }
    }
    let _unheard = writeln!(
        io::stderr(),
        "model, every subset of steps: {count} states, {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

/// The same row and host, with every subset of steps that is not a lie.
fn with_steps(start: &State) -> Vec<State> {
    let record = |state| Record::new(state, Shape::A);
    let made = StepState::ALL.iter().flat_map(|state| {
        let nothing = *state == StepState::Removed;
        let parts: &[_] = if nothing {
            &[None]
        } else {
            &[None, Some(Shape::A)]
        };
        parts.iter().map(move |part| (Some(record(*state)), *part))
    });
    let made: Vec<_> = made.chain([(None, None)]).collect();
    let cluster = StepState::ALL.iter().filter(|state| {
        let whole = start.world.of == Some(Shape::A) || start.world.form == Form::Absent;
        match state {
            StepState::Removed => start.world.form == Form::Absent,
            StepState::Done => whole,
            StepState::Running | StepState::Failed | StepState::Removing => true,
        }
    });
    let mut states = Vec::new();
    for cluster in cluster {
        for (network, last) in made.iter().flat_map(|n| made.iter().map(move |l| (n, l))) {
            let mut state = start.clone();
            state.steps = [network.0, Some(record(*cluster)), last.0];
            (state.parts.network, state.parts.last) = (network.1, last.1);
            states.push(state);
        }
    }
    states
}
