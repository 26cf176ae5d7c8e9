//! Real clusters: k3d and kind, with the container engine of this host.
//!
//! The tools create and delete clusters, and start those of k3d; everything else is asked of the
//! engine's API and of the cluster's own API server. A cluster that this row did not make is
//! never changed or removed.
//!
//! ```text
//! engine unreachable, or another one ─────> unknown
//! no container of the cluster ────────────> absent
//! containers half made, stopped, paused ──> unhealthy or stopped, with their names
//! all run ──> API server and nodes ready ─> healthy
//!                                  else ──> unhealthy, with the answer
//! ```
//!
//! ```text
//! STATE/native/engine             the ID of the engine
//! STATE/native/networks.lock      locked while a network is created
//! STATE/native/NAME/owner         the UID of the row that made the cluster, before it is made
//! STATE/native/NAME/kubeconfig    its private kubeconfig
//! ~/.kube/config                  or of KUBECONFIG: the user's, into which clusters are merged
//! ```

mod api_client;
mod api_server;
mod endpoint;
mod engine;
mod error;
mod host;
mod images;
mod ingress;
mod kubeconfig;
mod limit;
mod network;
mod node;
mod owner;
mod ports;
mod server_ip;
mod steps;
mod tools;
mod user_kubeconfig;
mod work;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::FutureExt;

use crate::cause::chain;
use crate::clusters::observation::Observation;
use crate::clusters::plan::Action;
use crate::clusters::{Actual, Cluster, ClusterName};
use crate::command::{LogDir, Runner};
use crate::core::steps::{StepError, StepSet, run_unrecorded};

use super::{ActionRequest, Deadlines, Driver, HostFault, Kubeconfig, KubeconfigError, direction};
use engine::{Engine, EngineList, NodeLimits};
use error::NativeError;
use host::HostTools;
use node::{Node, Shape};
use owner::ClusterFolder;
use ports::PortReservations;
use server_ip::ServerAddresses;

pub use images::NodePreload;
pub use tools::NodeImages;
pub use user_kubeconfig::{MergeError, UserKubeconfig};

/// The folder of real clusters, in the state folder.
pub const FOLDER: &str = "native";

/// The private kubeconfig of a cluster of this host; only the daemon's user may read it.
pub fn private_kubeconfig(state_dir: &Path, name: &ClusterName) -> PathBuf {
    ClusterFolder::new(state_dir.join(FOLDER).join(name.as_str())).kubeconfig()
}

/// How real clusters are made.
#[derive(Clone, Debug)]
pub struct NativeSettings {
    /// Contains one folder per cluster.
    pub dir: PathBuf,
    /// The images of the nodes.
    pub images: NodeImages,
    /// Processor cores of each node.
    pub cpus: f64,
    /// Memory of each node in bytes.
    pub memory: i64,
    /// The images that are copied into the nodes.
    pub preload: NodePreload,
    /// Whether each cluster gets an ingress controller.
    pub ingress: bool,
    /// Whether each cluster is merged into the user's kubeconfig.
    pub merge_kubeconfig: bool,
    /// The deadlines of actions and observations.
    pub deadlines: Deadlines,
    /// The logs of actions.
    pub logs: LogDir,
    /// Runs the tools.
    pub runner: Runner,
}

/// The driver of real clusters.
#[derive(Clone, Debug)]
pub struct NativeDriver {
    settings: NativeSettings,
    engine: Engine,
    tools: HostTools,
    /// The ID of the engine that last answered.
    answered: Arc<Mutex<Option<Arc<str>>>>,
    ports: PortReservations,
    addresses: ServerAddresses,
}

impl NativeDriver {
    /// Connects to nothing yet.
    pub fn new(settings: NativeSettings) -> Self {
        Self {
            settings,
            engine: Engine::default(),
            tools: HostTools::default(),
            answered: Arc::default(),
            ports: PortReservations::default(),
            addresses: ServerAddresses::default(),
        }
    }

    fn folder(&self, cluster: &Cluster) -> ClusterFolder {
        ClusterFolder::new(self.settings.dir.join(cluster.name.as_str()))
    }

