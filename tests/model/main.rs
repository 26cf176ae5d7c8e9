//! The protocol of claims, fences, states and recorded steps as a model that is
//! explored completely.
//!
//! Two owners, one row, one host. The decisions are the product's own functions:
//! `plan`, `conclude`, `interrupt`, `Status::apply_to`, `Cluster::due_at`; for steps
//! `forward`, `backward`, `before_removal`, `after_removal`, `after_run`, `with_steps`,
//! `required_step_failed` (and, inside them, `unknown_leftovers` and `next_try`). The
//! model reimplements only what cannot run inside it: the statements of `sql/core`
//! (`database`), the order of steps in `reconcile` (`owner`, `pass`), the order of
//! observations and writes in a run (`run`), commands and their guards (`host`,
//! `protocol`).
//!
//! A driver works without steps, in one step that cannot be observed (such as the
//! host's own command), or in three: network and cluster, which are required, and a
//! last one that is best-effort or required. The step records are in the database; they
//! are written with the intent, during the run and with the result. The host holds the
//! actual effects of each step.
//!
//! The model covers, in every order: a person who changes desire or spec, pauses and
//! resumes, or declares a removed row again; owners that pause for any time at any
//! step; crash and shutdown; leases that expire; requests that never arrive, answers
//! that are lost, statements that take effect after their sender gave up; a claim whose
//! row and steps were read before the lease was free; failed observations of the
//! cluster or of a step; commands that are killed half-way, fail, fail after their
//! work, or report success without it; removals that are given up; a cluster that
//! becomes unhealthy, stops, recovers or vanishes without a command, and the same for
//! each step; a step that a newer release made.
//!
//! Not modelled, and tested elsewhere: notifications (they only make a pass start
//! sooner; here a pass may begin whenever the row is due), delays beyond "due or not"
//! and the count of attempts (`plan::tests`), protected rows (`planner`,
//! `plan::tests`), deferred deletions and repairs (`plan::tests`), whether Postgres
//! does what `database` says (`tests/suite/schema/fence.rs`), whether a guard ends a
//! process tree in time (`tests/suite/command`). Kindler gives no guarantee for a guard
//! that is itself killed or stopped, a command that reports a false success while the
//! cluster answers, or a step that falsely reports its removal.
//!
//! Known limits. With three faults: where no step tells more, a create that fails
//! counts as done if the cluster answers. If such a create fails while an unhealthy
//! cluster of an older spec recovers, that spec stays recorded as applied. In steps: a
//! step whose observation does not show its input (here the last one) is recorded as
//! done after a crash between its start and its effect, although the effect has the
//! older input. An owner whose claim read the steps before the last owner wrote them
//! may apply a step once more. A spec counts as applied although a step was left to a
//! newer release.
//!
//! Bounds: a lease lasts two ticks and is trusted for one; two specs; two failed probes
//! in a row mean lost; each test in `exploration` sets the number of faults and
//! changes.

#[path = "../suite/kit/cluster.rs"]
mod cluster;
mod convergence;
mod database;
mod decisions;
mod defects;
mod exploration;
mod host;
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
