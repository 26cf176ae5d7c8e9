//! The protocol of claim, fence and state as a model, explored completely.
//!
//! Two owners, one row, one host. What decides is the product itself: `plan`,
//! `conclude`, `interrupt`, `Status::apply_to`, `Cluster::due_at`. What is
//! written again here is what cannot run inside a model: the statements of
//! `sql/queries` (`database`), the order of steps in `reconcile` (`owner`),
//! commands and their guards (`world`, `protocol`).
//!
//! In the model, in every order: a person who changes desire or spec, pauses and
//! resumes, or declares a removed row again; owners paused for any time at any step; crash
//! and shutdown; leases that expire; requests that never arrive, answers that
//! are lost, statements that take effect after their sender gave up; a claim
//! whose row was read before the lease was free; looks that fail; commands
//! that are cut half-way, fail, fail after their work, or lie; a cluster that
//! falls ill, stops, heals or vanishes by itself.
//!
//! Left out, and held elsewhere: notifications (they only hasten; here a turn
//! may begin whenever the row is due), delays beyond "due or not" and the
//! count of attempts (`plan::tests`), protected rows (`planner`,
//! `plan::tests`), whether Postgres does what `database` says
//! (`tests/suite/schema/fence.rs`), whether a guard ends a tree in time
//! (`tests/suite/command`). A guard that is itself killed or stopped, and a
//! command that lies over a cluster that answers, are outside of the promises.
//!
//! Known limit, with three faults: not of this protocol but of judging commands:
//! a create that fails around a cluster that answers counts as done, so one
//! that fails while an ill cluster of an older spec heals by itself leaves that
//! spec recorded as applied.
//!
//! Bounds: leases of two ticks, trusted for one; two specs; two failed probes
//! in a row; faults and changes as each test in `explored` says.

mod broken;
mod calm;
mod database;
mod explored;
mod owner;
mod planner;
mod properties;
mod protocol;
mod row;
mod rules;
mod state;
mod trace;
mod world;
