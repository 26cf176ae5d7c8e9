//! Decides about one step. Pure: no clock, no randomness, no effect.

use jiff::Timestamp;

use super::record::{Requirement, StepRecord, StepState};

/// The observation of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepObservation {
    /// It is in place as declared.
    InPlace,
    /// It is not in place, or not as declared, for this reason.
    NotInPlace(String),
    /// It cannot be observed, for this reason.
    Unknown(String),
}

/// What a decision needs to know about a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepFacts {
    /// Its name.
    pub name: &'static str,
    /// A release that applies it in another way raises this, so that it runs again.
    pub version: i32,
    /// What its failure means.
    pub requirement: Requirement,
    /// Whether it can be observed by itself. If not, only the object as a whole can be
    /// observed, and the step is applied whenever the object is.
    pub observable: bool,
    /// The hash of its input.
    pub input_hash: String,
}

/// The purpose of a run forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Create or change the object.
    Make,
    /// Repair drift and failed steps of an object that is healthy.
    Maintain,
}

/// The decision about one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepDecision {
    /// Do nothing.
    Nothing,
    /// Do nothing: a newer release recorded it.
    LeaveToNewer,
    /// Do nothing yet: its next attempt is not due.
    Wait,
    /// Observe it, then decide again.
    Observe,
    /// Record it as done: it is in place, but not recorded so.
    Confirm,
    /// Apply or remove it.
    Apply(ApplyReason),
    /// Record a failed attempt: it cannot be observed.
    CannotTell,
    /// Do nothing: it cannot be observed, and the object is healthy.
    LeaveUnobserved,
}

/// Why a step is applied or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyReason {
    /// It is not in place.
    NotInPlace,
    /// It was done, and is not in place any more.
    Drift,
    /// Its input or version has changed since.
    InputChanged,
    /// It cannot be observed by itself.
    NotObservable,
}

/// Decides about one step of a run forward.
///
/// `seen` is the observation after [`StepDecision::Observe`], `None` before it; with `Some` the
/// decision is never `Observe`.
pub fn forward(
    facts: &StepFacts,
    record: Option<&StepRecord>,
    seen: Option<&StepObservation>,
    purpose: Purpose,
    now: Timestamp,
) -> StepDecision {
    if record.is_some_and(|record| record.version > facts.version) {
        return StepDecision::LeaveToNewer;
    }
    let same_input = record.is_none_or(|record| {
        record.version == facts.version
            && record
                .input_hash
                .as_deref()
                .is_none_or(|hash| hash == facts.input_hash)
    });
    let state = record.map(|record| record.state);
    let waits = facts.requirement == Requirement::BestEffort
        && same_input
        && state == Some(StepState::Failed)
        && record
            .and_then(|record| record.next_try_at)
            .is_some_and(|at| at > now);
    if waits {
        return StepDecision::Wait;
    }
    if !facts.observable {
        let untouched = purpose == Purpose::Maintain
            && same_input
            && matches!(state, None | Some(StepState::Done | StepState::Skipped));
        return if untouched {
            StepDecision::Nothing
        } else {
            StepDecision::Apply(ApplyReason::NotObservable)
        };
    }
    match (seen, state) {
        (None, _) => StepDecision::Observe,
        (Some(StepObservation::Unknown(_)), _)
            if purpose == Purpose::Maintain && facts.requirement == Requirement::Required =>
        {
            StepDecision::LeaveUnobserved
        }
        (Some(StepObservation::Unknown(_)), _) => StepDecision::CannotTell,
        (Some(StepObservation::NotInPlace(_)), Some(StepState::Done)) => {
            StepDecision::Apply(ApplyReason::Drift)
        }
        (Some(StepObservation::NotInPlace(_)), _) => StepDecision::Apply(ApplyReason::NotInPlace),
        (Some(StepObservation::InPlace), _) if !same_input => {
            StepDecision::Apply(ApplyReason::InputChanged)
        }
        (Some(StepObservation::InPlace), Some(StepState::Done)) => StepDecision::Nothing,
        (Some(StepObservation::InPlace), _) => StepDecision::Confirm,
    }
}

/// Decides about one step of a run backward. Removal is idempotent and a part of a step
/// may exist, so a step is skipped only if it is recorded as removed and observed as not
/// in place. A step that cannot be observed by itself is removed whenever the object is.
///
/// `seen` is as in [`forward`].
pub fn backward(
    facts: &StepFacts,
    record: Option<&StepRecord>,
    seen: Option<&StepObservation>,
) -> StepDecision {
    match record {
        Some(record) if record.version > facts.version => StepDecision::LeaveToNewer,
        _ if !facts.observable => StepDecision::Apply(ApplyReason::NotObservable),
        Some(record) if record.state == StepState::Removed => match seen {
            None => StepDecision::Observe,
            Some(StepObservation::NotInPlace(_)) => StepDecision::Nothing,
            Some(StepObservation::InPlace | StepObservation::Unknown(_)) => {
                StepDecision::Apply(ApplyReason::Drift)
            }
        },
        Some(_) | None => StepDecision::Apply(ApplyReason::NotInPlace),
    }
}

