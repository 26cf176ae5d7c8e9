//! Sandbox clusters, for demos, teaching, tests and benchmarks. They are not Kubernetes.
//!
//! Each cluster is one background process, the [`node`], that listens on its `http_port` on
//! 127.0.0.1 and answers `/readyz`, and one folder. The process outlives the daemon, can be
//! killed, and can find its port in use, which is enough to exercise all of Kindler. Delays
//! and failures can be injected.
//!
//! This module must not run the host's commands, and must never signal a process that is
//! not provably its own.

mod action_log;
mod claims;
mod error;
mod fault;
mod folder;
mod launch;
pub mod node;
mod process;
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

use super::{ActionRequest, Deadlines, Driver, Kubeconfig, KubeconfigError, direction};
use folder::{Folder, FolderState, sandbox_files};

pub use fault::{InjectedFault, InjectedFaultError};
pub use folder::NodeRecord;

/// The folder, delays and injected faults of sandbox clusters.
#[derive(Clone, Debug)]
pub struct SandboxSettings {
    /// Contains one folder per cluster.
    pub dir: PathBuf,
    /// The program of the nodes; it is called with `sandbox-node` as its first argument.
    pub node_program: PathBuf,
    /// An additional delay of each create, update and start.
    pub create_delay: Duration,
    /// An additional delay of each delete and stop.
    pub delete_delay: Duration,
    /// The share of actions that fail, from 0 to 1.
    pub failure_rate: f64,
    /// Create, update and start fail for these clusters, in any step or in the named one.
    pub always_fails: Vec<InjectedFault>,
    /// Every action on these clusters hangs until its deadline, in any step or in the named
    /// one.
    pub always_hangs: Vec<InjectedFault>,
    /// The deadlines of actions and observations.
    pub deadlines: Deadlines,
    /// The logs of the clusters.
    pub logs: LogDir,
}

impl SandboxSettings {
    /// Clusters in this folder, without delays and faults.
    pub fn new(dir: impl Into<PathBuf>, logs: LogDir) -> Self {
        Self {
            dir: dir.into(),
            // The running binary, also after an upgrade has replaced its file.
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
    /// Does nothing on the host yet.
    pub fn new(settings: SandboxSettings) -> Self {
        Self { settings }
    }

    fn folder(&self, name: &ClusterName) -> Folder {
        Folder::new(self.settings.dir.join(name.as_str()))
    }

    /// Probes a node whose process runs.
    async fn probe(&self, cluster: &Cluster, record: &NodeRecord) -> Observation {
        let declared = cluster.spec.http_port.get();
        if record.port != declared {
            return Observation::unhealthy(format!(
                "it listens on port {}, but its http_port is {declared}",
                record.port
            ));
        }
        let deadline = self.settings.deadlines.probe;
        match readiness::probe(record.port, cluster.name.as_str(), deadline).await {
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
        let dir = self.settings.dir.clone();
        let check = move || {
            fs::create_dir_all(&dir)?;
            Ok(access(&dir, Access::WRITE_OK | Access::EXEC_OK)?)
        };
        let usable = sandbox_files().run(check).await;
        usable.and_then(|usable| usable).map_err(|error| {
            let dir = self.settings.dir.display();
            vec![format!(
                "KINDLER_STATE_DIR: cannot use sandbox folder {dir}: {error}"
            )]
        })
    }

    async fn observe(&self, cluster: &Cluster) -> Observation {
        let folder = self.folder(&cluster.name);
        match folder.in_time(Folder::state).await {
            Err(error) => Observation::unknown(chain(&error)),
            Ok(FolderState::Absent) => Observation::Absent,
            Ok(FolderState::Running(record)) => self.probe(cluster, &record).await,
            Ok(FolderState::Stopped) => Observation::STOPPED,
            Ok(FolderState::Dead(record)) => {
                Observation::unhealthy(format!("its process {} has ended", record.process.pid))
            }
            Ok(FolderState::Incomplete(why)) => Observation::unhealthy(why),
        }
    }

    async fn act(&self, action: Action, request: &ActionRequest<'_>) -> Result<(), StepError> {
        let set = steps::steps(self, action, request);
        // Each step notices a later cancellation itself.
        if request.cancelled().now_or_never().is_some() {
            return Err(StepError::Interrupted);
        }
        run_unrecorded(&set, direction(action)).await
    }

    fn steps<'a>(&'a self, action: Action, request: &'a ActionRequest<'a>) -> Option<StepSet<'a>> {
        Some(steps::steps(self, action, request))
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
