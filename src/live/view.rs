//! A cluster as clients see it: the same JSON in lists, single reads and streams.
//!
//! The first fields keep the names of the system that Kindler replaces.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::clusters::{Cluster, FieldKind, Spec, SpecField};
use crate::core::database::Undecodable;
use crate::store::{ActiveWork, ClusterWithWork, FleetView};

/// A cluster. For a row that cannot be decoded only `name` and `unreadable` are set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct View {
    /// Its name, unique among the clusters that have a row.
    pub name: String,
    /// The identity of the row; a later cluster of the same name has another one. Null if the
    /// row cannot be decoded.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub uid: Option<Uuid>,
    /// The fields of the spec, by their names in the API.
    #[serde(flatten)]
    #[schema(ignore)]
    pub spec: SpecView,
    /// Same as `actual_state`, under its old name.
    pub status: String,
    /// `present`, `stopped` or `absent`.
    pub desired_state: String,
    /// The state that was last recorded.
    pub actual_state: String,
    /// The error of the last attempt; null after a success.
    pub reconcile_error: Option<String>,
    /// When it was declared.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// When its declaration last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub updated_at: Option<Timestamp>,
    /// When a reconcile last wrote its status.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_reconciled_at: Option<Timestamp>,
    /// The reason for the state, as one word.
    pub reason: Option<String>,
    /// The reason for the state, as a sentence.
    pub message: Option<String>,
    /// What it waits for, if no action runs on it: a daemon, a free worker, the cap on deletions.
    pub waiting: Option<String>,
    /// Free labels.
    #[schema(value_type = Object)]
    pub labels: serde_json::Value,
    /// Paused: Kindler observes it and changes nothing until it is resumed.
    pub paused: bool,
    /// Protected: Kindler observes it and never changes it.
    pub protected: bool,
    /// Raised with every change of spec or desired state.
    pub generation: i64,
    /// The generation that was last reconciled.
    pub observed_generation: i64,
    /// Whether the current spec was applied.
    pub spec_applied: bool,
    /// Whether nothing is left to do.
    pub settled: bool,
    /// Failed attempts in a row.
    pub failed_attempts: u32,
    /// When the next attempt is due, if one is scheduled.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
    /// Failed probes in a row.
    pub health_failures: u32,
    /// When a probe last succeeded.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_healthy_at: Option<Timestamp>,
    /// When the next health check is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_check_at: Option<Timestamp>,
    /// When a retry was last requested.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retry_requested_at: Option<Timestamp>,
    /// The server address that the scripts recorded.
    pub server_ip: Option<String>,
    /// Its placement: the selector of the daemons that work on it, if they have one.
    pub placed_by: Option<String>,
    /// The driver that made it; a daemon with another one leaves it alone.
    pub driver: Option<String>,
    /// The ID of the container engine on which it is.
    pub engine: Option<String>,
    /// When its row was last let take over the cluster of its name.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub adopt_requested_at: Option<Timestamp>,
    /// When it was requested to create it again, until it is deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub recreate_requested_at: Option<Timestamp>,
    /// A sentence if its labels do not match its placement any more.
    pub placement_mismatch: Option<String>,
    /// The old name of `placement_mismatch`.
    #[schema(deprecated)]
    pub strays: Option<String>,
    /// The lease of the daemon that works on it now: owner, term, start.
    #[schema(value_type = Option<Object>)]
    pub work: Option<ActiveWork>,
    /// Why the row cannot be decoded, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// A spec with the names that its fields have in the API. Every field is empty if the
/// row cannot be decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpecView(Option<Spec>);

impl SpecView {
    /// The view of a spec.
    pub fn of(spec: Spec) -> Self {
        Self(Some(spec))
    }
}

impl Serialize for SpecView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(spec) => {
                let fields = spec.values();
                serializer.collect_map(fields.map(|(field, value)| (field.api_name, value)))
            }
            None => {
                let empty = |field: &SpecField| match field.kind {
                    FieldKind::Provider => json!(""),
                    FieldKind::Subnet => json!(null),
                    FieldKind::Port { .. } => json!(0),
                    FieldKind::Flag { .. } => json!(false),
                };
                let fields = Spec::FIELDS.iter();
                serializer.collect_map(fields.map(|field| (field.api_name, empty(field))))
            }
        }
    }
}

impl View {
    /// A cluster and its lease.
    pub fn of(cluster: &Cluster, work: Option<ActiveWork>) -> Self {
        Self {
            name: cluster.name.to_string(),
            uid: Some(cluster.uid),
            spec: SpecView::of(cluster.spec.clone()),
            status: cluster.actual.to_string(),
            desired_state: cluster.desired.to_string(),
            actual_state: cluster.actual.to_string(),
            reconcile_error: cluster.reconcile_error.clone(),
            created_at: cluster.created_at,
            updated_at: cluster.updated_at,
            last_reconciled_at: cluster.last_reconciled_at,
            reason: cluster.status_reason.clone(),
            message: cluster.status_message.clone(),
            waiting: None,
            labels: cluster.labels.clone(),
            paused: cluster.paused,
            protected: cluster.protected,
            generation: cluster.generation,
            observed_generation: cluster.observed_generation,
            spec_applied: cluster.spec_applied,
            settled: cluster.settled(),
            failed_attempts: cluster.failed_attempts,
            next_attempt_at: cluster.next_attempt_at,
            health_failures: cluster.health_failures,
            last_healthy_at: cluster.last_healthy_at,
            next_check_at: cluster.next_check_at,
            retry_requested_at: cluster.retry_requested_at,
            server_ip: cluster.server_ip.clone(),
            placed_by: cluster.placed_by.clone(),
            driver: cluster.driver.clone(),
            engine: cluster.engine.clone(),
            adopt_requested_at: cluster.adopt_requested_at,
            recreate_requested_at: cluster.recreate_requested_at,
            placement_mismatch: cluster.placement_mismatch(),
            strays: cluster.placement_mismatch(),
            // An observation also holds a lease, and releasing it writes no row:
            // only states in which an action runs show it.
            work: work.filter(|_| cluster.actual.is_transitional()),
            unreadable: None,
        }
    }

    /// The same, which also says what it waits for.
    pub fn within(cluster: &Cluster, work: Option<ActiveWork>, fleet: Option<&FleetView>) -> Self {
        let leased = work.is_some();
        let mut view = Self::of(cluster, work);
        let waiting = fleet.and_then(|fleet| fleet.waiting(cluster));
        // Someone works on it, although no heartbeat says so yet.
        if let Some(waiting) = waiting.filter(|_| !leased) {
            view.message = Some(waiting.of(cluster));
            view.waiting = Some(waiting.to_string());
        }
        view
    }

    /// A row of the database.
    pub fn of_row(
        row: Result<ClusterWithWork, (String, Undecodable)>,
        fleet: Option<&FleetView>,
    ) -> Self {
        match row {
            Ok(ClusterWithWork { cluster, work }) => Self::within(&cluster, work, fleet),
            Err((name, why)) => Self {
                name,
                unreadable: Some(crate::cause::chain(&why)),
                ..Self::default()
            },
        }
    }
}
