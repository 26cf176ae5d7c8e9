//! Sandbox clusters, for trying, teaching, tests and benchmarks. They are not Kubernetes.
//!
//! Each is one real background process, the [`node`], that listens on its `http_port` of
//! 127.0.0.1 and answers `/readyz`, with a folder of its own. It outlives the daemon, can be
//! killed, and can find its port taken: enough to see everything that Kindler does. Delays and
//! failures can be ordered.
//!
//! This module carries out one action, or looks. It must not run the host's commands, and must
//! never signal a process that is not provably its own.

mod claims;
mod error;
mod fault;
mod folder;
mod launch;
pub mod node;
mod port;
mod process;
mod progress;
mod readiness;
mod steps;
mod work;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use rustix::fs::{Access, access};

use crate::cause::chain;
use crate::clusters::observation::Observation;
use crate::clusters::plan::Action;
use crate::clusters::{Cluster, ClusterName};
use crate::command::LogDir;
use crate::core::steps::{StepError, StepSet, run_unrecorded};

use super::{Deadlines, Driver, Kubeconfig, KubeconfigError, Order, direction};
use folder::{Folder, Sight};

pub use fault::{OrderedFault, OrderedFaultError};
pub use folder::Record;

/// Where sandbox clusters live and how they misbehave.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// Holds one folder per cluster.
    pub dir: PathBuf,
    /// The binary that is called with `sandbox-node` as its first argument.
    pub node_program: PathBuf,
    /// How long a create, update or start takes beyond what it needs.
    pub create_delay: Duration,
    /// How long a delete or stop takes beyond what it needs.
    pub delete_delay: Duration,
    /// Which share of actions fails on purpose, from 0 to 1.
    pub failure_rate: f64,
    /// These clusters can be stopped and deleted, but never made; or one step of them fails.
    pub always_fails: Vec<OrderedFault>,
    /// Every action on these clusters hangs until its deadline; or one step of them does.
    pub always_hangs: Vec<OrderedFault>,
    /// How long each kind of work may take.
    pub deadlines: Deadlines,
    /// Where the progress of actions goes.
    pub logs: LogDir,
}

impl SandboxSettings {
    /// Clusters in this folder, without delays and failures.
    pub fn new(dir: impl Into<PathBuf>, logs: LogDir) -> Self {
        Self {
            dir: dir.into(),
            // This very binary, also after an upgrade has replaced its file.
            node_program: PathBuf::from("/proc/self/exe"),
            create_delay: Duration::ZERO,
            delete_delay: Duration::ZERO,
            failure_rate: 0.0,
            always_fails: Vec::new(),
            always_hangs: Vec::new(),
            deadlines: Deadlines::default(),
            logs,
        }
    }
}

/// The driver of sandbox clusters.
#[derive(Clone, Debug)]
pub struct SandboxDriver {
    settings: SandboxSettings,
}

impl SandboxDriver {
    /// Touches nothing yet.
    pub fn new(settings: SandboxSettings) -> Self {
        Self { settings }
    }

    fn folder(&self, name: &ClusterName) -> Folder {
        Folder::new(self.settings.dir.join(name.as_str()))
    }

    /// What the node's own answer adds to the sight of its record.
    async fn ask(&self, cluster: &Cluster, record: &Record) -> Observation {
        let wanted = cluster.spec.http_port.get();
        if record.port != wanted {
            return Observation::unhealthy(format!(
                "it listens on port {}, but its http_port is {wanted}",
                record.port
            ));
        }
        let patience = self.settings.deadlines.probe;
        match readiness::ask(record.port, cluster.name.as_str(), patience).await {
            Ok(()) => Observation::HEALTHY,
            Err(why) => Observation::unhealthy(why),
        }
    }
}

#[async_trait]
impl Driver for SandboxDriver {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    async fn preflight(&self) -> Result<(), Vec<String>> {
        let dir = &self.settings.dir;
        let made = fs::create_dir_all(dir);
        let usable = made.and_then(|()| Ok(access(dir, Access::WRITE_OK | Access::EXEC_OK)?));
        usable.map_err(|error| {
            let dir = dir.display();
            vec![format!(
                "KINDLER_STATE_DIR: cannot use sandbox folder {dir}: {error}"
            )]
        })
    }

    async fn observe(&self, cluster: &Cluster) -> Observation {
        let folder = self.folder(&cluster.name);
        match folder.look() {
            Err(error) => Observation::unknown(chain(&error)),
            Ok(Sight::Absent) => Observation::Absent,
            Ok(Sight::Running(record)) => self.ask(cluster, &record).await,
            Ok(Sight::Stopped) => Observation::STOPPED,
            Ok(Sight::Dead(record)) => {
                Observation::unhealthy(format!("its process {} is gone", record.process.pid))
            }
            Ok(Sight::HalfMade(why)) => Observation::unhealthy(why),
        }
    }

    async fn act(&self, action: Action, order: &Order<'_>) -> Result<(), StepError> {
        let set = steps::steps(self, action, order);
        // Later each step sees for itself that the order was withdrawn.
        if order.withdrawn().now_or_never().is_some() {
            return Err(StepError::Interrupted);
        }
        run_unrecorded(&set, direction(action)).await
    }

    fn steps<'a>(&'a self, action: Action, order: &'a Order<'a>) -> Option<StepSet<'a>> {
        Some(steps::steps(self, action, order))
    }

    fn step_names(&self) -> &'static [&'static str] {
        &steps::NAMES
    }

    async fn kubeconfig(&self, _: &Cluster) -> Result<Kubeconfig, KubeconfigError> {
        Err(KubeconfigError::None(
            "A sandbox cluster has no kubeconfig: it has no Kubernetes",
        ))
    }
}
