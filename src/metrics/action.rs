//! Counters of actions on clusters and their results.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, Registry};

use super::catalogue as names;
use crate::clusters::observation::{Observation, PresentState};
use crate::clusters::plan::Action;
use crate::core::metrics::collectors;

/// Result of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum ActionResult {
    /// The cluster is in the desired state.
    Success,
    /// The action failed; a retry follows.
    Failure,
    /// The action was cancelled.
    Interrupted,
}

impl ActionResult {
    const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How the observation of a cluster that should run differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Drift {
    /// It exists but is unhealthy.
    Unhealthy,
    /// It is stopped.
    Stopped,
    /// It does not exist.
    Gone,
}

impl Drift {
    const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    fn as_str(self) -> &'static str {
        self.into()
    }

    /// The drift in an observation of a cluster that should run; `None` if the
    /// cluster is healthy or its state is unknown.
    pub fn of(observed: &Observation) -> Option<Self> {
        match observed {
            Observation::Present(PresentState::Unhealthy(_)) => Some(Self::Unhealthy),
            Observation::Present(PresentState::Stopped) => Some(Self::Stopped),
            Observation::Absent => Some(Self::Gone),
            Observation::Present(PresentState::Healthy | PresentState::Foreign(_))
            | Observation::Unknown(_) => None,
        }
    }
}

/// The counters of actions on clusters.
#[derive(Debug)]
pub struct ActionMetrics {
    total: IntCounterVec,
    duration_seconds: HistogramVec,
    ready_seconds: Histogram,
    drift_total: IntCounterVec,
    changes_deferred_total: IntCounter,
}

impl ActionMetrics {
    pub(super) fn new(r: &Registry) -> Self {
        let total = collectors::counters(r, &names::ACTION_TOTAL);
        let duration_seconds = collectors::histograms(r, &names::ACTION_DURATION_SECONDS);
        for &action in Action::ALL {
            for &result in ActionResult::ALL {
                total.with_label_values(&[action.as_str(), result.as_str()]);
            }
            duration_seconds.with_label_values(&[action.as_str()]);
        }
        let drift_total = collectors::counters(r, &names::DRIFT_TOTAL);
        for &drift in Drift::ALL {
            drift_total.with_label_values(&[drift.as_str()]);
        }
        Self {
            total,
            duration_seconds,
            ready_seconds: collectors::histogram(r, &names::READY_SECONDS),
            drift_total,
            changes_deferred_total: collectors::counter(r, &names::CHANGES_DEFERRED_TOTAL),
        }
    }

    /// Counts a change that was made while the cluster's command ran, again, and that is
    /// applied after a pause.
    pub fn change_deferred(&self) {
        self.changes_deferred_total.inc();
    }

    /// Counts a finished action.
    pub fn ended(&self, action: Action, result: ActionResult, took: Duration) {
        self.total
            .with_label_values(&[action.as_str(), result.as_str()])
            .inc();
        self.duration_seconds
            .with_label_values(&[action.as_str()])
            .observe(took.as_secs_f64());
    }

    /// Observes the time from a declaration until it was reached.
    pub fn ready(&self, delay: Duration) {
        self.ready_seconds.observe(delay.as_secs_f64());
    }

    /// Counts a drift of a running cluster.
    pub fn drifted(&self, drift: Drift) {
        self.drift_total.with_label_values(&[drift.as_str()]).inc();
    }
}
