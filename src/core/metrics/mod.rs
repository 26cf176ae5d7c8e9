//! The metrics of the core: reconciles, queues, wake-ups, leases, steps.
//!
//! Each controller's series carry its name. Labels are closed sets, series start at zero,
//! times are in seconds. This module decides nothing.

pub mod catalogue;
pub(crate) mod collectors;
mod controllers;
mod family;
mod steps;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntGauge, Registry};

pub use controllers::{ActiveReconcile, ControllerMetrics, ReconcileResult};
pub(crate) use family::families;
pub use family::{Family, FamilyGroup, Kind};
pub use steps::StepMetrics;

use self::{catalogue as names, collectors as create};

/// The core's collectors of one process.
#[derive(Debug)]
pub struct CoreMetrics {
    families: controllers::Families,
    leases: LeaseMetrics,
    steps: steps::StepFamilies,
    controllers: Mutex<BTreeMap<String, ControllerMetrics>>,
}

impl CoreMetrics {
    /// Registers the core's families.
    ///
    /// # Panics
    /// If the registry already has a family of one of these names.
    pub fn new(registry: &Registry) -> Self {
        Self {
            families: controllers::Families::new(registry),
            leases: LeaseMetrics {
                held: create::gauge(registry, &names::LEASES_HELD),
                lost_total: create::counter(registry, &names::LEASE_LOST_TOTAL),
            },
            steps: steps::StepFamilies::new(registry),
            controllers: Mutex::default(),
        }
    }

    /// The metrics of one controller; at the first call all are zero.
    pub fn controller(&self, name: &str) -> ControllerMetrics {
        let mut controllers = self
            .controllers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        controllers
            .entry(name.to_owned())
            .or_insert_with(|| {
                self.families
                    .of(name, self.leases.clone(), self.steps.of(name))
            })
            .clone()
    }

    /// Updates the metrics that depend on the current time.
    pub fn refresh(&self) {
        let controllers = self
            .controllers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for controller in controllers.values() {
            controller.refresh();
        }
    }
}

/// The leases of this process, of all controllers together.
#[derive(Clone, Debug)]
pub struct LeaseMetrics {
    held: IntGauge,
    lost_total: IntCounter,
}

impl LeaseMetrics {
    /// Counts a lease as held, until the result is dropped.
    pub fn hold(&self) -> CountedInGauge {
        CountedInGauge::increment(&self.held)
    }

    /// Counts a lease that was lost while work was running.
    pub fn lost(&self) {
        self.lost_total.inc();
    }
}

/// An increment of a gauge, until this is dropped.
#[derive(Debug)]
pub struct CountedInGauge(IntGauge);

impl CountedInGauge {
    /// Increments the gauge.
    pub fn increment(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for CountedInGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}
