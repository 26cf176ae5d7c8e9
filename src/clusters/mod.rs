//! A cluster as its row describes it: desired state, spec, recorded state, and reason.
//!
//! This file has plain values only: [`crate::clusters::plan`] decides, `store` reads and
//! writes.

mod condition;
pub mod event;
pub mod health;
mod name;
pub mod observation;
pub mod plan;
pub mod reconcile;
mod selector;
mod spec;
mod steps;
mod waiting;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::event::Reason;
use self::health::Flaps;

pub use condition::{ConditionInputs, ConditionStatus, ConditionType};
pub(crate) use name::is_label;
pub use name::{ClusterName, MANAGEMENT_CLUSTER, MAX_NAME, NameError};
pub use selector::{LabelRequirement, Selector, SelectorError};
pub(crate) use spec::spec_columns;
pub use spec::{
    FieldKind, HostPort, MAX_K3D_NAME, MAX_KIND_NAME, PartialSpec, Port, Provider, Spec, SpecError,
    SpecField, SpecValue, Subnet,
};
pub use steps::StepProgress;
pub use waiting::Waiting;

/// A state that this release does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {given:?} is not known: use {allowed}")]
pub struct StateError {
    field: &'static str,
    given: String,
    allowed: String,
}

/// Declares a state enum and its words in the table in one place.
macro_rules! states {
    ($(#[$doc:meta])* $name:ident in $field:literal {
        $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every state, in the order of a cluster's lifecycle.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word in the table, the API and the metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = StateError;
            fn from_str(text: &str) -> Result<Self, StateError> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => Err(StateError {
                        field: $field,
                        given: other.to_owned(),
                        allowed: [$($word,)+].join(", "),
                    }),
                }
            }
        }
    };
}

states! {
    /// The declared state.
    Desired in "desired_state" {
        /// The cluster exists and runs.
        Present = "present",
        /// The cluster does not run; what exists of it is kept.
        Stopped = "stopped",
        /// Neither the cluster nor its row exists.
        Absent = "absent",
    }
}

states! {
    /// The state that the reconciler last recorded: before an effect (`creating`) and
    /// after its observation (`running`).
    Actual in "actual_state" {
        /// Not observed yet.
        Unknown = "unknown",
        /// The intent to create it is committed.
        Creating = "creating",
        /// Its last probes succeeded, or too few failed to count it as lost.
        Running = "running",
        /// The intent to start it, or to repair it in place, is committed.
        Restarting = "restarting",
        /// The intent to apply the spec is committed.
        Updating = "updating",
        /// The intent to stop it is committed.
        Stopping = "stopping",
        /// Stopped, or declared stopped before it was created.
        Stopped = "stopped",
        /// The last attempt failed; `next_attempt_at` is the time of the next one.
        Failed = "failed",
        /// The intent to delete it is committed.
        Deleting = "deleting",
    }
}

impl Actual {
    /// Whether an action runs in this state, provided that a replica holds the lease.
    pub fn is_transitional(self) -> bool {
        match self {
            Self::Creating
            | Self::Restarting
            | Self::Updating
            | Self::Stopping
            | Self::Deleting => true,
            Self::Unknown | Self::Running | Self::Stopped | Self::Failed => false,
        }
    }
}

/// One row of `clusters`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// The key; it never changes.
    pub name: ClusterName,
    /// The identity of this row; a later row of the same name has another.
    pub uid: Uuid,
    /// The declared spec.
    #[serde(flatten)]
    pub spec: Spec,
    /// The database's hash of the spec, recorded when the spec is applied.
    #[serde(skip)]
    pub spec_hash: String,
    /// The desired state.
    #[serde(rename = "desired_state")]
    pub desired: Desired,
    /// The recorded state.
    #[serde(rename = "actual_state")]
    pub actual: Actual,
    /// The reason of the recorded state, as a word of [`crate::clusters::event::Reason`].
    pub status_reason: Option<String>,
    /// The reason as a sentence.
    pub status_message: Option<String>,
    /// The last failure; empty after a success.
    pub reconcile_error: Option<String>,
    /// Free labels.
    pub labels: serde_json::Value,
    /// Only observed, until resumed.
    pub paused: bool,
    /// Only observed, and cannot be declared absent.
    pub protected: bool,
    /// Raised by the database when the spec or the desired state changes.
    pub generation: i64,
    /// The last generation whose desired state was reached.
    pub observed_generation: i64,
    /// Whether a command that succeeded has applied exactly this spec. After a crash or a
    /// failed command it is `false`, even if the cluster is healthy.
    pub spec_applied: bool,
    /// Failed attempts in a row.
    pub failed_attempts: u32,
    /// When the next attempt is due; none means now.
    pub next_attempt_at: Option<Timestamp>,
    /// Failed probes in a row while running.
    pub health_failures: u32,
    /// The last successful probe.
    pub last_healthy_at: Option<Timestamp>,
    /// How often it recovered or was lost lately.
    #[serde(skip)]
    pub flaps: Flaps,
    /// When a settled cluster is checked next; none means now.
    pub next_check_at: Option<Timestamp>,
    /// The last write of a reconcile to the row.
    pub last_reconciled_at: Option<Timestamp>,
    /// When a person last requested an attempt at once.
    pub retry_requested_at: Option<Timestamp>,
    /// The address that the host's scripts recorded.
    pub server_ip: Option<String>,
    /// The placement: the selector of the daemons that keep it, if daemons select.
    pub placed_by: Option<String>,
    /// The driver of the first action; another driver never acts on the row.
    pub driver: Option<String>,
    /// The ID of the container engine on which the cluster is, or may be.
    pub engine: Option<String>,
    /// When a person last let the row take over the cluster of its name.
    pub adopt_requested_at: Option<Timestamp>,
    /// When a person requested that the cluster is created again, until it is deleted.
    pub recreate_requested_at: Option<Timestamp>,
    /// When it was declared.
    pub created_at: Option<Timestamp>,
    /// When the declaration last changed.
    pub updated_at: Option<Timestamp>,
}

