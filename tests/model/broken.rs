//! The same properties on protocols with one rule broken: each must fail, or
//! it would prove nothing of the protocol as it is.

use std::collections::BTreeSet;
use std::io::{self, Write};

use stateright::{Checker, HasDiscoveries, Model};

use crate::properties::{
    self, CONVERGES, FENCED_EFFECT, FENCED_SPAWN, FENCED_STATUS, HEEDED_PAUSE, ONE_COMMAND,
    ORDERED_DELETE, REMOVED_WHEN_GONE, STATUS_OF_ITS_ROW, TRUE_RECORD,
};
use crate::protocol::Protocol;
use crate::rules::{Defect, Rules};

/// Each defect, the changes and faults that it takes to show, and what fails.
const BROKEN: [(Defect, u8, u8, &str); 19] = [
    (Defect::StatusIgnoresTerm, 0, 0, FENCED_STATUS),
    (Defect::StatusIgnoresGeneration, 2, 0, ORDERED_DELETE),
    (Defect::StatusIgnoresGeneration, 1, 0, STATUS_OF_ITS_ROW),
    (Defect::StatusIgnoresState, 0, 1, STATUS_OF_ITS_ROW),
    (Defect::RemovalIgnoresRow, 2, 0, REMOVED_WHEN_GONE),
    (Defect::ClaimIgnoresLease, 0, 0, ONE_COMMAND),
    (Defect::ReleaseIgnoresTerm, 0, 1, ONE_COMMAND),
    (Defect::FenceIgnoresPause, 0, 0, HEEDED_PAUSE),
    (Defect::SpawnIgnoresTrust, 0, 0, FENCED_SPAWN),
    (Defect::NoGuard, 0, 1, ONE_COMMAND),
    (Defect::NoGuard, 0, 0, FENCED_EFFECT),
    (Defect::TrustOutlivesLease, 0, 0, ONE_COMMAND),
    (Defect::TrustOutlivesLease, 0, 0, FENCED_EFFECT),
    (Defect::TrustOutlivesLease, 0, 0, FENCED_SPAWN),
    (Defect::IgnoranceIsAbsence, 1, 2, REMOVED_WHEN_GONE),
    (Defect::IntentKeepsApplied, 1, 1, TRUE_RECORD),
    (Defect::LeaseNeverEnds, 0, 1, CONVERGES),
    (Defect::WithdrawnDeleteRests, 2, 0, CONVERGES),
    (Defect::InterruptedCreateRests, 0, 1, CONVERGES),
];

#[test]
fn every_broken_rule_is_found_out() {
    for (defect, changes, faults, property) in BROKEN {
        let rules = |defect| Rules {
            defect,
            changes,
            pauses: u8::from(defect == Some(Defect::FenceIgnoresPause)),
            faults,
            from_every_row: false,
            fold: false,
        };
        let found = finds(rules(Some(defect)), property);
        let Some(steps) = found else {
            panic!("{defect:?} went unnoticed by: {property}");
        };
        let _unheard = writeln!(
            io::stderr(),
            "model, broken: {defect:?} fails \"{property}\" after {steps} steps"
        );
    }
}

#[test]
fn every_property_can_fail() {
    let broken: BTreeSet<&str> = BROKEN.iter().map(|(.., property)| *property).collect();
    let all: BTreeSet<&str> = properties::always().iter().map(|p| p.name).collect();
    assert_eq!(broken, all);
}

/// The length of the path to a state in which the property fails.
fn finds(rules: Rules, property: &'static str) -> Option<usize> {
    let checker = Protocol::new(rules)
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([property])))
        .spawn_bfs()
        .join();
    let path = checker.discovery(property)?;
    Some(path.into_actions().len())
}
