//! The container engine of this host, over its API: one list for all clusters, and small
//! operations on containers and networks. It runs no program and decides nothing.
//!
//! The engine is the one of the `docker` command ([`super::endpoint`]).

mod images;
mod volumes;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{
    ContainerSummary, ContainerSummaryStateEnum as EngineState, ContainerUpdateBody, Ipam,
    IpamConfig, Network, NetworkCreateRequest, NetworkInspect, PortSummaryTypeEnum, SystemInfo,
};
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::endpoint::{Endpoint, EndpointError};
use super::limit::StepLimit;
use super::node::{Node, NodeState};

/// How long one request may take.
const WITHIN: Duration = Duration::from_secs(10);

/// How old a list may be that several observations share.
const SHARED_FOR: Duration = Duration::from_millis(500);

/// Answers of the engine.
const NOT_FOUND: u16 = 404;
const NOT_MODIFIED: u16 = 304;

/// Why the engine did not do something.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// It cannot be reached.
    #[error("the container engine cannot be reached: is it running, and may this user use it?")]
    Unreachable(#[source] bollard::errors::Error),
    /// It did not answer in time.
    #[error("the container engine did not {operation} within {} s", WITHIN.as_secs())]
    Late { operation: &'static str },
    /// It did not end within a deadline of its own.
    #[error("the container engine did not {operation} within {within}")]
    TooLong {
        operation: &'static str,
        within: StepLimit,
    },
    /// It refused.
    #[error("the container engine did not {operation}")]
    Refused {
        operation: &'static str,
        #[source]
        source: bollard::errors::Error,
    },
}

impl EngineError {
    fn status(&self) -> Option<u16> {
        use bollard::errors::Error::DockerResponseServerError;
        match self {
            Self::Refused {
                source: DockerResponseServerError { status_code, .. },
                ..
            } => Some(*status_code),
            _ => None,
        }
    }
}

/// The CPU and memory of one node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct NodeLimits {
    /// Processor cores.
    pub cpus: f64,
    /// Memory in bytes; swap is not added.
    pub memory: i64,
}

/// A network of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EngineNetwork {
    pub id: String,
    pub name: String,
    pub subnets: Vec<String>,
    /// Whether a container is connected.
    pub in_use: bool,
}

/// The option with the largest packet of a network.
const MTU: &str = "com.docker.network.driver.mtu";

/// How a network is created.
#[derive(Clone, Debug, Default)]
pub(super) struct NetworkShape {
    subnet: Option<String>,
    gateway: Option<Ipv4Addr>,
    ipv6: bool,
    options: Vec<(String, String)>,
}

impl NetworkShape {
    /// With this subnet and gateway, if they are given.
    pub fn of_subnet(subnet: Option<(String, Ipv4Addr)>) -> Self {
        let (subnet, gateway) = subnet.unzip();
        Self {
            subnet,
            gateway,
            ..Self::default()
        }
    }

    /// As kind makes its own: `pkg/cluster/internal/providers/docker/network.go`.
    pub fn of_kind(ipv6: bool, mtu: Option<String>) -> Self {
        let mtu = mtu.map(|mtu| (MTU.to_owned(), mtu));
        let masquerade = ("com.docker.network.bridge.enable_ip_masquerade", "true");
        Self {
            subnet: ipv6.then(|| "fc00:f853:ccd:e793::/64".to_owned()),
            gateway: None,
            ipv6,
            options: [(masquerade.0.to_owned(), masquerade.1.to_owned())]
                .into_iter()
                .chain(mtu)
                .collect(),
        }
    }
}

/// What an engine can do, and where its data are.
#[derive(Clone, Debug)]
pub(super) struct EngineFacts {
    /// It runs Linux containers.
    pub linux: bool,
    /// It can limit memory.
    pub memory: bool,
    /// It can limit CPU.
    pub cpu: bool,
    /// Its processors; no node can have more.
    pub processors: Option<f64>,
    /// The folder of its data, if it is on this host.
    pub root: Option<PathBuf>,
}

/// The containers of all clusters of one engine.
#[derive(Clone, Debug)]
pub(super) struct EngineList {
    /// The identity of the engine's data.
    pub engine: Arc<str>,
    pub facts: EngineFacts,
    pub nodes: Arc<[Node]>,
}

/// A list, and when it was read.
type SharedList = (Instant, EngineList);

/// A connection to the engine; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Engine {
    client: Arc<std::sync::Mutex<Option<(Endpoint, Docker)>>>,
    shared: Arc<Mutex<Option<SharedList>>>,
}

impl Engine {
    /// A client of the engine that the environment and the docker context name now, as for the
    /// tools. The engine may start after the daemon.
    fn docker(&self) -> Result<Docker, EngineError> {
        let endpoint = Endpoint::current()?;
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        match &*client {
            Some((known, docker)) if *known == endpoint => Ok(docker.clone()),
            _ => {
                let docker = endpoint.client().map_err(EngineError::Unreachable)?;
                *client = Some((endpoint, docker.clone()));
                Ok(docker)
            }
        }
    }

