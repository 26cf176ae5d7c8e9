//! The plan: a pure function from row, observation, policy and time to one decision with
//! its reason.
//!
//! It has no clock, no randomness and no effects, so the tests cover every cell of the
//! state matrix (`tests`). `reconcile` carries decisions out. [`conclude`] decides what an
//! ended action means, [`interrupt`] whether a running action must stop, and
//! [`defer_deletion`] and [`defer_repair`] whether a safety limit defers an action.
//!
//! ```text
//!   row ──> plan ──> Rest                      nothing is due
//!            │ ├───> Observe ──> plan again    the decision needs an observation
//!            │ ├───> Record                    only the row changes
//!            │ ├───> Remove                    verified absent: remove the row
//!            │ └───> Act ──> intent is committed ──> driver ──> observe ──> conclude
//! ```

mod changed;
mod conclude;
mod decide;
mod defer;
mod foreign;
mod intent;
mod recreation;
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

use decide::DecisionInput;

pub use changed::conclude_changed;
pub use conclude::{Conclusion, Failure, Outcome, Persistence, conclude};
pub use defer::{
    DeletionQueue, defer_deletion, defer_recreation, defer_repair, is_repair, wait_for_host,
};
pub use intent::started_message;
pub use recreation::{counts_on_spec, needs_recreation};
pub use status::{Applied, Status, write_refused};

/// The numbers that decisions depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The delay after a failed attempt.
    pub backoff: Backoff,
    /// Health checks of running clusters.
    pub health: HealthPolicy,
    /// The delay after a failed observation.
    pub observe_retry: Duration,
    /// How many deletions may start within a minute, over all replicas; 0: no limit.
    pub delete_cap: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            backoff: Backoff::default(),
            health: HealthPolicy::default(),
            observe_retry: Duration::from_secs(30),
            delete_cap: 20,
        }
    }
}

/// The time of a decision, and jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// The database's clock, read with the row.
    pub now: Timestamp,
    /// In `0.0..1.0`.
    pub jitter: f64,
}

impl Moment {
    /// The time after `delay`; the latest possible time if that overflows.
    pub fn after(&self, delay: Duration) -> Timestamp {
        jiff::SignedDuration::try_from(delay)
            .ok()
            .and_then(|delay| self.now.checked_add(delay).ok())
            .unwrap_or(Timestamp::MAX)
    }
}

/// What a driver can do to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Action {
    /// Create it. Idempotent, so it also completes or repairs a cluster.
    Create,
    /// Apply a changed spec; for drivers the same as create.
    Update,
    /// Start a stopped cluster.
    Start,
    /// Stop it and keep it.
    Stop,
    /// Delete it and everything that belongs to it.
    Delete,
}

impl Action {
    /// Every action.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The word in logs, labels and errors.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether it may take minutes, so that it must not take every worker: a deletion, a stop
    /// or a check does not wait for it.
    pub fn is_long(self) -> bool {
        match self {
            Self::Create | Self::Update | Self::Start => true,
            Self::Stop | Self::Delete => false,
        }
    }

    /// The state that is committed before the action starts, unless it repairs in place.
    pub fn intent(self) -> Actual {
        match self {
            Self::Create => Actual::Creating,
            Self::Start => Actual::Restarting,
            Self::Update => Actual::Updating,
            Self::Stop => Actual::Stopping,
            Self::Delete => Actual::Deleting,
        }
    }

    fn started_reason(self) -> Reason {
        match self {
            Self::Create => Reason::Creating,
            Self::Update => Reason::Updating,
            Self::Start => Reason::Starting,
            Self::Stop => Reason::Stopping,
            Self::Delete => Reason::Deleting,
        }
    }

    fn failed_reason(self) -> Reason {
        match self {
            Self::Create => Reason::CreateFailed,
            Self::Update => Reason::UpdateFailed,
            Self::Start => Reason::StartFailed,
            Self::Stop => Reason::StopFailed,
            Self::Delete => Reason::DeleteFailed,
        }
    }
}

/// A decision about one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Do nothing: nothing is due before `until`.
    Rest {
        /// When the row is due.
        until: Timestamp,
    },
    /// Observe the cluster, then plan again with the observation.
    Observe {
        /// Why an observation is needed.
        why: &'static str,
    },
    /// Write a status; do nothing on the host.
    Record(Status),
    /// Commit `intent`, then run `action`, then conclude.
    Act {
        /// The action.
        action: Action,
        /// The status during the action, and after a crash.
        intent: Status,
    },
    /// Remove the row: the cluster is verified absent and declared absent.
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

/// Decides about one row. There is a decision for every triple of desired, actual and
/// observed state; each converges or has a next attempt.
///
/// `observed` is the observation after [`Decision::Observe`], `None` before it; with
/// `Some` the decision is never `Observe`.
pub fn plan(
    cluster: &Cluster,
    observed: Option<&Observation>,
    policy: &Policy,
    moment: Moment,
) -> Decision {
    if let Some(until) = cluster.due_at().filter(|due| *due > moment.now) {
        return Decision::Rest { until };
    }
    let input = DecisionInput {
        cluster,
        observed,
        policy,
        moment,
    };
    let decision = match cluster.desired {
        _ if cluster.observe_only() => input.observe_only(),
        Desired::Present => input.of_its_own(input.present()),
        Desired::Stopped => input.of_its_own(input.stopped()),
        Desired::Absent => input.of_its_own(input.absent()),
    };
    match decision {
        Decision::Record(status) => Decision::Record(status.with_absence(observed)),
        decision => decision,
    }
}

/// Whether a changed desired state must stop a running action, and why.
///
/// A delete is never stopped, because it would leave half a cluster: it is finished and
/// verified first. A changed *spec* stops no action: it is applied after the action.
pub fn interrupt(action: Action, desired: Desired) -> Option<&'static str> {
    match (action, desired) {
        (Action::Delete, _)
        | (Action::Create | Action::Update | Action::Start, Desired::Present)
        | (Action::Stop, Desired::Stopped) => None,
        (_, Desired::Absent) => Some("it is declared absent now"),
        (_, Desired::Stopped) => Some("it is declared stopped now"),
        (_, Desired::Present) => Some("it is declared present again"),
    }
}

impl Cluster {
    /// When this row is due; none means at once. The column `clusters.due_at` has the same
    /// value; a test compares them.
    pub fn due_at(&self) -> Option<Timestamp> {
        if self.observe_only() || self.settled() {
            self.next_check_at
        } else {
            self.next_attempt_at
        }
    }
}
