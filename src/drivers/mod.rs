//! Drivers create, change and observe the clusters of this host.
//!
//! There is one trait, three drivers ([`script`] runs the host's own commands, [`native`]
//! makes k3d and kind clusters itself, [`sandbox`] runs simulated clusters) and one conformance suite (`tests/suite/driver/`). A driver
//! runs one action or makes one observation and decides nothing. It never uses the
//! database, and it does not conclude from an action whether the cluster is healthy: the
//! reconciler observes it afterwards.

mod failure;
mod host;
mod kubeconfig;
pub mod native;
mod port;
mod program;
pub mod sandbox;
pub mod script;

use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::clusters::Cluster;
use crate::clusters::observation::Observation;
use crate::clusters::plan::Action;
use crate::command::{Heading, Trust};
use crate::core::lease::Term;
use crate::core::steps::{Direction, Purpose, StepError, StepSet};
use crate::duration::compact;

pub use host::{HostFault, INOTIFY};
pub use kubeconfig::read as of_provider;
pub use program::located_on;

/// A request for an action on one cluster, with the right to act.
pub struct ActionRequest<'a> {
    /// The row as it was read under the lease.
    pub cluster: &'a Cluster,
    /// The term of the lease; each effect gets it.
    pub term: Term,
    /// Until when the lease is trusted; each renewal updates it.
    pub trust: Trust,
    /// Cancels the action: ends its whole process tree, TERM before KILL.
    pub cancel: &'a CancellationToken,
}

impl ActionRequest<'_> {
    /// The number of this attempt in a row, from 1.
    pub fn attempt(&self) -> u32 {
        self.cluster.failed_attempts.saturating_add(1)
    }

    /// The heading of the action's lines in the cluster's log.
    pub fn heading(&self, action: Action) -> Heading {
        Heading {
            operation: action.as_str().to_owned(),
            attempt: self.attempt(),
            generation: self.cluster.generation,
            term: self.term.0,
        }
    }

    /// Completes when the request is cancelled or the lease is not trusted any more.
    /// Cancel-safe.
    pub async fn cancelled(&self) {
        tokio::select! {
            () = self.cancel.cancelled() => {}
            () = expired(self.trust.clone()) => {}
        }
    }
}

/// The direction of an action through the steps.
pub fn direction(action: Action) -> Direction {
    match action {
        Action::Create | Action::Update | Action::Start => Direction::Forward(Purpose::Make),
        Action::Stop | Action::Delete => Direction::Backward,
    }
}

/// The longest sleep while the lease is trusted: a sleep does not count suspended time, the trust
/// does. Shorter than the margin of the shortest lease.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

async fn expired(mut trust: Trust) {
    let mut may_change = true;
    loop {
        let until = *trust.borrow_and_update();
        if until.passed() {
            return;
        }
        tokio::select! {
            changed = trust.changed(), if may_change => may_change = changed.is_ok(),
            () = tokio::time::sleep(until.remaining().min(LONGEST_SLEEP)) => {}
        }
    }
}

/// The kubeconfig of a cluster. It gives full access, so it is not printed.
pub struct Kubeconfig(pub Vec<u8>);

impl std::fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kubeconfig({} bytes)", self.0.len())
    }
}

/// Why there is no kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// Clusters of this driver have none, for this reason.
    #[error("{0}")]
    None(&'static str),
    /// The provider's command failed; the text says which and how.
    #[error("{0}")]
    Failed(String),
}

/// The deadlines of actions and observations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Create, update and start.
    pub create: Duration,
    /// Delete and stop.
    pub delete: Duration,
    /// One probe of one cluster.
    pub probe: Duration,
    /// Between TERM and KILL.
    pub grace: Duration,
}

impl Default for Deadlines {
    /// 15 min, 10 min, 10 s, 10 s.
    fn default() -> Self {
        Self {
            create: Duration::from_secs(900),
            delete: Duration::from_secs(600),
            probe: Duration::from_secs(10),
            grace: Duration::from_secs(10),
        }
    }
}

impl Deadlines {
    /// The deadline of an action.
    pub fn of(&self, action: Action) -> Duration {
        match action {
            Action::Create | Action::Update | Action::Start => self.create,
            Action::Stop | Action::Delete => self.delete,
        }
    }

