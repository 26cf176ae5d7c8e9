//! What the workers of a controller do and which keys wait for them, for people.

use serde::{Deserialize, Serialize};

/// How many waiting keys are named.
pub const NAMED: usize = 200;

/// The workers and the queue of a controller at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// The workers.
    pub workers: usize,
    /// The workers that are busy.
    pub busy: usize,
    /// The places for long work.
    pub places: usize,
    /// Those that are taken.
    pub taken: usize,
    /// The keys that run.
    pub running: Vec<String>,
    /// How many keys wait and are due.
    pub waiting: usize,
    /// The first [`NAMED`] of them, in the order in which they start.
    pub next: Vec<String>,
    /// How many of `next`, from its start, wait for a place for long work.
    pub long: usize,
}
