//! The same properties on protocols with one rule broken: each must fail, or
//! it would prove nothing of the protocol as it is.

use std::collections::BTreeSet;
use std::io::{self, Write};

use stateright::{Checker, HasDiscoveries, Model};

use crate::properties::{
    self, APPLIED_ONCE, CONVERGES, FENCED_EFFECT, FENCED_SPAWN, FENCED_STATUS, HEEDED_PAUSE,
    NEWER_KEPT, ONE_COMMAND, ORDERED_DELETE, RECORDED_EFFECT, REMOVED_WHEN_GONE, START_IN_TIME,
    STATUS_OF_ITS_ROW, TRUE_RECORD, TRUE_RUNNING, TRUE_STEP,
};
use crate::protocol::Protocol;
use crate::rules::{Defect, Layout, Rules};
use crate::steps::LAST;

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

/// The same of protocols that work in recorded steps.
const BROKEN_STEPS: [(Defect, u8, u8, &str); 11] = [
    (Defect::StartAfterEffect, 0, 0, RECORDED_EFFECT),
    (Defect::AdvanceIgnoresGeneration, 1, 0, START_IN_TIME),
    (Defect::AdvanceIgnoresTerm, 0, 0, FENCED_STATUS),
    (Defect::RunningCountsAsDone, 0, 1, CONVERGES),
    (Defect::RemovalIgnoresSteps, 1, 1, REMOVED_WHEN_GONE),
    (Defect::StepsReadOnce, 1, 1, REMOVED_WHEN_GONE),
    (Defect::AppliesEveryStep, 0, 0, APPLIED_ONCE),
    (Defect::FailedStepIgnored, 0, 1, TRUE_RUNNING),
    (Defect::VersionIgnored, 1, 0, NEWER_KEPT),
    (Defect::LooksMissTheInput, 1, 1, TRUE_STEP),
    (Defect::SpawnIgnoresTrust, 0, 0, FENCED_SPAWN),
];

#[test]
fn every_broken_rule_is_found_out() {
    for (defect, changes, faults, property) in BROKEN {
        expose(defect, changes, faults, property, Layout::AtOnce);
    }
}

#[test]
fn every_broken_rule_of_steps_is_found_out() {
    for (defect, changes, faults, property) in BROKEN_STEPS {
        expose(defect, changes, faults, property, Layout::BestEffortLast);
    }
}

fn expose(defect: Defect, changes: u8, faults: u8, property: &'static str, layout: Layout) {
    let layout = match defect {
        // What fails around a cluster that answers comes after it.
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
        // What is refused is of interest only where it is not.
        fold: layout != Layout::AtOnce && property != FENCED_STATUS,
    };
    let Some(steps) = finds(rules, property) else {
        panic!("{defect:?} went unnoticed by: {property}");
    };
    let _unheard = writeln!(
        io::stderr(),
        "model, broken: {defect:?} fails \"{property}\" after {steps} steps"
    );
}

#[test]
fn every_property_can_fail() {
    let broken = BROKEN.iter().chain(&BROKEN_STEPS);
    let broken: BTreeSet<&str> = broken.map(|(.., property)| *property).collect();
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
