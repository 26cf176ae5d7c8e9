//! Work in recorded steps: each is committed as `running` before it acts and as
//! `done` or `failed` after, so a crash leaves "look again", and the owner that takes
//! over goes on at the first step that is not verified.
//!
//! [`decide`] is pure and says what is to be done about one step; [`run`] does
//! it. This module knows no table and no cluster: [`StepLog`] writes.
//!
//! # Flow
//! ```text
//! forward:   observe ─┬─> in place, same input: next step
//!                     ├─> not in place, or its input changed: running ─> apply ─> observe ─> done
//!                     └─> unknown: the step fails, and is tried again later
//! backward:  removing ─> remove ─> removed, from the last step to the first
//! ```
//! The first step's start is written by the statement that commits the intent, a
//! later one's by the statement that writes how the step before it ended, and the
//! last end by the statement that commits the result. So a driver with one step
//! costs no statement more than one without steps.
//!
//! # Guarantees
//! - A step acts only after its start was committed under the fence.
//! - A step that is in place as declared is not applied again: a changed input or
//!   drift of one step runs that step alone.
//! - A failed `required` step ends the run; a failed `best-effort` step is noted,
//!   has a next try of its own, and the run goes on.
//! - A step of a newer version, or one that this release does not know, is left
//!   alone; see [`decide::unknown_leftovers`].
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
    CUT_SHORT, ENDED_WELL, GIVEN_UP, Requirement, StepChange, StepRecord, StepState, VERIFIED,
};
pub(crate) use record::{OF_ROW, records};
pub use run::{Advanced, Direction, Run, RunEnd, RunResult, StepLog, run_unrecorded};
pub use step::{RunObserver, Step, StepError, StepSet};

#[cfg(test)]
mod tests;
