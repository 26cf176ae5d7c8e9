//! A cluster as its row tells it: what is wanted, what was last seen, and why.
//!
//! Plain values only. Nothing here decides (that is [`crate::clusters::plan`]) and
//! nothing here reads or writes (that is `store`).

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

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use condition::{ConditionStatus, ConditionType, Standing};
pub(crate) use name::is_label;
pub use name::{ClusterName, MANAGEMENT_CLUSTER, MAX_NAME, NameError};
pub use selector::{Requirement, Selector, SelectorError};
pub(crate) use spec::spec_columns;
pub use spec::{
    FieldKind, HostPort, MAX_K3D_NAME, PartialSpec, Port, Provider, Spec, SpecError, SpecField,
    SpecValue, Subnet,
};
pub use steps::StepProgress;

/// A word in a state column that this release does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {given:?} is not known: use {allowed}")]
pub struct StateError {
    field: &'static str,
    given: String,
    allowed: String,
}

/// Declares a state enum together with its words in the table, so that the
/// two cannot drift apart.
macro_rules! states {
    ($(#[$doc:meta])* $name:ident in $field:literal {
        $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every state, in the order of a cluster's life.
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
    /// What a person wants.
    Desired in "desired_state" {
        /// It exists and answers.
        Present = "present",
        /// Nothing of it runs; what exists is kept.
        Stopped = "stopped",
        /// Neither the cluster nor its row.
        Absent = "absent",
    }
}

states! {
    /// What the reconciler last recorded. Written before an effect
    /// (`creating`) and after it was observed (`running`).
    Actual in "actual_state" {
        /// Never looked at.
        Unknown = "unknown",
        /// A create was committed to.
        Creating = "creating",
        /// It answered the last probe.
        Running = "running",
        /// A changed spec is being applied.
        Updating = "updating",
        /// A stop was committed to.
        Stopping = "stopping",
        /// Stopped, or not made yet and not wanted to run.
        Stopped = "stopped",
        /// The last attempt failed; `next_attempt_at` says when the next is due.
        Failed = "failed",
        /// A delete was committed to.
        Deleting = "deleting",
    }
}

impl Actual {
    /// Whether an action is under way in this state, if somebody holds the row.
    pub fn is_at_work(self) -> bool {
        match self {
            Self::Creating | Self::Updating | Self::Stopping | Self::Deleting => true,
            Self::Unknown | Self::Running | Self::Stopped | Self::Failed => false,
        }
    }
}

/// One row of `clusters`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// The key, for ever.
    pub name: ClusterName,
    /// The identity of this row; another row of the same name has another.
    pub uid: Uuid,
    /// What was declared.
    #[serde(flatten)]
    pub spec: Spec,
    /// The database's hash of the spec, by which it is recorded as applied.
    #[serde(skip)]
    pub spec_hash: String,
    /// What is wanted.
    #[serde(rename = "desired_state")]
    pub desired: Desired,
    /// What was last recorded.
    #[serde(rename = "actual_state")]
    pub actual: Actual,
    /// The machine word for the present state, from [`crate::clusters::event::Reason`].
    pub status_reason: Option<String>,
    /// The same for a person, in one sentence.
    pub status_message: Option<String>,
    /// The last failure; empty after a success.
    pub reconcile_error: Option<String>,
    /// Free labels of the owner.
    pub labels: serde_json::Value,
    /// Observed and shown, never acted on, until resumed.
    pub paused: bool,
    /// Observed and shown, never acted on, and never declared absent.
    pub protected: bool,
    /// Raised by the database on every real change of spec or desire.
    pub generation: i64,
    /// The generation whose desire was last reached.
    pub observed_generation: i64,
    /// Whether a command that ended well has applied just this spec. A crash
    /// or a failed command leaves `false`: whatever answers then may be half
    /// of something.
    pub spec_applied: bool,
    /// Failed attempts in a row.
    pub failed_attempts: u32,
    /// When the next attempt is due; none means now.
    pub next_attempt_at: Option<Timestamp>,
    /// Failed probes in a row while running.
    pub health_failures: u32,
    /// The last healthy probe.
    pub last_healthy_at: Option<Timestamp>,
    /// When a settled cluster is looked at again; none means now.
    pub next_check_at: Option<Timestamp>,
    /// The last time that a reconcile wrote to the row.
    pub last_reconciled_at: Option<Timestamp>,
    /// When a person last asked for an attempt at once.
    pub retry_requested_at: Option<Timestamp>,
    /// The address that the host's scripts recorded.
    pub server_ip: Option<String>,
    /// The selector of the daemons that it stays with, if daemons select.
    pub placed_by: Option<String>,
    /// When it was declared.
    pub created_at: Option<Timestamp>,
    /// When the declaration last changed.
    pub updated_at: Option<Timestamp>,
}

impl Cluster {
    /// Whether nobody may act on it, only look.
    pub fn hands_off(&self) -> bool {
        self.paused || self.protected || self.name.is_management()
    }

    /// What to know of its place: that its labels would put it elsewhere by now.
    pub fn strays(&self) -> Option<String> {
        let place = self.placed_by.as_ref()?;
        let matches = |place: Selector| place.matches(&self.labels);
        (!place.parse().is_ok_and(matches)).then(|| {
            format!("its labels do not match {place} any more; it stays there until it is deleted")
        })
    }

    /// Whether desire and record agree, so that only due checks remain.
    pub fn settled(&self) -> bool {
        let reached = self.observed_generation == self.generation;
        settled(self.desired, self.actual, reached, self.spec_applied)
    }
}

/// Whether a desire and a record agree, so that only due checks remain:
/// `reached` if the present generation was, `applied` as [`Cluster::spec_applied`].
pub fn settled(desired: Desired, actual: Actual, reached: bool, applied: bool) -> bool {
    match (desired, actual) {
        (Desired::Present, Actual::Running) => reached && applied,
        (Desired::Stopped, Actual::Stopped) => reached,
        _ => false,
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! Rows for the tests of the pure modules; they read like prose.

    use super::*;

    /// `dev`, declared just now on k3d, never looked at.
    pub(crate) fn dev() -> Cluster {
        Cluster {
            name: ClusterName::parse("dev").unwrap(),
            uid: Uuid::from_u128(1),
            spec: PartialSpec::default().or_default(),
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
            next_check_at: None,
            last_reconciled_at: None,
            retry_requested_at: None,
            server_ip: None,
            placed_by: None,
            created_at: None,
            updated_at: None,
        }
    }

    impl Cluster {
        pub(crate) fn wanted(mut self, desired: Desired) -> Self {
            self.desired = desired;
            self
        }

        pub(crate) fn recorded(mut self, actual: Actual) -> Self {
            self.actual = actual;
            self
        }

        /// As after a successful create: nothing left to do.
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
    fn states_and_their_words_agree_both_ways() {
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
    fn the_management_cluster_is_hands_off() {
        let mut cluster = samples::dev();
        assert!(!cluster.hands_off());
        cluster.name = ClusterName::parse(MANAGEMENT_CLUSTER).unwrap();
        assert!(cluster.hands_off());
    }
}
