//! The metrics of steps.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, Registry};

use super::{catalogue as names, collectors as create};

#[derive(Clone, Debug)]
pub(super) struct StepFamilies {
    duration_seconds: HistogramVec,
    failures_total: IntCounterVec,
}

impl StepFamilies {
    pub(super) fn new(r: &Registry) -> Self {
        Self {
            duration_seconds: create::histograms(r, &names::STEP_DURATION_SECONDS),
            failures_total: create::counters(r, &names::STEP_FAILURES_TOTAL),
        }
    }

    pub(super) fn of(&self, controller: &str) -> StepMetrics {
        StepMetrics {
            families: self.clone(),
            controller: controller.to_owned(),
        }
    }
}

/// The metrics of one controller's steps. Steps are a closed set: those of the drivers of
/// this process.
#[derive(Clone, Debug)]
pub struct StepMetrics {
    families: StepFamilies,
    controller: String,
}

impl StepMetrics {
    /// The values of the label `operation`.
    pub const OPERATIONS: [&str; 2] = ["apply", "remove"];

    /// Starts the series of these steps at zero.
    pub fn expect(&self, driver: &str, steps: &[&str]) {
        for step in steps {
            for operation in Self::OPERATIONS {
                let labels = [self.controller.as_str(), driver, step, operation];
                self.families.duration_seconds.with_label_values(&labels);
                self.families.failures_total.with_label_values(&labels);
            }
        }
    }

    /// Counts an attempt that ended.
    pub fn ended(&self, driver: &str, step: &str, operation: &str, took: Duration, success: bool) {
        let labels = [self.controller.as_str(), driver, step, operation];
        let durations = self.families.duration_seconds.with_label_values(&labels);
        durations.observe(took.as_secs_f64());
        let failures = self.families.failures_total.with_label_values(&labels);
        if !success {
            failures.inc();
        }
    }
}
