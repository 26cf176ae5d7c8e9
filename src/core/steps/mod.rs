//! Work in recorded steps. Each step is committed as `running` before it acts and as
//! `done` or `failed` after, so that after a crash the next owner observes and resumes at
//! the first step that is not verified.
//!
//! [`decide`] is pure and decides about one step; `run` executes the decisions. This
//! module knows no table and no cluster: [`StepLog`] writes.
//!
//! # Flow
//! ```text
//! forward:   observe ─┬─> in place, same input: next step
//!                     ├─> not in place, or its input changed: running ─> apply ─> observe ─> done
//!                     └─> unknown: the step fails, and is retried later
//! backward:  removing ─> remove ─> removed, from the last step to the first
//! ```
//! The statement that commits the intent writes the start of the first step; the
//! statement that writes the end of a step writes the start of the next one; the
//! statement that commits the result writes the last end. So a driver with one step needs
//! no more statements than one without steps.
//!
//! # Guarantees
//! - A step acts only after its start is committed under the fence.
//! - A step that is in place as declared is not applied again: a changed input or drift
//!   of one step runs only that step.
//! - A failed `required` step ends the run. A failed `best-effort` step is recorded with
//!   its own next attempt, and the run continues.
//! - A step of a newer version, or one that this release does not know, is not touched;
//!   see [`decide::unknown_leftovers`].
//!
//! # Assumptions
//! - `apply` and `remove` are idempotent; they may run again after a crash.
//! - `observe` changes nothing.

pub mod decide;
mod notes;
mod record;
mod run;
mod step;

pub use decide::{Purpose, StepFacts, StepObservation};
pub use record::{
    ENDED_WELL, GIVEN_UP, INTERRUPTED, Requirement, StepChange, StepRecord, StepState, VERIFIED,
};
pub(crate) use record::{OF_ROW, records};
pub use run::{Advanced, Direction, Run, RunEnd, RunResult, StepLog, run_unrecorded};
pub use step::{RunObserver, Step, StepError, StepSet};

#[cfg(test)]
mod tests;