/// Recorded steps of this driver that this release cannot remove: it does not know them,
/// or only an older version of them. While there is one, the row stays, so that a daemon
/// of the newer release can finish.
pub fn unknown_leftovers<'a>(
    driver: &str,
    facts: &[StepFacts],
    records: &'a [StepRecord],
) -> Vec<&'a str> {
    let known = |record: &StepRecord| {
        facts
            .iter()
            .any(|step| step.name == record.name && step.version >= record.version)
    };
    records
        .iter()
        .filter(|r| r.driver == driver && !r.state.leaves_nothing() && !known(r))
        .map(|r| r.name.as_str())
        .collect()
}

/// Recorded steps of other drivers that are not removed: this driver can neither observe
/// nor remove them. While there is one, the row stays, so that a daemon with that driver
/// can finish.
pub fn foreign_leftovers<'a>(
    driver: &str,
    records: &'a [StepRecord],
) -> impl Iterator<Item = &'a StepRecord> {
    let left = |r: &&StepRecord| {
        !r.state.leaves_nothing() && r.reason.as_deref() != Some(super::record::GIVEN_UP)
    };
    records
        .iter()
        .filter(move |r| r.driver != driver)
        .filter(left)
}

/// When the next failed best-effort step is retried.
pub fn next_try(driver: &str, records: &[StepRecord]) -> Option<Timestamp> {
    records
        .iter()
        .filter(|r| r.driver == driver && r.state == StepState::Failed && !r.required)
        .filter_map(|r| r.next_try_at)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(requirement: Requirement, observable: bool) -> StepFacts {
        StepFacts {
            name: "port",
            version: 2,
            requirement,
            observable,
            input_hash: "new".to_owned(),
        }
    }

    fn record(state: StepState, version: i32, hash: &str) -> StepRecord {
        StepRecord {
            driver: "sandbox".into(),
            name: "port".into(),
            position: 1,
            total: 2,
            version,
            required: false,
            state,
            attempt: 1,
            reason: None,
            message: None,
            input_hash: Some(hash.to_owned()),
            started_at: None,
            finished_at: None,
            next_try_at: None,
        }
    }

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn decide(record: Option<&StepRecord>, seen: &StepObservation) -> StepDecision {
        let facts = facts(Requirement::Required, true);
        forward(&facts, record, Some(seen), Purpose::Make, NOW)
    }

    #[test]
    fn a_step_in_place_is_applied_again_only_for_new_input() {
        use StepObservation::InPlace;
        let done = record(StepState::Done, 2, "new");
        assert_eq!(decide(Some(&done), &InPlace), StepDecision::Nothing);
        let changed = record(StepState::Done, 2, "old");
        assert_eq!(
            decide(Some(&changed), &InPlace),
            StepDecision::Apply(ApplyReason::InputChanged)
        );
        let upgraded = record(StepState::Done, 1, "new");
        assert_eq!(
            decide(Some(&upgraded), &InPlace),
            StepDecision::Apply(ApplyReason::InputChanged)
        );
        assert_eq!(decide(None, &InPlace), StepDecision::Confirm);
    }

    #[test]
    fn a_step_is_observed_after_a_crash() {
        for state in [StepState::Running, StepState::Failed, StepState::Removing] {
            let crashed = record(state, 2, "new");
            let facts = facts(Requirement::Required, true);
            let first = forward(&facts, Some(&crashed), None, Purpose::Make, NOW);
            assert_eq!(first, StepDecision::Observe, "{state}");
            assert_eq!(
                decide(Some(&crashed), &StepObservation::InPlace),
                StepDecision::Confirm
            );
            let gone = StepObservation::NotInPlace(String::new());
            assert_eq!(
                decide(Some(&crashed), &gone),
                StepDecision::Apply(ApplyReason::NotInPlace)
            );
        }
    }

    #[test]
    fn drift_is_applied_and_an_unknown_is_not() {
        let done = record(StepState::Done, 2, "new");
        let gone = StepObservation::NotInPlace("its file is gone".into());
        assert_eq!(
            decide(Some(&done), &gone),
            StepDecision::Apply(ApplyReason::Drift)
        );
        let unknown = StepObservation::Unknown("no answer".into());
        for record in [None, Some(&done)] {
            assert_eq!(decide(record, &unknown), StepDecision::CannotTell);
            let maintain = |requirement| {
                let facts = facts(requirement, true);
                forward(&facts, record, Some(&unknown), Purpose::Maintain, NOW)
            };
            assert_eq!(
                maintain(Requirement::Required),
                StepDecision::LeaveUnobserved
            );
            assert_eq!(maintain(Requirement::BestEffort), StepDecision::CannotTell);
        }
    }

    #[test]
    fn steps_of_a_newer_release_are_not_touched() {
        let facts = facts(Requirement::Required, true);
        for &state in StepState::ALL {
            let newer = record(state, 3, "new");
            let decision = forward(&facts, Some(&newer), None, Purpose::Make, NOW);
            assert_eq!(decision, StepDecision::LeaveToNewer, "{state}");
            assert_eq!(
                backward(&facts, Some(&newer), None),
                StepDecision::LeaveToNewer,
                "{state}"
            );
            let left = unknown_leftovers(
                "sandbox",
                std::slice::from_ref(&facts),
                std::slice::from_ref(&newer),
            )
            .len();
            assert_eq!(left, usize::from(!state.leaves_nothing()), "{state}");
        }
    }

    #[test]
    fn leftovers_of_other_drivers_are_found_unless_given_up() {
        let left = |state, reason: Option<&str>| {
            let record = StepRecord {
                reason: reason.map(str::to_owned),
                ..record(state, 2, "new")
            };
            foreign_leftovers("script", std::slice::from_ref(&record)).count()
        };
        for &state in StepState::ALL {
            assert_eq!(left(state, None), usize::from(!state.leaves_nothing()));
        }
        assert_eq!(left(StepState::Failed, Some(super::super::GIVEN_UP)), 0);
        let own = [record(StepState::Done, 2, "new")];
        assert_eq!(foreign_leftovers("sandbox", &own).count(), 0);
    }

    #[test]
    fn a_failed_best_effort_step_waits_for_its_next_attempt() {
        let later = NOW + jiff::SignedDuration::from_secs(1);
        let failed = StepRecord {
            next_try_at: Some(later),
            ..record(StepState::Failed, 2, "new")
        };
        let (best, must) = (
            facts(Requirement::BestEffort, true),
            facts(Requirement::Required, true),
        );
        let at = |facts, now| forward(facts, Some(&failed), None, Purpose::Make, now);
        assert_eq!(at(&best, NOW), StepDecision::Wait);
        assert_eq!(at(&best, later), StepDecision::Observe);
        assert_eq!(at(&must, NOW), StepDecision::Observe);
        let changed = StepRecord {
            input_hash: Some("old".into()),
            ..failed.clone()
        };
        assert_eq!(
            forward(&best, Some(&changed), None, Purpose::Make, NOW),
            StepDecision::Observe
        );
        assert_eq!(
            next_try("sandbox", std::slice::from_ref(&failed)),
            Some(later)
        );
    }

    #[test]
    fn an_unobservable_step_runs_only_with_the_object() {
        let facts = facts(Requirement::Required, false);
        let done = record(StepState::Done, 2, "new");
        let with = |record, purpose| forward(&facts, record, None, purpose, NOW);
        assert_eq!(
            with(Some(&done), Purpose::Make),
            StepDecision::Apply(ApplyReason::NotObservable)
        );
        assert_eq!(with(Some(&done), Purpose::Maintain), StepDecision::Nothing);
        assert_eq!(with(None, Purpose::Maintain), StepDecision::Nothing);
    }

    #[test]
    fn a_removal_skips_only_steps_observed_as_removed() {
        let facts = facts(Requirement::Required, true);
        for &state in StepState::ALL {
            let decision = backward(&facts, Some(&record(state, 2, "new")), None);
            let expected = match state {
                StepState::Removed => StepDecision::Observe,
                _ => StepDecision::Apply(ApplyReason::NotInPlace),
            };
            assert_eq!(decision, expected, "{state}");
        }
        let removed = record(StepState::Removed, 2, "new");
        let after = |seen| backward(&facts, Some(&removed), Some(&seen));
        let (gone, unknown) = (String::new(), String::new());
        assert_eq!(
            after(StepObservation::NotInPlace(gone)),
            StepDecision::Nothing
        );
        assert_eq!(
            after(StepObservation::InPlace),
            StepDecision::Apply(ApplyReason::Drift)
        );
        let unseen = after(StepObservation::Unknown(unknown));
        assert_eq!(unseen, StepDecision::Apply(ApplyReason::Drift));
    }

    #[test]
    fn an_unobservable_step_is_removed_again() {
        let facts = facts(Requirement::Required, false);
        let removed = record(StepState::Removed, 2, "new");
        let decision = backward(&facts, Some(&removed), None);
        assert_eq!(decision, StepDecision::Apply(ApplyReason::NotObservable));
    }
}
