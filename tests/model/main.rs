//! The protocol of claim, fence, states and recorded steps as a model, explored
//! completely.
//!
//! Two owners, one row, one host. What decides is the product itself: `plan`,
//! `conclude`, `interrupt`, `Status::apply_to`, `Cluster::due_at`; of steps
//! `forward`, `backward`, `before_removal`, `after_removal`, `after_run`,
//! `with_steps`, `step_lost` (and `unknown_leftovers` and `next_try` in them). What
//! is written again here is what cannot run inside a model: the statements of
//! `sql/core` (`database`), the order of steps in `reconcile` (`owner`, `pass`), the
//! order of looks and writes in a run (`run`), commands and their guards (`world`,
//! `protocol`).
//!
//! A driver works at once, in one step that cannot be observed (as the host's own
//! command), or in three: network and cluster, which are required, and a last one
//! that is best-effort or required. The records of the steps are in the database,
//! written with the intent, in the middle and with the result; what is there of
//! each step is in the world.
//!
//! In the model, in every order: a person who changes desire or spec, pauses and
//! resumes, or declares a removed row again; owners paused for any time at any step; crash
//! and shutdown; leases that expire; requests that never arrive, answers that
//! are lost, statements that take effect after their sender gave up; a claim
//! whose row and steps were read before the lease was free; looks that fail, at the
//! cluster or at a step; commands that are cut half-way, fail, fail after their
//! work, or lie; removals that are given up; a cluster that falls ill, stops, heals
//! or vanishes by itself, and so each step; a step that a newer release made.
//!
//! Left out, and held elsewhere: notifications (they only hasten; here a pass
//! may begin whenever the row is due), delays beyond "due or not" and the
//! count of attempts (`plan::tests`), protected rows (`planner`,
//! `plan::tests`), deletions and repairs that are deferred (`plan::tests`), whether
//! Postgres does what `database` says
//! (`tests/suite/schema/fence.rs`), whether a guard ends a tree in time
//! (`tests/suite/command`). A guard that is itself killed or stopped, and a
//! command that lies over a cluster that answers, are outside of the promises;
//! so is a step that reports itself removed and is not.
//!
//! Known limits. With three faults, of judging commands: a create that fails around
//! a cluster that answers counts as done where no step tells better, so one
//! that fails while an ill cluster of an older spec heals by itself leaves that
//! spec recorded as applied. Of steps: one whose look cannot tell its input (here
//! the last one) is recorded as done after a crash between its start and its
//! effect, though it is of the older input; an owner whose claim read the steps
//! before the last owner wrote them may apply a step once more; a spec counts as
//! applied although a step was left to a newer release.
//!
//! Bounds: leases of two ticks, trusted for one; two specs; two failed probes
//! in a row; faults and changes as each test in `explored` says.

mod broken;
mod calm;
mod database;
mod decisions;
mod explored;
mod owner;
mod pass;
mod planner;
mod properties;
mod protocol;
mod row;
mod rules;
mod run;
mod state;
mod steps;
mod trace;
mod world;
