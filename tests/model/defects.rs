//! The same properties on protocols with one broken rule: each must fail, or it would
//! prove nothing about the correct protocol.

use std::collections::BTreeSet;
use std::io::{self, Write};

use stateright::{Checker, HasDiscoveries, Model};

use crate::properties::{
    self, APPLIED_ONCE, APPLIED_SPEC_CORRECT, CONVERGES, FENCED_EFFECT, FENCED_SPAWN,
    FENCED_STATUS, NEWER_KEPT, ONE_COMMAND, ORDERED_DELETE, PAUSE_RESPECTED, RECORDED_EFFECT,
    REMOVED_WHEN_ABSENT, RUNNING_HAS_STEPS, START_CURRENT, STATUS_OF_ITS_ROW, STEP_INPUT_CORRECT,
};
use crate::protocol::Protocol;
use crate::rules::{Defect, Layout, Rules};
use crate::steps::LAST;

/// Each defect, the changes and faults that it needs to show, and the property that
/// fails.
const DEFECTS: [(Defect, u8, u8, &str); 21] = [
    (Defect::StatusIgnoresTerm, 0, 0, FENCED_STATUS),
    (Defect::StatusIgnoresGeneration, 2, 0, ORDERED_DELETE),
    (Defect::StatusIgnoresGeneration, 1, 0, STATUS_OF_ITS_ROW),
    (Defect::StatusIgnoresState, 0, 1, STATUS_OF_ITS_ROW),
    (Defect::RemovalIgnoresRow, 2, 0, REMOVED_WHEN_ABSENT),
    (Defect::ClaimIgnoresLease, 0, 0, ONE_COMMAND),
    (Defect::ReleaseIgnoresTerm, 0, 1, ONE_COMMAND),
    (Defect::FenceIgnoresPause, 0, 0, PAUSE_RESPECTED),
    (Defect::SpawnIgnoresTrust, 0, 0, FENCED_SPAWN),
    (Defect::NoGuard, 0, 1, ONE_COMMAND),
    (Defect::NoGuard, 0, 0, FENCED_EFFECT),
    (Defect::TrustOutlivesLease, 0, 0, ONE_COMMAND),
    (Defect::TrustOutlivesLease, 0, 0, FENCED_EFFECT),
    (Defect::TrustOutlivesLease, 0, 0, FENCED_SPAWN),
    (Defect::LockIgnoresCommands, 0, 1, ONE_COMMAND),
    (Defect::LockIgnoresCommands, 0, 1, FENCED_EFFECT),
    (
        Defect::FailedObservationIsAbsence,
        1,
        2,
        REMOVED_WHEN_ABSENT,
    ),
    (Defect::IntentKeepsApplied, 1, 1, APPLIED_SPEC_CORRECT),
    (Defect::LeaseNeverExpires, 0, 1, CONVERGES),
    (Defect::WithdrawnDeleteNotFinished, 2, 0, CONVERGES),
    (Defect::InterruptedCreateNotFinished, 0, 1, CONVERGES),
];

/// The same for protocols that work in recorded steps.
const STEP_DEFECTS: [(Defect, u8, u8, &str); 11] = [
    (Defect::StartAfterEffect, 0, 0, RECORDED_EFFECT),
    (Defect::AdvanceIgnoresGeneration, 1, 0, START_CURRENT),
    (Defect::AdvanceIgnoresTerm, 0, 0, FENCED_STATUS),
    (Defect::RunningCountsAsDone, 0, 1, CONVERGES),
    (Defect::RemovalIgnoresSteps, 1, 1, REMOVED_WHEN_ABSENT),
    (Defect::StepsReadOnce, 1, 1, REMOVED_WHEN_ABSENT),
    (Defect::AppliesEveryStep, 0, 0, APPLIED_ONCE),
    (Defect::FailedStepIgnored, 0, 1, RUNNING_HAS_STEPS),
    (Defect::VersionIgnored, 1, 0, NEWER_KEPT),
    (Defect::ObservationMissesInput, 1, 1, STEP_INPUT_CORRECT),
    (Defect::SpawnIgnoresTrust, 0, 0, FENCED_SPAWN),
];

#[test]
fn every_defect_violates_its_property() {
    for (defect, changes, faults, property) in DEFECTS {
        expect_violation(defect, changes, faults, property, Layout::AtOnce);
    }
}

#[test]
fn every_step_defect_violates_its_property() {
    for (defect, changes, faults, property) in STEP_DEFECTS {
        expect_violation(defect, changes, faults, property, Layout::BestEffortLast);
    }
}

fn expect_violation(
    defect: Defect,
    changes: u8,
    faults: u8,
    property: &'static str,
    layout: Layout,
) {
    let layout = match defect {
        // The step that fails beside a cluster that answers must be required.
        Defect::FailedStepIgnored => Layout::AllRequired,
        _ => layout,
    };
    let rules = Rules {
        defect: Some(defect),
        layout,
        newer: (defect == Defect::VersionIgnored).then_some(LAST),
        changes,
        pauses: u8::from(defect == Defect::FenceIgnoresPause),
        faults,
        from_every_row: false,
        // Folding drops rejected statements, which are what this property is about.
        fold: layout != Layout::AtOnce && property != FENCED_STATUS,
    };
    let Some(steps) = path_length_to_violation(rules, property) else {
        panic!("{defect:?} does not violate: {property}");
    };
    let _ignored = writeln!(
        io::stderr(),
        "model, broken: {defect:?} fails \"{property}\" after {steps} steps"
    );
}

#[test]
fn every_property_can_fail() {
    let broken = DEFECTS.iter().chain(&STEP_DEFECTS);
    let broken: BTreeSet<&str> = broken.map(|(.., property)| *property).collect();
    let all: BTreeSet<&str> = properties::always().iter().map(|p| p.name).collect();
    assert_eq!(broken, all);
}

/// The length of the path to a state in which the property fails.
fn path_length_to_violation(rules: Rules, property: &'static str) -> Option<usize> {
    let checker = Protocol::new(rules)
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([property])))
        .spawn_bfs()
        .join();
    let path = checker.discovery(property)?;
    Some(path.into_actions().len())
}
