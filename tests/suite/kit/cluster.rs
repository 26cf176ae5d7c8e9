//! A sample row of `clusters`, also for the model and the tests beside the code.

use kindler::clusters::health::Flaps;
use kindler::clusters::{Actual, Cluster, ClusterName, Desired, PartialSpec};

/// `dev`, just declared and never observed.
pub fn sample_cluster() -> Cluster {
    Cluster {
        name: ClusterName::parse("dev").expect("a name"),
        uid: uuid::Uuid::from_u128(1),
        spec_hash: String::new(),
        spec: PartialSpec::default().or_default(),
        desired: Desired::Present,
        actual: Actual::Unknown,
        status_reason: None,
        status_message: None,
        reconcile_error: None,
        labels: serde_json::json!({}),
        paused: false,
        protected: false,
        generation: 1,
        observed_generation: 0,
        spec_applied: false,
        failed_attempts: 0,
        next_attempt_at: None,
        health_failures: 0,
        last_healthy_at: None,
        flaps: Flaps::default(),
        next_check_at: None,
        last_reconciled_at: None,
        retry_requested_at: None,
        server_ip: None,
        placed_by: None,
        driver: None,
        engine: None,
        adopt_requested_at: None,
        recreate_requested_at: None,
        created_at: None,
        updated_at: None,
    }
}
