//! What is to be done about one step. Pure: no clock, no randomness, no effect.

use jiff::Timestamp;

use super::record::{Requirement, StepRecord, StepState};

/// What was seen of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepObservation {
    /// It is in place, as it is declared now.
    InPlace,
    /// It is not, or not as declared; why, for people.
    NotInPlace(String),
    /// It cannot be seen, for this reason; nothing follows from that.
    Unknown(String),
}

/// What the decision needs to know of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepFacts {
    /// Its name.
    pub name: &'static str,
    /// Raised when a release applies it in another way, so that it runs again.
    pub version: i32,
    /// What its failure means.
    pub requirement: Requirement,
    /// Whether it can be observed by itself. If not, the observation of the whole
    /// is the only one, and the step is applied whenever the whole is.
    pub observable: bool,
    /// The hash of what it depends on.
    pub input_hash: String,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To make the whole, or to change it.
    Make,
    /// To look after a whole that is well: drift and steps that failed.
    Maintain,
}

/// What is to be done about one step now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Todo {
    /// Nothing.
    Nothing,
    /// Nothing: a newer release wrote it and knows what to do.
    LeaveToNewer,
    /// Nothing yet: its next try is not due.
    Wait,
    /// Look at it, then decide again.
    Observe,
    /// It is in place although it is not recorded so: record it.
    Confirm,
    /// Apply it.
    Apply(Why),
    /// It cannot be seen, so it counts as a failed attempt.
    CannotTell,
    /// Nothing: it cannot be seen, and of a whole that is well nothing follows.
    LeaveUnseen,
}

/// Why a step is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is not in place.
    NotInPlace,
    /// It was done and is not in place any more.
    Drift,
    /// What it depends on changed since.
    InputChanged,
    /// It cannot be observed by itself.
    NotObservable,
}

/// Decides about one step of a run forward.
///
/// `seen` is what [`Todo::Observe`] led to, `None` before that; the answer to
/// `Some` is never `Observe` again.
pub fn forward(
    facts: &StepFacts,
    record: Option<&StepRecord>,
    seen: Option<&StepObservation>,
    purpose: Purpose,
    now: Timestamp,
) -> Todo {
    if record.is_some_and(|record| record.version > facts.version) {
        return Todo::LeaveToNewer;
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
        return Todo::Wait;
    }
    if !facts.observable {
        let left_alone = purpose == Purpose::Maintain
            && same_input
            && matches!(state, None | Some(StepState::Done | StepState::Skipped));
        return if left_alone {
            Todo::Nothing
        } else {
            Todo::Apply(Why::NotObservable)
        };
    }
    match (seen, state) {
        (None, _) => Todo::Observe,
        (Some(StepObservation::Unknown(_)), _)
            if purpose == Purpose::Maintain && facts.requirement == Requirement::Required =>
        {
            Todo::LeaveUnseen
        }
        (Some(StepObservation::Unknown(_)), _) => Todo::CannotTell,
        (Some(StepObservation::NotInPlace(_)), Some(StepState::Done)) => Todo::Apply(Why::Drift),
        (Some(StepObservation::NotInPlace(_)), _) => Todo::Apply(Why::NotInPlace),
        (Some(StepObservation::InPlace), _) if !same_input => Todo::Apply(Why::InputChanged),
        (Some(StepObservation::InPlace), Some(StepState::Done)) => Todo::Nothing,
        (Some(StepObservation::InPlace), _) => Todo::Confirm,
    }
}

/// Decides about one step of a run backward: removing is idempotent and half of a
/// step may be there, so only one that is recorded as removed, and is not seen in
/// place again, is left out. A step that cannot be observed by itself is removed
/// whenever the whole is: the whole was seen to be there.
///
/// `seen` is as in [`forward`].
pub fn backward(
    facts: &StepFacts,
    record: Option<&StepRecord>,
    seen: Option<&StepObservation>,
) -> Todo {
    match record {
        Some(record) if record.version > facts.version => Todo::LeaveToNewer,
        _ if !facts.observable => Todo::Apply(Why::NotObservable),
        Some(record) if record.state == StepState::Removed => match seen {
            None => Todo::Observe,
            Some(StepObservation::NotInPlace(_)) => Todo::Nothing,
            Some(StepObservation::InPlace | StepObservation::Unknown(_)) => Todo::Apply(Why::Drift),
        },
        Some(_) | None => Todo::Apply(Why::NotInPlace),
    }
}

/// What this driver made and this release cannot remove: recorded steps that it
/// does not know, or knows only in an older version. While there is one, the row
/// stays, so that a daemon of the newer release can finish.
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

/// What other drivers made and did not remove: this one can neither see nor remove
/// it. While there is any, the row stays, so that a daemon with that driver can
/// finish.
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