    /// The setting of that deadline, with its value.
    pub fn setting(&self, action: Action) -> String {
        let name = match action {
            Action::Create | Action::Update | Action::Start => "KINDLER_CREATE_DEADLINE",
            Action::Stop | Action::Delete => "KINDLER_DELETE_DEADLINE",
        };
        format!("{name}={}", compact(self.of(action)))
    }

    /// The setting of the deadline of a probe, with its value.
    pub fn probe_setting(&self) -> String {
        format!("KINDLER_PROBE_DEADLINE={}", compact(self.probe))
    }
}

/// Why a cluster of this name is left alone, and what to do.
fn foreign_text(cluster: &Cluster, by_hand: &str) -> String {
    let (name, provider) = (&cluster.name, cluster.spec.provider);
    format!(
        "a {provider} cluster {name} exists that this row did not make; it is not touched: take it \
         over (kindler adopt {name}), delete it by hand ({by_hand}), or declare another name"
    )
}

/// A kind of clusters on this host.
#[async_trait]
pub trait Driver: Send + Sync {
    /// The name in settings, logs and metrics.
    fn name(&self) -> &'static str;

    /// The ID of the container engine that last answered, for drivers that use one.
    fn engine(&self) -> Option<String> {
        None
    }

    /// What of a running cluster is not as declared and cannot be changed in place: wanted and real
    /// value. None if nothing is, or if that cannot be observed.
    async fn recreation(&self, cluster: &Cluster) -> Option<String> {
        let _ = cluster;
        None
    }

    /// Checks at start what every action needs, so that a missing or non-executable script
    /// is known before the first cluster is declared.
    ///
    /// # Errors
    /// One line per problem. The daemon logs them and runs anyway, because they may be
    /// fixed while it runs.
    async fn preflight(&self) -> Result<(), Vec<String>>;

    /// Observes one cluster, within the probe deadline (twice, if existence needs a second
    /// command). A failure is [`Observation::Unknown`] with the reason.
    async fn observe(&self, cluster: &Cluster) -> Observation;

    /// Whether a cluster of this name and provider exists on this host, whichever row made it;
    /// none if that cannot be observed.
    async fn exists(&self, cluster: &Cluster) -> Option<bool> {
        match self.observe(cluster).await {
            Observation::Present(_) => Some(true),
            Observation::Absent => Some(false),
            Observation::Unknown(_) => None,
        }
    }

    /// What a person runs to remove a cluster that has no row.
    fn removal(&self, cluster: &Cluster) -> String {
        let (name, provider) = (&cluster.name, cluster.spec.provider);
        format!("kindler create {name} --provider {provider}, then kindler delete {name}")
    }

    /// How [`Driver::observe`] finds that this cluster does not exist: the command, and how it
    /// ends then.
    fn absence(&self, cluster: &Cluster) -> Option<String> {
        let _ = cluster;
        None
    }

    /// Why this host cannot run this action now, although nothing is wrong with the cluster.
    /// Then the action waits, and no attempt counts.
    async fn host_fault(&self, action: Action, cluster: &Cluster) -> Option<HostFault> {
        let _ = (action, cluster);
        None
    }

    /// All that is wrong with this host now, for its condition.
    async fn host_faults(&self) -> Vec<HostFault> {
        Vec::new()
    }

    /// Runs one action without recorded steps, within its deadline. Every action is
    /// idempotent. Dropping the future ends the action with its whole process tree.
    ///
    /// # Errors
    /// [`StepError`]; its variant says whether a quick retry may succeed.
    async fn act(&self, action: Action, request: &ActionRequest<'_>) -> Result<(), StepError>;

    /// The recorded steps of an action; none if it runs without steps by [`Driver::act`].
    fn steps<'a>(&'a self, action: Action, request: &'a ActionRequest<'a>) -> Option<StepSet<'a>> {
        let _ = (action, request);
        None
    }

    /// The names of its steps, in order, for metrics that start at zero.
    fn step_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// The address of its server on the cluster's network at the last observation: empty if it
    /// has none, none if this driver does not know it.
    fn server_ip(&self, cluster: &Cluster) -> Option<String> {
        let _ = cluster;
        None
    }

    /// Reads the complete kubeconfig of a cluster.
    ///
    /// # Errors
    /// [`KubeconfigError`]; it never contains a part of a kubeconfig.
    async fn kubeconfig(&self, cluster: &Cluster) -> Result<Kubeconfig, KubeconfigError>;
}
