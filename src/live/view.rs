//! A cluster as clients see it: one shape for lists, single reads and streams.
//!
//! The first fields are those of the system that Kindler replaces, by their old
//! names; the rest was added.

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::clusters::{Cluster, FieldKind, Spec, SpecField};
use crate::core::database::Undecodable;
use crate::store::{Live, Work};

/// A cluster as clients see it. Of a row that cannot be read there is only the
/// name, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct View {
    /// The key.
    pub name: String,
    /// The identity of the row; a later cluster of the same name has another. None if the row
    /// cannot be read.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub uid: Option<Uuid>,
    /// Every field of the spec, by its name in the API.
    #[serde(flatten)]
    #[schema(ignore)]
    pub spec: SpecView,
    /// The same as `actual_state`, by its old name.
    pub status: String,
    /// `present`, `stopped` or `absent`.
    pub desired_state: String,
    /// What was last recorded.
    pub actual_state: String,
    /// The last failure; none after a success.
    pub reconcile_error: Option<String>,
    /// When it was declared.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// When its declaration last changed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub updated_at: Option<Timestamp>,
    /// The last time that a reconcile wrote to it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_reconciled_at: Option<Timestamp>,
    /// Why it is as it is, as a word.
    pub reason: Option<String>,
    /// Why it is as it is, in a sentence.
    pub message: Option<String>,
    /// Free labels.
    #[schema(value_type = Object)]
    pub labels: serde_json::Value,
    /// Only looked at until it is resumed.
    pub paused: bool,
    /// Only ever looked at.
    pub protected: bool,
    /// Raised with every change of spec or desired state.
    pub generation: i64,
    /// The generation that was last reached.
    pub observed_generation: i64,
    /// Whether just this spec was applied.
    pub spec_applied: bool,
    /// Whether nothing is left to do.
    pub settled: bool,
    /// Failed attempts in a row.
    pub failed_attempts: u32,
    /// When the next attempt is due, if one is awaited.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Timestamp>,
    /// Failed probes in a row.
    pub health_failures: u32,
    /// The last healthy probe.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_healthy_at: Option<Timestamp>,
    /// When it is looked at again.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_check_at: Option<Timestamp>,
    /// When somebody last asked for an attempt at once.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retry_requested_at: Option<Timestamp>,
    /// The address that the host's scripts recorded.
    pub server_ip: Option<String>,
    /// The selector of the daemons that it stays with, if daemons select.
    pub placed_by: Option<String>,
    /// That its labels would put it elsewhere by now, in a sentence.
    pub strays: Option<String>,
    /// Who works on it now, under which fence, since when.
    #[schema(value_type = Option<Object>)]
    pub work: Option<Work>,
    /// Why the row cannot be read, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// A spec with the names that its fields have in the API; where the row cannot be
/// read, every field is empty.
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
    /// A cluster, and who works on it.
    pub fn of(cluster: &Cluster, work: Option<Work>) -> Self {
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
            strays: cluster.strays(),
            // A lease is also held for a look, and its release writes no row:
            // work is told only of states in which there is some.
            work: work.filter(|_| cluster.actual.is_at_work()),
            unreadable: None,
        }
    }

    /// A row as it was read.
    pub fn of_row(row: Result<Live, (String, Undecodable)>) -> Self {
        match row {
            Ok(Live { cluster, work }) => Self::of(&cluster, work),
            Err((name, why)) => Self {
                name,
                unreadable: Some(crate::cause::chain(&why)),
                ..Self::default()
            },
        }
    }
}