impl Cluster {
    /// A cluster that may exist without a row, in order to observe it: as if it were declared
    /// with the default spec.
    pub fn undeclared(name: ClusterName, provider: Provider) -> Self {
        let spec = PartialSpec {
            provider: Some(provider),
            ..PartialSpec::default()
        };
        Self {
            name,
            uid: Uuid::nil(),
            spec: spec.or_default(),
            spec_hash: String::new(),
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

    /// Whether it is only observed: paused, protected, or the management cluster.
    pub fn observe_only(&self) -> bool {
        self.paused || self.protected || self.name.is_management()
    }

    /// Whether the cluster of its name is this row's: it began an action after it was observed
    /// absent, which records the driver; a release that recorded none began one, or found it
    /// healthy; or a person, an import or a migration let the row take it over.
    pub fn owns_a_cluster(&self) -> bool {
        let nothing_began = matches!(
            self.actual,
            Actual::Unknown | Actual::Stopped | Actual::Failed
        );
        self.driver.is_some()
            || self.adopt_requested_at.is_some()
            || self.last_healthy_at.is_some()
            || !nothing_began
    }

    /// Whether this is the reason of its recorded state.
    pub fn has_reason(&self, reason: Reason) -> bool {
        self.status_reason.as_deref() == Some(reason.as_str())
    }

    /// A message if its labels do not match its placement any more.
    pub fn placement_mismatch(&self) -> Option<String> {
        let place = self.placed_by.as_ref()?;
        let matches = |place: Selector| place.matches(&self.labels);
        (!place.parse().is_ok_and(matches)).then(|| {
            format!("its labels do not match {place} any more; it stays there until it is deleted")
        })
    }

    /// Whether the recorded state is the desired one, so that only checks remain.
    pub fn settled(&self) -> bool {
        let reached = self.observed_generation == self.generation;
        settled(self.desired, self.actual, reached, self.spec_applied)
    }
}

/// Whether the recorded state is the desired one, so that only checks remain. `reached`:
/// the current generation is reached; `applied`: as [`Cluster::spec_applied`].
pub fn settled(desired: Desired, actual: Actual, reached: bool, applied: bool) -> bool {
    match (desired, actual) {
        (Desired::Present, Actual::Running) => reached && applied,
        (Desired::Stopped, Actual::Stopped) => reached,
        _ => false,
    }
}

#[cfg(test)]
#[path = "../../tests/suite/kit/cluster.rs"]
mod sample;

#[cfg(test)]
pub(crate) mod samples {
    //! Rows for the tests of the pure modules.

    use super::*;

    pub(crate) use super::sample::sample_cluster as dev;

    impl Cluster {
        pub(crate) fn wanted(mut self, desired: Desired) -> Self {
            self.desired = desired;
            self
        }

        pub(crate) fn recorded(mut self, actual: Actual) -> Self {
            self.actual = actual;
            self
        }

        /// As after a successful action: settled.
        pub(crate) fn applied(mut self) -> Self {
            self.spec_applied = true;
            self.observed_generation = self.generation;
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_parsed_from_their_words() {
        for state in Actual::ALL {
            assert_eq!(state.as_str().parse::<Actual>().unwrap(), *state);
        }
        for state in Desired::ALL {
            assert_eq!(state.as_str().parse::<Desired>().unwrap(), *state);
        }
        let error = "gone".parse::<Desired>().unwrap_err().to_string();
        assert_eq!(
            error,
            "desired_state \"gone\" is not known: use present, stopped, absent"
        );
    }

    #[test]
    fn the_management_cluster_is_only_observed() {
        let mut cluster = samples::dev();
        assert!(!cluster.observe_only());
        cluster.name = ClusterName::parse(MANAGEMENT_CLUSTER).unwrap();
        assert!(cluster.observe_only());
    }
}