    /// The identity of the engine's data, and the containers of all clusters. Observations at
    /// about the same time share one list.
    pub async fn listed(&self) -> Result<EngineList, EngineError> {
        let mut shared = self.shared.lock().await;
        if let Some((at, list)) = &*shared
            && at.elapsed() < SHARED_FOR
        {
            return Ok(list.clone());
        }
        let docker = self.docker()?;
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let listed = docker.list_containers(Some(options));
        let listed = request("list its containers", listed).await?;
        let info = request("tell its ID", docker.info()).await?;
        let list = EngineList {
            facts: facts(&info),
            engine: info.id.unwrap_or_default().into(),
            nodes: listed.iter().filter_map(node).collect(),
        };
        *shared = Some((Instant::now(), list.clone()));
        Ok(list)
    }

    /// The next list is a new one, because something was changed.
    pub async fn changed(&self) {
        *self.shared.lock().await = None;
    }

    pub async fn start(&self, container: &str) -> Result<(), EngineError> {
        let docker = self.docker()?;
        let started = docker.start_container(container, None);
        unchanged_is_fine(request("start a container", started).await)?;
        self.changed().await;
        Ok(())
    }

    pub async fn stop(&self, container: &str) -> Result<(), EngineError> {
        let docker = self.docker()?;
        let stopped = docker.stop_container(container, None);
        // The engine waits for the container itself, 10 s by default.
        let stopped = timeout(WITHIN * 3, stopped).await;
        let operation = "stop a container";
        let stopped = stopped
            .map_err(|_| EngineError::Late { operation })?
            .map_err(|source| EngineError::Refused { operation, source });
        unchanged_is_fine(stopped)?;
        self.changed().await;
        Ok(())
    }

    /// Removes a container with its volumes, whatever its state is.
    pub async fn remove(&self, container: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        let docker = self.docker()?;
        let removed = docker.remove_container(container, Some(options));
        match request("remove a container", removed).await {
            Err(error) if error.status() == Some(NOT_FOUND) => {}
            removed => removed?,
        }
        self.changed().await;
        Ok(())
    }

    pub async fn unpause(&self, container: &str) -> Result<(), EngineError> {
        let docker = self.docker()?;
        let unpaused = docker.unpause_container(container);
        request("unpause a container", unpaused).await?;
        self.changed().await;
        Ok(())
    }

    /// The limits of a container; none where it has none.
    pub async fn limits(&self, container: &str) -> Result<Option<NodeLimits>, EngineError> {
        let docker = self.docker()?;
        let inspected = docker.inspect_container(container, None);
        let inspected = request("inspect a container", inspected).await?;
        let host = inspected.host_config.unwrap_or_default();
        let (cpus, memory) = (host.nano_cpus.unwrap_or(0), host.memory.unwrap_or(0));
        let has_limits = cpus > 0 && memory > 0;
        Ok(has_limits.then_some(NodeLimits {
            cpus: cpus as f64 / 1e9,
            memory,
        }))
    }

    /// Limits CPU and memory of a container, and gives it no swap.
    pub async fn limit(&self, container: &str, limits: NodeLimits) -> Result<(), EngineError> {
        let update = ContainerUpdateBody {
            nano_cpus: Some((limits.cpus * 1e9) as i64),
            memory: Some(limits.memory),
            memory_swap: Some(limits.memory),
            ..ContainerUpdateBody::default()
        };
        request(
            "limit a container",
            self.docker()?.update_container(container, update),
        )
        .await
    }

    /// All networks, without what is connected to them.
    pub async fn all_networks(&self) -> Result<Vec<EngineNetwork>, EngineError> {
        let all = request("list its networks", self.docker()?.list_networks(None)).await?;
        Ok(all.into_iter().map(listed_network).collect())
    }

