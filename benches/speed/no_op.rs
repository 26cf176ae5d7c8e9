//! A driver without processes: only Kindler's own work remains.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use kindler::clusters::Cluster;
use kindler::clusters::observation::Observation;
use kindler::clusters::plan::Action;
use kindler::core::steps::StepError;
use kindler::drivers::{ActionRequest, Driver, Kubeconfig, KubeconfigError};

/// Every cluster is healthy, or no cluster exists.
#[derive(Default)]
pub struct NoOpDriver {
    /// Whether clusters exist.
    pub present: AtomicBool,
}

#[async_trait]
impl Driver for NoOpDriver {
    fn name(&self) -> &'static str {
        "no-op"
    }

    async fn preflight(&self) -> Result<(), Vec<String>> {
        Ok(())
    }

    async fn observe(&self, _: &Cluster) -> Observation {
        if self.present.load(Ordering::Relaxed) {
            Observation::HEALTHY
        } else {
            Observation::Absent
        }
    }

    async fn act(&self, _: Action, _: &ActionRequest<'_>) -> Result<(), StepError> {
        Ok(())
    }

    async fn kubeconfig(&self, _: &Cluster) -> Result<Kubeconfig, KubeconfigError> {
        Err(KubeconfigError::None("its clusters are not real"))
    }
}
