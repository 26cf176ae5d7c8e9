//! What is done to clusters, and what came of it.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounterVec, Registry};

use super::catalogue as names;
use crate::clusters::observation::{Condition, Observation};
use crate::clusters::plan::Action;
use crate::core::metrics::collectors as made;

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionResult {
    /// The cluster is as wanted.
    Success,
    /// It is not; a retry follows.
    Failure,
    /// It was cut short.
    Interrupted,
}

impl ActionResult {
    const ALL: [Self; 3] = [Self::Success, Self::Failure, Self::Interrupted];

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Interrupted => "interrupted",
        }
    }
}

/// How a running cluster was found instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drift {
    /// It is there and does not answer as it should.
    Unhealthy,
    /// Somebody stopped it.
    Stopped,
    /// It does not exist.
    Gone,
}

impl Drift {
    const ALL: [Self; 3] = [Self::Unhealthy, Self::Stopped, Self::Gone];

    fn as_str(self) -> &'static str {
        match self {
            Self::Unhealthy => "unhealthy",
            Self::Stopped => "stopped",
            Self::Gone => "gone",
        }
    }

    /// What was seen of a cluster that should run and is to be repaired;
    /// nothing if it answers or nothing is known.
    pub fn seen(observed: &Observation) -> Option<Self> {
        match observed {
            Observation::Present(Condition::Unhealthy(_)) => Some(Self::Unhealthy),
            Observation::Present(Condition::Stopped) => Some(Self::Stopped),
            Observation::Absent => Some(Self::Gone),
            Observation::Present(Condition::Healthy) | Observation::Unknown(_) => None,
        }
    }
}

/// The counters of work on clusters.
#[derive(Debug)]
pub struct ActionMetrics {
    total: IntCounterVec,
    duration_seconds: HistogramVec,
    ready_seconds: Histogram,
    drift_total: IntCounterVec,
}

impl ActionMetrics {
    pub(super) fn new(r: &Registry) -> Self {
        let total = made::counters(r, &names::ACTION_TOTAL);
        let duration_seconds = made::histograms(r, &names::ACTION_DURATION_SECONDS);
        for action in Action::ALL {
            for result in ActionResult::ALL {
                total.with_label_values(&[action.as_str(), result.as_str()]);
            }
            duration_seconds.with_label_values(&[action.as_str()]);
        }
        let drift_total = made::counters(r, &names::DRIFT_TOTAL);
        for drift in Drift::ALL {
            drift_total.with_label_values(&[drift.as_str()]);
        }
        Self {
            total,
            duration_seconds,
            ready_seconds: made::histogram(r, &names::READY_SECONDS),
            drift_total,
        }
    }

    /// Counts an ended action.
    pub fn ended(&self, action: Action, result: ActionResult, took: Duration) {
        self.total
            .with_label_values(&[action.as_str(), result.as_str()])
            .inc();
        self.duration_seconds
            .with_label_values(&[action.as_str()])
            .observe(took.as_secs_f64());
    }

    /// Counts a generation that was reached so long after it was declared.
    pub fn ready(&self, after: Duration) {
        self.ready_seconds.observe(after.as_secs_f64());
    }

    /// Counts a running cluster that was found otherwise.
    pub fn drifted(&self, drift: Drift) {
        self.drift_total.with_label_values(&[drift.as_str()]).inc();
    }
}
