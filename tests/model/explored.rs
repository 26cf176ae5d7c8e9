//! The protocol as it is, explored to the last state within its bounds:
//! nothing may be found, and every danger must have come up.

use std::io::{self, Write};
use std::time::Instant;

use stateright::{Checker, Expectation, Model};

use crate::properties;
use crate::protocol::Protocol;
use crate::rules::Rules;
use crate::trace;

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
