//! The driver and the container engine that a row records: a daemon with another driver does not
//! act on the row, and shows why.

use crate::clusters::Cluster;
use crate::clusters::observation::Observation;
use crate::clusters::plan::steps::{left_to_another_driver, of_another_driver};
use crate::clusters::plan::{Action, Decision, Status, needs_recreation, plan};
use crate::core::rows::Leased;
use crate::store::ClusterStatus;

use super::context::ReconcileContext;
use super::{ClusterReconciler, moment};

impl ClusterReconciler {
    /// The decision about a cluster of another driver. This driver cannot observe it, so the
    /// observation is unknown, and no action runs.
    pub(super) fn leave_to_another_driver(
        &self,
        row: &Leased<Cluster>,
        decision: Decision,
        why: String,
    ) -> Decision {
        let (cluster, policy, moment) = (&row.object, &self.policy, moment(row));
        let unknown = || Observation::unknown(why.clone());
        let decision = match decision {
            Decision::Observe { .. } => plan(cluster, Some(&unknown()), policy, moment),
            decision => decision,
        };
        match decision {
            Decision::Act { .. } => {
                Decision::Record(left_to_another_driver(cluster, why, policy, moment))
            }
            decision => decision,
        }
    }

    /// A status as it is written. What makes or finds a cluster records this daemon's driver and
    /// engine.
    pub(super) fn written(&self, cluster: &Cluster, status: &Status) -> ClusterStatus {
        let written = ClusterStatus::new(status, &cluster.spec_hash);
        if status.healthy || status.actual.is_transitional() {
            written.made_by(self.driver.name(), self.driver.engine())
        } else {
            written
        }
    }

    /// The status after an action that left a healthy cluster which is not as declared.
    pub(super) async fn recreation_after(
        &self,
        row: &Leased<Cluster>,
        action: Action,
        observed: &Observation,
    ) -> Option<Status> {
        let makes = matches!(action, Action::Create | Action::Update | Action::Start);
        if !makes || !observed.is_healthy() {
            return None;
        }
        let why = self.driver.recreation(&row.object).await?;
        needs_recreation(&row.object, observed, &why, &self.policy, moment(row))
    }

    /// Why another driver than this daemon's must act on a cluster, if it must.
    pub(super) fn of_another_driver(
        &self,
        context: &ReconcileContext<'_>,
        cluster: &Cluster,
    ) -> Option<String> {
        of_another_driver(self.driver.name(), cluster, &context.work.steps())
    }
}
