//! Deciding, purely: from a row, what was observed of it, the policy and the
//! moment to *one* step, with its reason.
//!
//! It reads no clock, rolls no dice and touches nothing, so every cell of the
//! state matrix is a plain test (`tests.rs`). Carrying a step out is
//! `reconcile`'s job; what an ended action means is [`conclude`]'s; whether a
//! running one must be cut short is [`interrupt`]'s; whether a step must wait
//! for the good of all is [`hold_deletion`]'s and [`hold_repair`]'s.
//!
//! ```text
//!   row ──> plan ──> Rest                      nothing is due
//!            │ ├───> Observe ──> plan again    the row alone cannot tell
//!            │ ├───> Record                    only the row changes
//!            │ ├───> Remove                    verified gone: the row goes too
//!            │ └───> Act ──> intent is committed ──> driver ──> observe ──> conclude
//! ```

mod conclude;
mod decide;
mod hold;
mod status;
pub mod steps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

use crate::clusters::event::Reason;
use crate::clusters::health::HealthPolicy;
use crate::clusters::observation::Observation;
use crate::clusters::{Actual, Cluster, Desired};
use crate::core::backoff::Backoff;

use decide::Deciding;

pub use conclude::{Conclusion, Failure, Outcome, Persistence, conclude};
pub use hold::{DeletionQueue, hold_deletion, hold_repair, is_repair};
pub use status::{Applied, Status};

/// The numbers that decisions depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Between attempts that fail.
    pub backoff: Backoff,
    /// For clusters that run.
    pub health: HealthPolicy,
    /// Before looking again after a look that failed.
    pub look_again: Duration,
    /// So many deletions may begin within a minute, over all replicas; 0: any.
    pub delete_cap: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            health: HealthPolicy::default(),
            look_again: Duration::from_secs(30),
            delete_cap: 20,
        }
    }
}

/// When a decision is made: the database's time and one throw of the dice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// The database's clock, read with the row.
    pub now: Timestamp,
    /// In `0.0..1.0`.
    pub jitter: f64,
}

impl Moment {
    /// The time `delay` from now; the end of time if that is too far.
    pub fn after(&self, delay: Duration) -> Timestamp {
        jiff::SignedDuration::try_from(delay)
            .ok()
            .and_then(|delay| self.now.checked_add(delay).ok())
            .unwrap_or(Timestamp::MAX)
    }
}

/// What a driver can be asked to do to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make it; idempotent, so also: finish a half-made one, repair one.
    Create,
    /// Apply a changed spec; for drivers the same as create.
    Update,
    /// Start one that is stopped.
    Start,
    /// Stop it and keep it.
    Stop,
    /// Remove it and all that belongs to it.
    Delete,
}

impl Action {
    /// Every action, so that metrics can start all of them at zero.
    pub const ALL: [Self; 5] = [
        Self::Create,
        Self::Update,
        Self::Start,
        Self::Stop,
        Self::Delete,
    ];

    /// The word in logs, labels and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Delete => "delete",
        }
    }

    /// The state that is committed before the action begins.
    pub fn intent(self) -> Actual {
        match self {
            // A start goes through `creating`: the table has no word of its
            // own for it, and a crash asks the same question of both.
            Self::Create | Self::Start => Actual::Creating,
            Self::Update => Actual::Updating,
            Self::Stop => Actual::Stopping,
            Self::Delete => Actual::Deleting,
        }
    }

    fn begun(self) -> Reason {
        match self {
            Self::Create => Reason::Creating,
            Self::Update => Reason::Updating,
            Self::Start => Reason::Starting,
            Self::Stop => Reason::Stopping,
            Self::Delete => Reason::Deleting,
        }
    }

    fn failed(self) -> Reason {
        match self {
            Self::Create => Reason::CreateFailed,
            Self::Update => Reason::UpdateFailed,
            Self::Start => Reason::StartFailed,
            Self::Stop => Reason::StopFailed,
            Self::Delete => Reason::DeleteFailed,
        }
    }
}

/// One step, with its reason.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing is due before `until`.
    Rest {
        /// The row's own next time.
        until: Timestamp,
    },
    /// The row alone cannot tell: look, then plan again with what was seen.
    Observe {
        /// What the look is for.
        why: &'static str,
    },
    /// Nothing to do on the host; the row learns something.
    Record(Status),
    /// Commit `intent`, then do `action`, then conclude.
    Act {
        /// What to do.
        action: Action,
        /// What the row says meanwhile, and after a crash.
        intent: Status,
    },
    /// The cluster is verified gone and its row says `absent`: remove the row.
    Remove,
}

impl Decision {
    /// The word in logs and traces.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Rest { .. } => "rest",
            Self::Observe { .. } => "observe",
            Self::Record(_) => "record",
            Self::Act { action, .. } => action.as_str(),
            Self::Remove => "remove",
        }
    }
}

/// Decides the next step for one row. Total: there is an answer for every
/// triple of desired, actual and observed, and none of them is a dead end.
///
/// `observed` is what [`Decision::Observe`] led to, `None` before that; the answer
/// to `Some` is never `Observe` again.
pub fn plan(
    cluster: &Cluster,
    observed: Option<&Observation>,
    policy: &Policy,
    moment: Moment,
) -> Decision {
    if let Some(until) = cluster.due_at().filter(|due| *due > moment.now) {
        return Decision::Rest { until };
    }
    let decision = Deciding {
        cluster,
        observed,
        policy,
        moment,
    };
    let step = match cluster.desired {
        _ if cluster.hands_off() => decision.only_look(),
        Desired::Present => decision.present(),
        Desired::Stopped => decision.stopped(),
        Desired::Absent => decision.absent(),
    };
    match step {
        Decision::Record(status) => Decision::Record(status.noting(observed)),
        step => step,
    }
}

/// Whether a change of desire must cut a running action short, and why.
///
/// A delete is never cut short: half a cluster is nobody's wish, so it is
/// finished and verified first. A changed *spec* cuts nothing short either: it
/// is applied when the command has ended.
pub fn interrupt(action: Action, wanted: Desired) -> Option<&'static str> {
    match (action, wanted) {
        (Action::Delete, _)
        | (Action::Create | Action::Update | Action::Start, Desired::Present)
        | (Action::Stop, Desired::Stopped) => None,
        (_, Desired::Absent) => Some("it is declared absent now"),
        (_, Desired::Stopped) => Some("it is declared stopped now"),
        (_, Desired::Present) => Some("it is declared present again"),
    }
}

impl Cluster {
    /// When this row is to be looked at; none means at once. The database
    /// computes the same in `clusters.due_at`, which a test compares.
    pub fn due_at(&self) -> Option<Timestamp> {
        if self.hands_off() || self.settled() {
            self.next_check_at
        } else {
            self.next_attempt_at
        }
    }
}