/// When the earliest failed best-effort step is tried again.
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

    fn decide(record: Option<&StepRecord>, seen: &StepObservation) -> Todo {
        let facts = facts(Requirement::Required, true);
        forward(&facts, record, Some(seen), Purpose::Make, NOW)
    }

    #[test]
    fn a_step_in_place_is_applied_again_only_for_new_input() {
        use StepObservation::InPlace;
        let done = record(StepState::Done, 2, "new");
        assert_eq!(decide(Some(&done), &InPlace), Todo::Nothing);
        let changed = record(StepState::Done, 2, "old");
        assert_eq!(
            decide(Some(&changed), &InPlace),
            Todo::Apply(Why::InputChanged)
        );
        let upgraded = record(StepState::Done, 1, "new");
        assert_eq!(
            decide(Some(&upgraded), &InPlace),
            Todo::Apply(Why::InputChanged)
        );
        assert_eq!(decide(None, &InPlace), Todo::Confirm);
    }

    #[test]
    fn a_crash_in_a_step_leads_to_a_look() {
        for state in [StepState::Running, StepState::Failed, StepState::Removing] {
            let crashed = record(state, 2, "new");
            let facts = facts(Requirement::Required, true);
            let first = forward(&facts, Some(&crashed), None, Purpose::Make, NOW);
            assert_eq!(first, Todo::Observe, "{state}");
            assert_eq!(
                decide(Some(&crashed), &StepObservation::InPlace),
                Todo::Confirm
            );
            let gone = StepObservation::NotInPlace(String::new());
            assert_eq!(decide(Some(&crashed), &gone), Todo::Apply(Why::NotInPlace));
        }
    }

    #[test]
    fn drift_is_applied_and_ignorance_is_not() {
        let done = record(StepState::Done, 2, "new");
        let gone = StepObservation::NotInPlace("its file is gone".into());
        assert_eq!(decide(Some(&done), &gone), Todo::Apply(Why::Drift));
        let unknown = StepObservation::Unknown("no answer".into());
        for record in [None, Some(&done)] {
            assert_eq!(decide(record, &unknown), Todo::CannotTell);
            let maintained = |requirement| {
                let facts = facts(requirement, true);
                forward(&facts, record, Some(&unknown), Purpose::Maintain, NOW)
            };
            assert_eq!(maintained(Requirement::Required), Todo::LeaveUnseen);
            assert_eq!(maintained(Requirement::BestEffort), Todo::CannotTell);
        }
    }

    #[test]
    fn a_newer_release_is_left_its_steps_in_every_state() {
        let facts = facts(Requirement::Required, true);
        for state in StepState::ALL {
            let newer = record(state, 3, "new");
            let todo = forward(&facts, Some(&newer), None, Purpose::Make, NOW);
            assert_eq!(todo, Todo::LeaveToNewer, "{state}");
            assert_eq!(
                backward(&facts, Some(&newer), None),
                Todo::LeaveToNewer,
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
    fn what_another_driver_left_is_found_unless_it_was_given_up() {
        let left = |state, reason: Option<&str>| {
            let record = StepRecord {
                reason: reason.map(str::to_owned),
                ..record(state, 2, "new")
            };
            foreign_leftovers("script", std::slice::from_ref(&record)).count()
        };
        for state in StepState::ALL {
            assert_eq!(left(state, None), usize::from(!state.leaves_nothing()));
        }
        assert_eq!(left(StepState::Failed, Some(super::super::GIVEN_UP)), 0);
        let own = [record(StepState::Done, 2, "new")];
        assert_eq!(foreign_leftovers("sandbox", &own).count(), 0);
    }

    #[test]
    fn a_failed_best_effort_step_waits_for_its_next_try() {
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
        assert_eq!(at(&best, NOW), Todo::Wait);
        assert_eq!(at(&best, later), Todo::Observe);
        assert_eq!(at(&must, NOW), Todo::Observe);
        let changed = StepRecord {
            input_hash: Some("old".into()),
            ..failed.clone()
        };
        assert_eq!(
            forward(&best, Some(&changed), None, Purpose::Make, NOW),
            Todo::Observe
        );
        assert_eq!(
            next_try("sandbox", std::slice::from_ref(&failed)),
            Some(later)
        );
    }

    #[test]
    fn an_unobservable_step_runs_with_the_whole_only() {
        let facts = facts(Requirement::Required, false);
        let done = record(StepState::Done, 2, "new");
        let with = |record, purpose| forward(&facts, record, None, purpose, NOW);
        assert_eq!(
            with(Some(&done), Purpose::Make),
            Todo::Apply(Why::NotObservable)
        );
        assert_eq!(with(Some(&done), Purpose::Maintain), Todo::Nothing);
        assert_eq!(with(None, Purpose::Maintain), Todo::Nothing);
    }

    #[test]
    fn a_removal_skips_only_what_is_removed_and_seen_so() {
        let facts = facts(Requirement::Required, true);
        for state in StepState::ALL {
            let todo = backward(&facts, Some(&record(state, 2, "new")), None);
            let expected = match state {
                StepState::Removed => Todo::Observe,
                _ => Todo::Apply(Why::NotInPlace),
            };
            assert_eq!(todo, expected, "{state}");
        }
        let removed = record(StepState::Removed, 2, "new");
        let after = |seen| backward(&facts, Some(&removed), Some(&seen));
        let (gone, unknown) = (String::new(), String::new());
        assert_eq!(after(StepObservation::NotInPlace(gone)), Todo::Nothing);
        assert_eq!(after(StepObservation::InPlace), Todo::Apply(Why::Drift));
        let unseen = after(StepObservation::Unknown(unknown));
        assert_eq!(unseen, Todo::Apply(Why::Drift));
    }

    #[test]
    fn a_removal_of_an_unobservable_step_is_done_again() {
        let facts = facts(Requirement::Required, false);
        let removed = record(StepState::Removed, 2, "new");
        let todo = backward(&facts, Some(&removed), None);
        assert_eq!(todo, Todo::Apply(Why::NotObservable));
    }
}
