//! What the core counts: reconciles, queues, wake-ups, leases, steps.
//!
//! Each controller's series carry its name. Labels are closed sets, all of them
//! start at zero, times are seconds. This module must not decide.

pub mod catalogue;
pub(crate) mod collectors;
mod controllers;
mod family;
mod steps;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounter, IntGauge, Registry};

pub use controllers::{ControllerMetrics, ReconcileResult, Working};
pub(crate) use family::families;
pub use family::{Family, FamilyGroup, Kind};
pub use steps::StepMetrics;

use self::{catalogue as names, collectors as made};

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
    /// If the registry has a family of one of these names already.
    pub fn new(registry: &Registry) -> Self {
        Self {
            families: controllers::Families::new(registry),
            leases: LeaseMetrics {
                held: made::gauge(registry, &names::LEASES_HELD),
                lost_total: made::counter(registry, &names::LEASE_LOST_TOTAL),
            },
            steps: steps::StepFamilies::new(registry),
            controllers: Mutex::default(),
        }
    }

    /// The counters of one controller, all at zero the first time.
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

    /// Brings up to date what only the moment of a scrape can tell.
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
    /// Counts a lease as held, until the answer is dropped.
    pub fn hold(&self) -> Occupied {
        Occupied::one_of(&self.held)
    }

    /// Counts a lease that was lost while work was under way.
    pub fn lost(&self) {
        self.lost_total.inc();
    }
}

/// One more in a gauge, until this is dropped.
#[derive(Debug)]
pub struct Occupied(IntGauge);

impl Occupied {
    /// Adds one to the gauge.
    pub fn one_of(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.dec();
    }
}