    fn limits(&self) -> NodeLimits {
        NodeLimits {
            cpus: self.settings.cpus,
            memory: self.settings.memory,
        }
    }

    /// The containers of a cluster, and what they say.
    async fn shape(&self, cluster: &Cluster) -> Result<(Shape, Vec<Node>), NativeError> {
        let nodes = self.nodes(cluster).await?;
        let of_cluster = node::of_cluster(&nodes, cluster.spec.provider, &cluster.name);
        let cloned = of_cluster.iter().map(|node| (*node).clone()).collect();
        Ok((node::shape(&of_cluster), cloned))
    }

    /// The containers of all clusters, unless another engine answers than the one on which this
    /// cluster was made: its list says nothing about it.
    async fn nodes(&self, cluster: &Cluster) -> Result<Arc<[Node]>, NativeError> {
        let listed = self.listed().await?;
        match &cluster.engine {
            Some(recorded) if **recorded != *listed.engine => Err(NativeError::EngineOfRow {
                answering: listed.engine.to_string(),
                recorded: recorded.clone(),
                name: cluster.name.to_string(),
            }),
            _ => Ok(listed.nodes),
        }
    }

    async fn listed(&self) -> Result<EngineList, NativeError> {
        let listed = self.engine.listed().await?;
        let recorded = owner::record_engine(&self.settings.dir, &listed.engine);
        if *recorded != *listed.engine {
            return Err(NativeError::OtherEngine {
                answering: listed.engine.to_string(),
                recorded,
                file: owner::engine_file(&self.settings.dir),
            });
        }
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(listed.engine.clone());
        Ok(listed)
    }

    async fn try_observe(&self, cluster: &Cluster) -> Result<Observation, NativeError> {
        let (shape, nodes) = self.shape(cluster).await?;
        if shape != Shape::Absent && self.is_foreign(cluster) {
            return Ok(Observation::foreign(foreign_text(cluster)));
        }
        if shape != Shape::Absent {
            self.record(cluster);
        }
        let address = server_ip::address(&nodes, &network::name(cluster));
        self.addresses.note(cluster.uid, address);
        Ok(match shape {
            Shape::Absent => Observation::Absent,
            Shape::Stopped => Observation::STOPPED,
            Shape::Down(why) | Shape::HalfMade(why) => Observation::unhealthy(why),
            Shape::Running => self.probe(cluster).await,
        })
    }

    /// Whether another one made the cluster of this name: no record says that this row did, and
    /// the row has never been seen to have a cluster, as one that was taken over has.
    fn is_foreign(&self, cluster: &Cluster) -> bool {
        let has_had_one = cluster.last_healthy_at.is_some() || cluster.actual == Actual::Running;
        let is_adopted = cluster.adopt_requested_at.is_some();
        !has_had_one && !is_adopted && self.folder(cluster).owner() != Some(cluster.uid)
    }

    /// Records a cluster that was taken over, so that it is this row's in every later state.
    fn record(&self, cluster: &Cluster) {
        let folder = self.folder(cluster);
        if folder.owner() != Some(cluster.uid)
            && let Err(error) = folder.own(cluster.uid)
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the owner of a cluster cannot be recorded");
        }
    }

    /// What keeps this action from running although the engine answers.
    async fn action_fault(
        &self,
        action: Action,
        cluster: &Cluster,
    ) -> Result<Option<HostFault>, NativeError> {
        let facts = self.listed().await?.facts;
        let (shape, provider) = (self.shape(cluster).await?.0, cluster.spec.provider);
        let makes = host::needs_space(action, &shape);
        if let Some(fault) = host::of_capabilities(&facts).filter(|_| makes) {
            return Ok(Some(fault));
        }
        if host::needs_tool(action, &shape, provider)
            && let Some(fault) = self.tools.fault(provider, &self.settings.runner).await
        {
            return Ok(Some(fault));
        }
        Ok(host::of_disk(&facts).filter(|fault| fault.blocks && makes))
    }

    /// Asks the API server of a cluster whose containers run.
    async fn probe(&self, cluster: &Cluster) -> Observation {
        let path = self.folder(cluster).kubeconfig();
        let access = match kubeconfig::read(&path) {
            Ok(access) => access,
            Err(error) => return Observation::unhealthy(chain(&error)),
        };
        match api_server::check(&access, self.settings.deadlines.probe).await {
            Ok(()) => Observation::HEALTHY,
            Err(why) => Observation::unhealthy(why.to_string()),
        }
    }
}