    /// The networks of this name: the engine allows several.
    pub async fn networks(&self, name: &str) -> Result<Vec<EngineNetwork>, EngineError> {
        let all = self.all_networks().await?;
        let ids = all.into_iter().filter(|network| network.name == name);
        let mut networks = Vec::new();
        for id in ids.map(|network| network.id) {
            let docker = self.docker()?;
            let inspected = docker.inspect_network(&id, None);
            match request("inspect a network", inspected).await {
                Ok(found) => networks.push(network(found)),
                // It was removed meanwhile.
                Err(error) if error.status() == Some(NOT_FOUND) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(networks)
    }

    /// The largest packet of the engine's own network, if it says one.
    pub async fn default_mtu(&self) -> Result<Option<String>, EngineError> {
        let docker = self.docker()?;
        let inspected = docker.inspect_network("bridge", None);
        match request("inspect a network", inspected).await {
            Ok(bridge) => Ok(bridge.options.and_then(|mut options| options.remove(MTU))),
            // An engine may run without it.
            Err(error) if error.status() == Some(NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a network, and returns its ID.
    pub async fn create_network(
        &self,
        name: &str,
        shape: NetworkShape,
    ) -> Result<String, EngineError> {
        let config = shape.subnet.map(|subnet| IpamConfig {
            subnet: Some(subnet),
            gateway: shape.gateway.map(|gateway| gateway.to_string()),
            ..IpamConfig::default()
        });
        let network = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            enable_ipv6: Some(shape.ipv6),
            options: (!shape.options.is_empty()).then(|| shape.options.into_iter().collect()),
            ipam: config.map(|config| Ipam {
                config: Some(vec![config]),
                ..Ipam::default()
            }),
            ..NetworkCreateRequest::default()
        };
        let docker = self.docker()?;
        let created = docker.create_network(network);
        let created = request("create a network", created).await?;
        Ok(created.id)
    }

    /// Removes a network without containers.
    pub async fn remove_network(&self, id: &str) -> Result<(), EngineError> {
        match request("remove a network", self.docker()?.remove_network(id)).await {
            Err(error) if error.status() == Some(NOT_FOUND) => Ok(()),
            removed => removed,
        }
    }
}

/// One request, with a deadline.
async fn request<T>(
    operation: &'static str,
    sent: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, EngineError> {
    use bollard::errors::Error;
    match timeout(WITHIN, sent).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(
            error @ (Error::HyperLegacyError { .. }
            | Error::HyperResponseError { .. }
            | Error::IOError { .. }),
        )) => Err(EngineError::Unreachable(error)),
        Ok(Err(source)) => Err(EngineError::Refused { operation, source }),
        Err(_) => Err(EngineError::Late { operation }),
    }
}

/// A container that is already so.
fn unchanged_is_fine(answer: Result<(), EngineError>) -> Result<(), EngineError> {
    match answer {
        Err(error) if error.status() == Some(NOT_MODIFIED) => Ok(()),
        answer => answer,
    }
}

fn facts(info: &SystemInfo) -> EngineFacts {
    // A socket may also lead to another host; then this host has no such folder.
    let root = info.docker_root_dir.as_ref().map(PathBuf::from);
    EngineFacts {
        linux: info.os_type.as_deref().is_none_or(|os| os == "linux"),
        memory: info.memory_limit.unwrap_or(true),
        cpu: info.cpu_cfs_quota.unwrap_or(true),
        processors: info.ncpu.map(|count| count as f64),
        root: root.filter(|root| root.exists()),
    }
}

fn subnets(ipam: Option<Ipam>) -> Vec<String> {
    let configs = ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    configs
        .into_iter()
        .filter_map(|config| config.subnet)
        .collect()
}

fn listed_network(found: Network) -> EngineNetwork {
    EngineNetwork {
        id: found.id.unwrap_or_default(),
        name: found.name.unwrap_or_default(),
        subnets: subnets(found.ipam),
        in_use: false,
    }
}

fn network(found: NetworkInspect) -> EngineNetwork {
    EngineNetwork {
        id: found.id.unwrap_or_default(),
        name: found.name.unwrap_or_default(),
        subnets: subnets(found.ipam),
        in_use: found
            .containers
            .is_some_and(|connected| !connected.is_empty()),
    }
}

/// A container of a cluster, or none.
fn node(listed: &ContainerSummary) -> Option<Node> {
    let (provider, cluster, role) = Node::identify(listed.labels.as_ref()?)?;
    let name = listed.names.as_ref().and_then(|names| names.first());
    let ports = listed.ports.iter().flatten().filter_map(|port| {
        // The engine may publish another port on IPv6 addresses.
        let is_ipv6 = port.ip.as_ref().is_some_and(|ip| ip.contains(':'));
        let is_tcp = port.typ == Some(PortSummaryTypeEnum::TCP);
        (is_tcp && !is_ipv6).then_some((port.private_port, port.public_port?))
    });
    let networks = listed.network_settings.as_ref();
    let networks: Option<&HashMap<_, _>> = networks.and_then(|of| of.networks.as_ref());
    let addresses = networks
        .into_iter()
        .flatten()
        .filter_map(|(network, settings)| {
            let address = settings.ip_address.as_ref()?.parse().ok()?;
            Some((network.clone(), address))
        });
    Some(Node {
        id: listed.id.clone()?,
        name: name
            .map_or("?", |name| name.trim_start_matches('/'))
            .to_owned(),
        provider,
        cluster,
        role,
        state: state(listed.state?),
        image: listed.image.clone().unwrap_or_default(),
        ports: ports.collect(),
        addresses: addresses.collect(),
    })
}

fn state(state: EngineState) -> NodeState {
    match state {
        EngineState::RUNNING => NodeState::Running,
        EngineState::PAUSED => NodeState::Paused,
        EngineState::RESTARTING => NodeState::Restarting,
        EngineState::EXITED => NodeState::Exited,
        EngineState::CREATED => NodeState::Created,
        _ => NodeState::Dead,
    }
}
