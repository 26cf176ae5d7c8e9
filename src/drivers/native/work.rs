//! The effects of the steps of a real cluster, and their observations. Each effect may run again
//! after a crash at any point.

use std::fs;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::clusters::plan::Action;
use crate::clusters::{Cluster, Provider};
use crate::command::CommandLine;
use crate::core::steps::StepObservation;

use super::engine::{Engine, NodeLimits};
use super::error::NativeError;
use super::limit::StepLimit;
use super::node::{Node, NodeRole, NodeState, Shape};
use super::owner::ClusterFolder;
use super::tools::NodeImages;
use super::{ActionRequest, Kubeconfig, NativeDriver};
use super::{api_server, foreign_text, kubeconfig, network, node, tools};

/// The time between two looks at a cluster that is about to be ready.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// How long the engine may take to show what a tool has done.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// The largest difference of limits that is only rounding.
const CPU_ROUNDING: f64 = 0.001;

/// One action on one cluster.
pub(super) struct NativeWork<'a> {
    pub driver: &'a NativeDriver,
    pub action: Action,
    pub request: &'a ActionRequest<'a>,
    /// How long the rest of the action may take.
    pub left: Duration,
}

impl NativeWork<'_> {
    pub fn cluster(&self) -> &Cluster {
        self.request.cluster
    }

    pub fn folder(&self) -> ClusterFolder {
        self.driver.folder(self.cluster())
    }

    pub async fn observe_network(&self) -> Result<StepObservation, NativeError> {
        let difference = network::difference(&self.driver.engine, self.cluster()).await?;
        Ok(in_place(difference))
    }

    pub async fn ensure_network(&self) -> Result<(), NativeError> {
        fs::create_dir_all(&self.driver.settings.dir).map_err(|source| NativeError::File {
            operation: "create",
            path: self.driver.settings.dir.clone(),
            source,
        })?;
        let lock = self.driver.settings.dir.join("networks.lock");
        network::ensure(&self.driver.engine, self.cluster(), &lock).await
    }

    pub async fn remove_network(&self) -> Result<(), NativeError> {
        network::remove(&self.driver.engine, self.cluster()).await?;
        self.driver.addresses.forget(self.cluster().uid);
        let folder = self.folder();
        folder.remove().map_err(|source| NativeError::File {
            operation: "remove",
            path: folder.kubeconfig(),
            source,
        })
    }

    pub async fn observe_cluster(&self) -> Result<StepObservation, NativeError> {
        let (shape, nodes) = self.driver.shape(self.cluster()).await?;
        let nodes: Vec<&Node> = nodes.iter().collect();
        // It may be exactly as declared, and still is not this row's: the effect refuses it.
        if shape != Shape::Absent && self.driver.is_foreign(self.cluster()) {
            return Ok(not_in_place(&foreign_text(self.cluster())));
        }
        Ok(match shape {
            Shape::Running if self.leftover(&nodes).next().is_some() => {
                not_in_place("k3d left its tools container")
            }
            Shape::Running => in_place(port_difference(self.cluster(), &nodes)),
            Shape::Absent => not_in_place("it has no containers"),
            Shape::Stopped => not_in_place("it is stopped"),
            Shape::Down(why) | Shape::HalfMade(why) => not_in_place(&why),
        })
    }

    /// Creates, starts or repairs the containers, by what is broken.
    pub async fn make_cluster(&self) -> Result<(), NativeError> {
        let (shape, nodes) = self.driver.shape(self.cluster()).await?;
        if shape != Shape::Absent && self.driver.is_foreign(self.cluster()) {
            return Err(NativeError::Foreign(foreign_text(self.cluster())));
        }
        match shape {
            Shape::Absent => self.create().await?,
            Shape::HalfMade(_) => {
                self.tool(&tools::delete(self.cluster(), &self.folder().kubeconfig()))
                    .await?;
                self.create().await?;
            }
            Shape::Stopped | Shape::Down(_) => self.start(&nodes).await?,
            Shape::Running => {
                let nodes: Vec<&Node> = nodes.iter().collect();
                for left in self.leftover(&nodes) {
                    self.driver.engine.remove(&left.id).await?;
                }
                if let Some(why) = port_difference(self.cluster(), &nodes) {
                    return Err(NativeError::NeedsRecreation(why));
                }
            }
        }
        self.wait_for_shape(&Shape::Running).await
    }

    /// The tools container of an interrupted create. At other times it may be that of a person's
    /// `k3d image import`.
    fn leftover<'n>(&self, nodes: &[&'n Node]) -> impl Iterator<Item = &'n Node> {
        let is_create = self.action == Action::Create;
        let left = nodes
            .iter()
            .copied()
            .filter(|node| node.role == NodeRole::Tools);
        left.filter(move |_| is_create)
            .collect::<Vec<_>>()
            .into_iter()
    }

    async fn create(&self) -> Result<(), NativeError> {
        let (cluster, folder) = (self.cluster(), self.folder());
        // The ports of another host's engine cannot be tested here.
        let is_local = self.driver.listed().await?.facts.root.is_some();
        let _ports = match is_local {
            true => Some(self.driver.ports.reserve(cluster).await?),
            false => None,
        };
        folder
            .own(cluster.uid)
            .map_err(|source| NativeError::File {
                operation: "write",
                path: folder.kubeconfig(),
                source,
            })?;
        let config = folder.kind_config();
        fs::write(&config, tools::kind_config(cluster)).map_err(|source| NativeError::File {
            operation: "write",
            path: config.clone(),
            source,
        })?;
        let network = network::name(cluster);
        let paths = (folder.kubeconfig(), config);
        let paths = (paths.0.as_path(), paths.1.as_path());
        let images = &self.driver.settings.images;
        self.tool(&tools::create(cluster, images, &network, paths))
            .await
    }

    /// Starts what does not run. The engine starts a kind node or a load balancer; k3d starts its
    /// servers itself.
    async fn start(&self, nodes: &[Node]) -> Result<(), NativeError> {
        let engine = &self.driver.engine;
        for node in nodes.iter().filter(|node| node.state == NodeState::Paused) {
            engine.unpause(&node.id).await?;
        }
        let exited = || nodes.iter().filter(|node| node.state == NodeState::Exited);
        let is_k3d = self.cluster().spec.provider == Provider::K3d;
        if is_k3d && exited().any(|node| node.role != NodeRole::LoadBalancer) {
            return self.tool(&tools::start_k3d(self.cluster())).await;
        }
        for node in exited() {
            engine.start(&node.id).await?;
        }
        Ok(())
    }

    /// Stops every container, the load balancer first.
    pub async fn stop(&self) -> Result<(), NativeError> {
        let (_, nodes) = self.driver.shape(self.cluster()).await?;
        let engine = &self.driver.engine;
        for node in nodes.iter().filter(|node| node.state == NodeState::Paused) {
            engine.unpause(&node.id).await?;
        }
        let is_balancer = |node: &&Node| node.role == NodeRole::LoadBalancer;
        let first = nodes.iter().filter(is_balancer);
        let then = nodes.iter().filter(|node| !is_balancer(node));
        for node in first.chain(then) {
            engine.stop(&node.id).await?;
        }
        self.wait_for_shape(&Shape::Stopped).await
    }

    /// What a stop leaves: the containers, none of which runs.
    pub async fn observe_stopped(&self) -> Result<StepObservation, NativeError> {
        let (shape, _) = self.driver.shape(self.cluster()).await?;
        Ok(match shape {
            Shape::Stopped | Shape::Absent => not_in_place("it is stopped"),
            Shape::Running | Shape::Down(_) | Shape::HalfMade(_) => StepObservation::InPlace,
        })
    }

    /// Deletes the cluster with everything that belongs to it.
    pub async fn remove_cluster(&self) -> Result<(), NativeError> {
        let (shape, _) = self.driver.shape(self.cluster()).await?;
        let is_foreign = self.driver.is_foreign(self.cluster());
        if shape != Shape::Absent {
            if is_foreign {
                return Err(NativeError::Foreign(foreign_text(self.cluster())));
            }
            self.tool(&tools::delete(self.cluster(), &self.folder().kubeconfig()))
                .await?;
            self.wait_for_shape(&Shape::Absent).await?;
        }
        // Containers that were removed by hand leave it, and k3d deletes nothing without them.
        if !is_foreign && self.cluster().spec.provider == Provider::K3d {
            let name = self.cluster().name.as_str();
            self.driver.engine.remove_volumes(name).await?;
        }
        Ok(())
    }

    pub async fn observe_limits(&self) -> Result<StepObservation, NativeError> {
        let wanted = self.limits().await?;
        for node in self.kubernetes_nodes().await? {
            let has = self.driver.engine.limits(&node.id).await?;
            if !has.is_some_and(|has| are_equal(has, wanted)) {
                return Ok(not_in_place(&format!("{} has other limits", node.name)));
            }
        }
        Ok(StepObservation::InPlace)
    }

    pub async fn limit(&self) -> Result<(), NativeError> {
        let wanted = self.limits().await?;
        for node in self.kubernetes_nodes().await? {
            self.driver.engine.limit(&node.id, wanted).await?;
        }
        Ok(())
    }

    /// The configured limits, and no more processors than the engine has: it rejects more.
    async fn limits(&self) -> Result<NodeLimits, NativeError> {
        let configured = self.driver.limits();
        let has = self.driver.listed().await?.facts.processors;
        Ok(NodeLimits {
            cpus: has.map_or(configured.cpus, |has| configured.cpus.min(has)),
            ..configured
        })
    }

    /// The nodes of Kubernetes: neither load balancer nor tools.
    pub async fn kubernetes_nodes(&self) -> Result<Vec<Node>, NativeError> {
        let (_, nodes) = self.driver.shape(self.cluster()).await?;
        let runs_pods = |node: &Node| matches!(node.role, NodeRole::Server | NodeRole::Agent);
        Ok(nodes.into_iter().filter(runs_pods).collect())
    }

    pub async fn observe_kubeconfig(&self) -> Result<StepObservation, NativeError> {
        let port = self.api_port().await?;
        Ok(match kubeconfig::read(&self.folder().kubeconfig()) {
            Ok(access) if access.port == port => StepObservation::InPlace,
            Ok(access) => {
                let named = access.port;
                not_in_place(&format!("it names port {named}, the API server has {port}"))
            }
            Err(error) => not_in_place(&crate::cause::chain(&error)),
        })
    }

    /// Writes the private kubeconfig, with the port that the engine publishes.
    pub async fn write_kubeconfig(&self) -> Result<(), NativeError> {
        let port = self.api_port().await?;
        let settings = &self.driver.settings;
        let printed = super::super::kubeconfig::read(&settings.runner, self.cluster()).await;
        let Kubeconfig(printed) = printed.map_err(NativeError::NoKubeconfig)?;
        let printed = String::from_utf8_lossy(&printed);
        let folder = self.folder();
        folder
            .own(self.cluster().uid)
            .map_err(|source| NativeError::File {
                operation: "write",
                path: folder.kubeconfig(),
                source,
            })?;
        Ok(kubeconfig::write(&folder.kubeconfig(), &printed, port)?)
    }

    async fn api_port(&self) -> Result<u16, NativeError> {
        let (_, nodes) = self.driver.shape(self.cluster()).await?;
        let nodes: Vec<&Node> = nodes.iter().collect();
        let unpublished = || NativeError::Broken("API server has no port on this host".to_owned());
        node::api_port(&nodes).ok_or_else(unpublished)
    }

    pub async fn observe_ready(&self) -> Result<StepObservation, NativeError> {
        let access = kubeconfig::read(&self.folder().kubeconfig())?;
        let within = self.driver.settings.deadlines.probe;
        let checked = api_server::check(&access, within).await;
        Ok(in_place(checked.err().map(|why| why.to_string())))
    }

    pub async fn wait_until_ready(&self) -> Result<(), NativeError> {
        let within = self.rest();
        let until = within.end();
        while !is_in_place(self.observe_ready().await?, until, &within)? {
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Runs a tool, after which the engine shows another state.
    pub async fn tool(&self, line: &CommandLine) -> Result<(), NativeError> {
        let ran = tools::run(
            &self.driver.settings,
            line,
            (self.action, self.left),
            self.request,
        );
        let ran = ran.await;
        self.driver.engine.changed().await;
        Ok(ran?)
    }

    /// The engine shows what was done; a tool's exit code alone proves nothing.
    async fn wait_for_shape(&self, wanted: &Shape) -> Result<(), NativeError> {
        let within = StepLimit::fixed(SHOWN_WITHIN);
        let until = within.end();
        loop {
            self.driver.engine.changed().await;
            let (shape, _) = self.driver.shape(self.cluster()).await?;
            let why = match shape {
                shape if shape == *wanted => return Ok(()),
                Shape::Down(why) | Shape::HalfMade(why) => why,
                Shape::Absent => "it has no containers".to_owned(),
                Shape::Running => "its containers run".to_owned(),
                Shape::Stopped => "it is stopped".to_owned(),
            };
            if Instant::now() > until {
                return Err(NativeError::NotReadyWithin { why, within });
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// What of a running cluster is not as declared, and its provider cannot change: ports, network,
/// image.
pub(super) async fn difference(
    cluster: &Cluster,
    nodes: &[Node],
    images: &NodeImages,
    engine: &Engine,
) -> Option<String> {
    let nodes: Vec<&Node> = nodes.iter().collect();
    let found = port_difference(cluster, &nodes)
        .or_else(|| network_difference(cluster, &nodes))
        .or_else(|| image_difference(images.of(cluster.spec.provider)?, &nodes));
    match found {
        Some(found) => Some(found),
        // The network has its name, but perhaps another subnet.
        None if cluster.spec.subnet.is_some() => {
            network::difference(engine, cluster).await.ok().flatten()
        }
        None => None,
    }
}

/// Why the servers are not in the declared network; none if they are.
fn network_difference(cluster: &Cluster, nodes: &[&Node]) -> Option<String> {
    let wanted = network::name(cluster);
    let server = nodes.iter().find(|node| node.role == NodeRole::Server)?;
    let is_in = |network: &str| server.addresses.iter().any(|(name, _)| name == network);
    // A cluster that was taken over may be in any network, unless a subnet is or was declared.
    let matters = cluster.spec.subnet.is_some() || is_in(&format!("k3d-{}", cluster.name));
    (matters && !is_in(&wanted) && !server.addresses.is_empty()).then(|| {
        let real: Vec<&str> = server.addresses.iter().map(|(name, _)| &**name).collect();
        format!(
            "the network {wanted} is declared, but {} is in {}",
            server.name,
            real.join(", ")
        )
    })
}

/// Why the servers have not the image of the settings; none if they have.
fn image_difference(wanted: &str, nodes: &[&Node]) -> Option<String> {
    let server = nodes.iter().find(|node| node.role == NodeRole::Server)?;
    let tagged = |image: &str| {
        let image = image.split('@').next().unwrap_or_default();
        let image = image.strip_prefix("docker.io/").unwrap_or(image);
        let has_tag = image
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains(':'));
        // The engine names an image whose tag has moved by its ID.
        (has_tag && !image.starts_with("sha256:")).then(|| image.to_owned())
    };
    let (real, declared) = (tagged(&server.image)?, tagged(wanted)?);
    (real != declared).then(|| {
        format!(
            "the image {wanted} is wanted, but {} has {}",
            server.name, server.image
        )
    })
}

/// Why the published ports are not the declared ones; none if they are.
pub(super) fn port_difference(cluster: &Cluster, nodes: &[&Node]) -> Option<String> {
    let spec = &cluster.spec;
    let published = |inside| {
        let ports = nodes.iter().flat_map(|node| &node.ports);
        ports
            .filter(move |(port, _)| *port == inside)
            .map(|(_, host)| *host)
    };
    let wanted = [
        ("http_port", 80, spec.http_port),
        ("https_port", 443, spec.https_port),
    ];
    wanted.into_iter().find_map(|(field, inside, declared)| {
        if published(inside).any(|host| host == declared.get()) {
            return None;
        }
        Some(match published(inside).next() {
            Some(host) => format!("{field} is declared as {declared}, but {host} is published"),
            None => format!("{field} {declared} is not published"),
        })
    })
}

fn are_equal(has: NodeLimits, wanted: NodeLimits) -> bool {
    (has.cpus - wanted.cpus).abs() < CPU_ROUNDING && has.memory == wanted.memory
}

/// Whether a step is in place; an error if it is not, and no time is left to look again.
pub(super) fn is_in_place(
    observed: StepObservation,
    until: Instant,
    within: &StepLimit,
) -> Result<bool, NativeError> {
    match observed {
        StepObservation::InPlace => Ok(true),
        StepObservation::NotInPlace(why) | StepObservation::Unknown(why) => {
            match Instant::now() + LOOK_AGAIN > until {
                true => {
                    let within = within.clone();
                    Err(NativeError::NotReadyWithin { why, within })
                }
                false => Ok(false),
            }
        }
    }
}

pub(super) fn in_place(difference: Option<String>) -> StepObservation {
    difference.map_or(StepObservation::InPlace, StepObservation::NotInPlace)
}

fn not_in_place(why: &str) -> StepObservation {
    StepObservation::NotInPlace(why.to_owned())
}