/// Why a cluster of this name is left alone, and what to do.
fn foreign_text(cluster: &Cluster) -> String {
    let by_hand = tools::delete(cluster, "KUBECONFIG".as_ref());
    super::foreign_text(cluster, &by_hand.to_string())
}

#[async_trait]
impl Driver for NativeDriver {
    fn name(&self) -> &'static str {
        "native"
    }

    fn engine(&self) -> Option<String> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.as_deref().map(str::to_owned)
    }

    async fn recreation(&self, cluster: &Cluster) -> Option<String> {
        let (shape, nodes) = self.shape(cluster).await.ok()?;
        if shape != Shape::Running || self.is_foreign(cluster) {
            return None;
        }
        work::difference(cluster, &nodes, &self.settings.images, &self.engine).await
    }

    async fn preflight(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        if let Err(error) = std::fs::create_dir_all(&self.settings.dir) {
            let dir = self.settings.dir.display();
            problems.push(format!(
                "KINDLER_STATE_DIR: cannot use folder {dir}: {error}"
            ));
        }
        let faults = self.host_faults().await;
        problems.extend(
            faults
                .into_iter()
                .map(|fault| format!("{}: {}", fault.what, fault.next)),
        );
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    async fn observe(&self, cluster: &Cluster) -> Observation {
        match self.try_observe(cluster).await {
            Ok(observation) => observation,
            Err(error) => Observation::unknown(chain(&error)),
        }
    }

    async fn exists(&self, cluster: &Cluster) -> Option<bool> {
        let (shape, _) = self.shape(cluster).await.ok()?;
        Some(shape != Shape::Absent)
    }

    fn removal(&self, cluster: &Cluster) -> String {
        tools::delete(cluster, "KUBECONFIG".as_ref()).to_string()
    }

    async fn host_fault(&self, action: Action, cluster: &Cluster) -> Option<HostFault> {
        match self.action_fault(action, cluster).await {
            Ok(fault) => fault,
            Err(error) => Some(host::of_engine(&error)),
        }
    }

    async fn host_faults(&self) -> Vec<HostFault> {
        let listed = match self.listed().await {
            Ok(listed) => listed,
            Err(error) => return vec![host::of_engine(&error)],
        };
        let mut faults = self.tools.faults(&self.settings.runner).await;
        faults.extend(host::of_capabilities(&listed.facts));
        faults.extend(host::of_disk(&listed.facts));
        faults.extend(host::of_kernel(listed.nodes.len()));
        faults
    }

    async fn act(&self, action: Action, request: &ActionRequest<'_>) -> Result<(), StepError> {
        if request.cancelled().now_or_never().is_some() {
            return Err(StepError::Interrupted);
        }
        let set = steps::steps(self, action, request);
        run_unrecorded(&set, direction(action)).await
    }

    fn steps<'a>(&'a self, action: Action, request: &'a ActionRequest<'a>) -> Option<StepSet<'a>> {
        Some(steps::steps(self, action, request))
    }

    fn step_names(&self) -> &'static [&'static str] {
        &steps::NAMES
    }

    fn server_ip(&self, cluster: &Cluster) -> Option<String> {
        self.addresses.of(cluster.uid)
    }

    async fn kubeconfig(&self, cluster: &Cluster) -> Result<Kubeconfig, KubeconfigError> {
        let text = kubeconfig::text(&self.folder(cluster).kubeconfig());
        text.map(|text| Kubeconfig(text.into_bytes()))
            .map_err(|error| KubeconfigError::Failed(chain(&error)))
    }
}
