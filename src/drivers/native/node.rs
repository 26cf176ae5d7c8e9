//! The containers of clusters, as the engine lists them, and what they say about a cluster.
//! Pure.
//!
//! k3d and kind label their containers: `app=k3d`, `k3d.cluster`, `k3d.role`, and
//! `io.x-k8s.kind.cluster`, `io.x-k8s.kind.role`.

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;

use crate::clusters::{ClusterName, Provider};

/// The state of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub(super) enum NodeState {
    /// Made, and never started.
    Created,
    Running,
    Paused,
    /// The engine starts it again.
    Restarting,
    Exited,
    /// Cannot be started again, or is being removed.
    Dead,
}

/// What a container is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeRole {
    /// It runs the API server.
    Server,
    Agent,
    LoadBalancer,
    /// k3d's container for tools, which exists only during a command, or is left of one.
    Tools,
}

/// A container of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub id: String,
    pub name: String,
    pub provider: Provider,
    pub cluster: String,
    pub role: NodeRole,
    pub state: NodeState,
    /// Its image, as the engine names it.
    pub image: String,
    /// Published TCP ports: of the container, and of the host.
    pub ports: Vec<(u16, u16)>,
    /// Its addresses, by the name of the network.
    pub addresses: Vec<(String, Ipv4Addr)>,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.name, self.state)
    }
}

impl Node {
    /// Provider, cluster and role of a container with these labels; none if it is no container of
    /// a cluster.
    pub fn identify(labels: &HashMap<String, String>) -> Option<(Provider, String, NodeRole)> {
        let label = |name: &str| labels.get(name).map(String::as_str);
        if label("app") == Some("k3d") {
            let role = match label("k3d.role")? {
                "server" => NodeRole::Server,
                "agent" => NodeRole::Agent,
                "loadbalancer" => NodeRole::LoadBalancer,
                "noRole" => NodeRole::Tools,
                // Such as a registry, which may serve several clusters.
                _ => return None,
            };
            return Some((Provider::K3d, label("k3d.cluster")?.to_owned(), role));
        }
        let role = match label("io.x-k8s.kind.role")? {
            "control-plane" => NodeRole::Server,
            "worker" => NodeRole::Agent,
            "external-load-balancer" => NodeRole::LoadBalancer,
            // Any container may have an odd label; kind makes no other roles.
            _ => return None,
        };
        let cluster = label("io.x-k8s.kind.cluster")?.to_owned();
        Some((Provider::Kind, cluster, role))
    }

    /// The port of the host on which the API server answers, if this node publishes it.
    pub fn api_port(&self) -> Option<u16> {
        let of_api = self.ports.iter().find(|(inside, _)| *inside == 6443);
        of_api.map(|(_, published)| *published)
    }
}

/// What the containers of a cluster say, before its API server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// It has no container.
    Absent,
    /// Everything runs.
    Running,
    /// Every container was stopped.
    Stopped,
    /// Some containers need a start or an unpause; the text says which.
    Down(String),
    /// An interrupted create left it, or its server was removed: it cannot be started.
    HalfMade(String),
}

/// The shape of a cluster with these containers.
pub(super) fn shape(nodes: &[&Node]) -> Shape {
    if nodes.is_empty() {
        return Shape::Absent;
    }
    let of_role = |role| nodes.iter().filter(move |node| node.role == role);
    let listed = |nodes: &mut dyn Iterator<Item = &&Node>| {
        let texts: Vec<String> = nodes.map(|node| node.to_string()).collect();
        texts.join(", ")
    };
    let Some(server) = of_role(NodeRole::Server).next() else {
        let left = listed(&mut nodes.iter());
        return Shape::HalfMade(format!("it has no server container ({left})"));
    };
    // `k3d cluster start` hangs on containers that were never started, because only a create
    // writes the configuration of the load balancer.
    let unusable = |node: &&&Node| matches!(node.state, NodeState::Created | NodeState::Dead);
    let mut broken = nodes.iter().filter(unusable).peekable();
    if broken.peek().is_some() {
        return Shape::HalfMade(listed(&mut broken));
    }
    if server.provider == Provider::K3d && of_role(NodeRole::LoadBalancer).next().is_none() {
        return Shape::HalfMade("it has no load balancer".to_owned());
    }
    let kept = || nodes.iter().filter(|node| node.role != NodeRole::Tools);
    if kept().all(|node| node.state == NodeState::Exited) {
        return Shape::Stopped;
    }
    let mut down = kept()
        .filter(|node| node.state != NodeState::Running)
        .peekable();
    match down.peek() {
        Some(_) => Shape::Down(listed(&mut down)),
        None => Shape::Running,
    }
}

