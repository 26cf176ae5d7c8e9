//! The correct protocol, explored to the last state within its bounds: no invariant may
//! fail, and every dangerous condition must be reached.

use std::io::{self, Write};
use std::time::Instant;

use stateright::{Checker, Expectation, Model};

use crate::convergence;
use crate::host::Condition;
use crate::properties;
use crate::protocol::Protocol;
use crate::row::SpecVersion;
use crate::rules::{Layout, Rules};
use crate::state::State;
use crate::steps::{LAST, NETWORK, Record, State as StepState};
use crate::trace;

/// Explores everything, prints the number of states, and fails with a trace.
fn explore(what: &str, rules: Rules) {
    let began = Instant::now();
    let checker = Protocol::new(rules).checker().threads(2).spawn_bfs().join();
    // Written past the output capture of the test harness: the number of states is the
    // result.
    let _ignored = writeln!(
        io::stderr(),
        "model, {what}: {} states, {} transitions, {} deep, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64(),
    );
    assert!(checker.is_done(), "the exploration is incomplete");
    for property in properties::all(&rules) {
        let found = checker.discovery(property.name);
        match property.expectation {
            Expectation::Sometimes => {
                assert!(found.is_some(), "never reached: {}", property.name);
            }
            Expectation::Always | Expectation::Eventually => {
                let trace = found.map(|path| trace::describe(checker.model(), path));
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

/// Includes every step of an owner that lost its lease, up to its last rejected write.
#[test]
fn one_fault_and_one_change_with_rejected_writes() {
    explore(
        "1 fault, 1 change, with refused writes",
        Rules {
            fold: false,
            ..SMALL
        },
    );
}

#[test]
fn two_faults_and_two_changes() {
    explore(
        "2 faults, 2 changes",
        Rules {
            faults: 2,
            changes: 2,
            ..SMALL
        },
    );
}

#[test]
fn one_change_of_a_paused_and_resumed_row() {
    explore(
        "1 change, a pause and a resume",
        Rules {
            pauses: 2,
            faults: 0,
            ..SMALL
        },
    );
}

/// The long form, for changes of desire and spec.
#[test]
#[ignore = "the long form: half a minute more"]
fn one_fault_and_three_changes() {
    explore(
        "1 fault, 3 changes",
        Rules {
            changes: 3,
            ..SMALL
        },
    );
}

/// Every pair of desired and actual state, with every host.
#[test]
fn one_fault_from_every_row() {
    explore(
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
    explore("in steps, 1 fault, 1 change", STEPS);
}

#[test]
fn one_fault_and_one_change_in_required_steps() {
    let rules = Rules {
        layout: Layout::AllRequired,
        ..STEPS
    };
    explore("in required steps, 1 fault, 1 change", rules);
}

#[test]
fn one_fault_and_one_change_in_one_recorded_step() {
    let rules = Rules {
        layout: Layout::OneCommand,
        ..STEPS
    };
    explore("in one step, 1 fault, 1 change", rules);
}

#[test]
fn two_faults_in_steps() {
    let rules = Rules {
        faults: 2,
        changes: 0,
        ..STEPS
    };
    explore("in steps, 2 faults", rules);
}

#[test]
fn two_changes_in_steps() {
    let rules = Rules {
        faults: 0,
        changes: 2,
        ..STEPS
    };
    explore("in steps, 2 changes", rules);
}

#[test]
fn one_fault_and_a_pause_in_steps() {
    let rules = Rules {
        changes: 0,
        pauses: 1,
        ..STEPS
    };
    explore("in steps, 1 fault, a pause", rules);
}

#[test]
fn one_fault_and_one_change_with_a_newer_step() {
    for newer in [NETWORK, LAST] {
        let rules = Rules {
            newer: Some(newer),
            ..STEPS
        };
        explore("a newer release made a step, 1 fault, 1 change", rules);
    }
}

/// The long form: minutes.
#[test]
#[ignore = "the long form: minutes"]
fn two_faults_and_one_change_in_steps() {
    let rules = Rules { faults: 2, ..STEPS };
    explore("in steps, 2 faults, 1 change", rules);
}

/// Every pair of desired and actual state, with every subset of steps recorded and
/// made: the path to rest is followed from each, without exploring around it.
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
            let path = || trace::describe_convergence(&protocol, &start);
            assert!(convergence::converges(&protocol, &start), "{}", path());
        }
    }
    let _ignored = writeln!(
        io::stderr(),
        "model, every subset of steps: {count} states, {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

/// The same row and host, with every subset of step records that can be true.
fn with_steps(start: &State) -> Vec<State> {
    let record = |state| Record::new(state, SpecVersion::A);
    let made = StepState::ALL.iter().flat_map(|state| {
        let nothing = *state == StepState::Removed;
        let artifacts: &[_] = if nothing {
            &[None]
        } else {
            &[None, Some(SpecVersion::A)]
        };
        artifacts
            .iter()
            .map(move |artifact| (Some(record(*state)), *artifact))
    });
    let made: Vec<_> = made.chain([(None, None)]).collect();
    let cluster = StepState::ALL.iter().filter(|state| {
        let whole =
            start.host.spec == Some(SpecVersion::A) || start.host.condition == Condition::Absent;
        match state {
            StepState::Removed => start.host.condition == Condition::Absent,
            StepState::Done => whole,
            StepState::Running | StepState::Failed | StepState::Removing => true,
        }
    });
    let mut states = Vec::new();
    for cluster in cluster {
        for (network, last) in made.iter().flat_map(|n| made.iter().map(move |l| (n, l))) {
            let mut state = start.clone();
            state.steps = [network.0, Some(record(*cluster)), last.0];
            (state.artifacts.network, state.artifacts.last) = (network.1, last.1);
            states.push(state);
        }
    }
    states
}
