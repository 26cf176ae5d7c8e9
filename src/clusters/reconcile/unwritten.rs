//! Actions whose end is not recorded yet. If the result cannot be written before the lease
//! ends, this process writes it at its next claim, after another observation, so that the
//! action does not run again. This module decides nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use uuid::Uuid;

use crate::clusters::plan::{Action, Outcome};
use crate::clusters::{Actual, Cluster};
use crate::core::rows::Leased;
use crate::core::steps::StepChange;

/// An action that has ended.
#[derive(Clone, Debug)]
pub(super) struct EndedAction {
    pub(super) action: Action,
    pub(super) outcome: Outcome,
    /// The step changes to write with the result.
    pub(super) changes: Vec<StepChange>,
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

/// The values of the row with the intent. Each status write changes the time, and every
/// owner writes an intent before it acts: while they are the same, nothing else has run.
#[derive(Clone, Debug, PartialEq)]
struct IntentRow {
    uid: Uuid,
    generation: i64,
    spec_hash: String,
    actual: Actual,
    written_at: Option<Timestamp>,
}

impl IntentRow {
    fn of(row: &Leased<Cluster>) -> Self {
        Self {
            uid: row.object.uid,
            generation: row.generation,
            spec_hash: row.object.spec_hash.clone(),
            actual: row.object.actual,
            written_at: row.object.last_reconciled_at,
        }
    }
}

/// The unwritten results, at most one for each name.
#[derive(Debug, Default)]
pub struct UnwrittenResults {
    results: Mutex<HashMap<String, (IntentRow, EndedAction)>>,
}

impl UnwrittenResults {
    /// Keeps the result of an action until [`UnwrittenResults::forget`]; `row` has its
    /// intent.
    pub(super) fn keep(&self, row: &Leased<Cluster>, ended: &EndedAction) {
        let name = row.object.name.as_str().to_owned();
        self.lock()
            .insert(name, (IntentRow::of(row), ended.clone()));
    }

    /// The result that the row still waits for. Forgets one that it does not wait for.
    pub(super) fn of(&self, row: &Leased<Cluster>) -> Option<EndedAction> {
        let mut results = self.lock();
        let name = row.object.name.as_str();
        let (intent, ended) = results.get(name)?;
        if *intent == IntentRow::of(row) {
            return Some(ended.clone());
        }
        results.remove(name);
        None
    }

    /// The result is written, or the row does not wait for it any more.
    pub(super) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (IntentRow, EndedAction)>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