/// The containers of one cluster.
pub(super) fn of_cluster<'a>(
    nodes: &'a [Node],
    provider: Provider,
    name: &ClusterName,
) -> Vec<&'a Node> {
    let is_of = |node: &&Node| node.provider == provider && node.cluster == name.as_str();
    nodes.iter().filter(is_of).collect()
}

/// The port of the host on which the cluster's API server answers.
pub(super) fn api_port(nodes: &[&Node]) -> Option<u16> {
    let first = |role| nodes.iter().find(|node| node.role == role);
    let candidates = [first(NodeRole::LoadBalancer), first(NodeRole::Server)];
    candidates
        .into_iter()
        .flatten()
        .find_map(|node| node.api_port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(role: NodeRole, state: NodeState) -> Node {
        Node {
            id: "1".into(),
            name: format!("k3d-dev-{role:?}").to_lowercase(),
            provider: Provider::K3d,
            cluster: "dev".into(),
            role,
            state,
            image: String::new(),
            ports: Vec::new(),
            addresses: Vec::new(),
        }
    }

    fn shape_of(nodes: &[(NodeRole, NodeState)]) -> Shape {
        let nodes: Vec<Node> = nodes
            .iter()
            .map(|(role, state)| node(*role, *state))
            .collect();
        shape(&nodes.iter().collect::<Vec<_>>())
    }

    /// What the real k3d 5 leaves when it is killed at some point of a create, and what stops,
    /// pauses and removals by hand leave.
    #[test]
    fn every_leftover_of_k3d_has_a_shape() {
        use NodeRole::{LoadBalancer, Server, Tools};
        use NodeState::{Created, Exited, Paused, Restarting, Running};
        assert_eq!(shape_of(&[]), Shape::Absent);
        assert_eq!(
            shape_of(&[(Server, Running), (LoadBalancer, Running)]),
            Shape::Running
        );
        assert_eq!(
            shape_of(&[(Server, Exited), (LoadBalancer, Exited)]),
            Shape::Stopped
        );
        for half_made in [
            &[(Tools, Running)][..],
            &[(LoadBalancer, Running)],
            &[(Server, Created), (LoadBalancer, Created)],
            &[(Server, Running), (LoadBalancer, Created)],
            &[(Server, Running)],
        ] {
            let shape = shape_of(half_made);
            assert!(
                matches!(shape, Shape::HalfMade(_)),
                "{half_made:?}: {shape:?}"
            );
        }
        for down in [
            &[(Server, Running), (LoadBalancer, Exited)][..],
            &[(Server, Exited), (LoadBalancer, Running)],
            &[(Server, Paused), (LoadBalancer, Running)],
            &[(Server, Restarting), (LoadBalancer, Running)],
        ] {
            assert!(matches!(shape_of(down), Shape::Down(_)), "{down:?}");
        }
        let left = [(Server, Running), (LoadBalancer, Running), (Tools, Exited)];
        assert_eq!(shape_of(&left), Shape::Running);
    }

    #[test]
    fn labels_identify_nodes_and_odd_ones_do_not() {
        let identify = |labels: &[(&str, &str)]| {
            let owned = labels
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()));
            Node::identify(&owned.collect())
        };
        let k3d = [
            ("app", "k3d"),
            ("k3d.cluster", "dev"),
            ("k3d.role", "server"),
        ];
        let expected = (Provider::K3d, "dev".to_owned(), NodeRole::Server);
        assert_eq!(identify(&k3d), Some(expected));
        let kind = [
            ("io.x-k8s.kind.cluster", "dev"),
            ("io.x-k8s.kind.role", "control-plane"),
        ];
        let expected = (Provider::Kind, "dev".to_owned(), NodeRole::Server);
        assert_eq!(identify(&kind), Some(expected));
        for odd in [
            &[("io.x-k8s.kind.cluster", "dev")][..],
            &[
                ("io.x-k8s.kind.cluster", "dev"),
                ("io.x-k8s.kind.role", "other"),
            ],
            &[("app", "k3d")],
            &[
                ("app", "k3d"),
                ("k3d.cluster", "dev"),
                ("k3d.role", "registry"),
            ],
            &[],
        ] {
            assert_eq!(identify(odd), None, "{odd:?}");
        }
    }
}
