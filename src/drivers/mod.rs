//! What makes, changes and looks at clusters on this host.
//!
//! One trait, two drivers ([`script`] runs the host's own commands, [`sandbox`]
//! plays at clusters), one conformance suite (`tests/suite/driver/`), and no
//! decision: a driver does the one action it is asked for, or says what it
//! sees. It never touches the database, and never concludes from its own
//! action whether the cluster is well; that is observed afterwards.

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

/// One order to act on one cluster, and the right to do so.
pub struct Order<'a> {
    /// The row as it was read under the lease.
    pub cluster: &'a Cluster,
    /// The fence: goes with every effect.
    pub term: Term,
    /// Until when the owner's lease is trusted; kept fresh while it is renewed.
    pub trust: Trust,
    /// Ends the action early: at once, politely, with the whole process tree.
    pub cancel: &'a CancellationToken,
}

impl Order<'_> {
    /// Which attempt in a row this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.cluster.failed_attempts.saturating_add(1)
    }

    /// What stands over the action's lines in the cluster's log.
    pub fn heading(&self, action: Action) -> Heading {
        Heading {
            operation: action.as_str().to_owned(),
            attempt: self.attempt(),
            generation: self.cluster.generation,
            fence: self.term.0,
        }
    }

    /// Completes once the order is withdrawn or the right to act has ended. Cancel safe.
    pub async fn withdrawn(&self) {
        tokio::select! {
            () = self.cancel.cancelled() => {}
            () = expired(self.trust.clone()) => {}
        }
    }
}

/// Which way an action goes through the steps.
pub fn direction(action: Action) -> Direction {
    match action {
        Action::Create | Action::Update | Action::Start => Direction::Forward(Purpose::Make),
        Action::Stop | Action::Delete => Direction::Backward,
    }
}

/// The longest sleep while trust lasts: the sleep stands still while the machine is suspended,
/// trust does not.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

async fn expired(mut trust: Trust) {
    let mut owner_lives = true;
    loop {
        let until = *trust.borrow_and_update();
        if until.passed() {
            return;
        }
        // Neither arm waits in its body.
        tokio::select! {
            changed = trust.changed(), if owner_lives => owner_lives = changed.is_ok(),
            () = tokio::time::sleep(until.remaining().min(LONGEST_SLEEP)) => {}
        }
    }
}

/// The kubeconfig of a cluster. Its holder may do everything there, so it is not printed.
pub struct Kubeconfig(pub Vec<u8>);

impl std::fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kubeconfig({} bytes)", self.0.len())
    }
}

/// Why there is no kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// No cluster of this driver has one, for this reason.
    #[error("{0}")]
    None(&'static str),
    /// The provider did not give it: which command, and how it ended.
    #[error("{0}")]
    Failed(String),
}

/// How long each kind of work may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Create, update and start.
    pub create: Duration,
    /// Delete and stop.
    pub delete: Duration,
    /// One look at one cluster.
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
}

/// Something that can hold clusters.
#[async_trait]
pub trait Driver: Send + Sync {
    /// The word in settings, logs and metrics.
    fn name(&self) -> &'static str;

    /// Checks at start what every action will need, so that a missing or
    /// non-executable script is known before the first cluster is declared.
    ///
    /// # Errors
    /// One line a problem; the daemon reports them and runs all the same,
    /// because they may be mended while it runs.
    async fn preflight(&self) -> Result<(), Vec<String>>;

    /// Looks at one cluster, within the probe deadline (twice, where existence
    /// is a second question). Never fails: what cannot be told is
    /// [`Observation::Unknown`] with the reason.
    async fn observe(&self, cluster: &Cluster) -> Observation;

    /// Does one action at once, within its deadline. Every action is idempotent.
    /// Dropping the future ends the action with its whole process tree.
    ///
    /// # Errors
    /// [`StepError`] tells by type whether a quick retry can help.
    async fn act(&self, action: Action, order: &Order<'_>) -> Result<(), StepError>;

    /// The steps in which an action is done and recorded; none: it is done at once
    /// by [`Driver::act`], and nothing of it is recorded but the cluster's state.
    fn steps<'a>(&'a self, action: Action, order: &'a Order<'a>) -> Option<StepSet<'a>> {
        let _ = (action, order);
        None
    }

    /// The names of its steps, in their order, for metrics that start at zero.
    fn step_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// Reads the kubeconfig of a cluster, whole or not at all.
    ///
    /// # Errors
    /// [`KubeconfigError`]; it never holds a part of a kubeconfig.
    async fn kubeconfig(&self, cluster: &Cluster) -> Result<Kubeconfig, KubeconfigError>;
}
