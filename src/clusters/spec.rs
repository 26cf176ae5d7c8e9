//! What a person asks of a cluster: provider, network and registrations.
//!
//! Values are checked when they are made. The same limits stand in the
//! database (`sql/migrations`), with the same words, because `psql` is a door
//! like the others; a test compares the two.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::name::ClusterName;

/// The longest name that k3d accepts.
pub const MAX_K3D_NAME: usize = 32;

/// The prefix lengths that leave room for a cluster's addresses.
const SUBNET_PREFIX: std::ops::RangeInclusive<u8> = 8..=28;

/// A value that a spec cannot hold; the message names field and limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Neither k3d nor kind.
    #[error("provider {0:?} is not known: use k3d or kind")]
    Provider(String),
    /// Outside 1 to 65535, or not a number.
    #[error("{field} {given} is out of range: use 1 to 65535")]
    Port {
        /// The column, for example `http_port`.
        field: &'static str,
        /// The refused value.
        given: String,
    },
    /// One port of the host for two purposes.
    #[error("{one} and {other} are both {port}: use a port of its own for each")]
    SamePort {
        /// The column, for example `http_port`.
        one: &'static str,
        /// The column that has the same, for example `https_port`.
        other: &'static str,
        /// The port.
        port: Port,
    },
    /// Not an IPv4 network.
    #[error(
        "subnet {0:?} is not valid: use an IPv4 network such as 10.101.0.0/16, \
         with a prefix length of 8 to 28 and no bits set behind it"
    )]
    Subnet(String),
    /// Longer than the provider allows.
    #[error("name \"{0}\" is too long: k3d allows at most 32 characters")]
    NameForProvider(ClusterName),
}

/// The tool that makes the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// k3s in containers.
    K3d,
    /// Kubernetes in containers.
    Kind,
}

impl Provider {
    /// Both, in the order in which they are listed.
    pub const ALL: [Self; 2] = [Self::K3d, Self::Kind];

    /// The word in the table, in flags and in contexts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::K3d => "k3d",
            Self::Kind => "kind",
        }
    }

    /// The kubeconfig context of a cluster of this provider.
    pub fn context(self, name: &ClusterName) -> String {
        format!("{}-{name}", self.as_str())
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Provider {
    type Err = SpecError;
    fn from_str(text: &str) -> Result<Self, SpecError> {
        match text {
            "k3d" => Ok(Self::K3d),
            "kind" => Ok(Self::Kind),
            other => Err(SpecError::Provider(other.to_owned())),
        }
    }
}

/// A TCP port, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(NonZeroU16);

impl Port {
    /// Checks a column's or a flag's number.
    ///
    /// # Errors
    /// [`SpecError::Port`] with the field's name.
    pub fn new(field: &'static str, value: i64) -> Result<Self, SpecError> {
        u16::try_from(value)
            .ok()
            .and_then(NonZeroU16::new)
            .map(Self)
            .ok_or_else(|| SpecError::Port {
                field,
                given: value.to_string(),
            })
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An IPv4 network with no host bits set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet(Ipv4Net);

impl FromStr for Subnet {
    type Err = SpecError;
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let refused = || SpecError::Subnet(text.chars().take(64).collect());
        let net: Ipv4Net = text.parse().map_err(|_| refused())?;
        if net.trunc() != net || !SUBNET_PREFIX.contains(&net.prefix_len()) {
            return Err(refused());
        }
        Ok(Self(net))
    }
}

impl TryFrom<String> for Subnet {
    type Error = SpecError;
    fn try_from(text: String) -> Result<Self, SpecError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The declared shape of a cluster. A real change of it raises `generation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Which tool makes it; fixed for the life of the row.
    pub provider: Provider,
    /// A network of its own, or the provider's shared one.
    pub subnet: Option<Subnet>,
    /// The node port behind the gateway.
    pub node_port: Port,
    /// The host's port-forward port.
    pub pf_port: Port,
    /// The host's HTTP port.
    pub http_port: Port,
    /// The host's HTTPS port.
    pub https_port: Port,
    /// Whether the cluster is registered with Portainer.
    pub register_portainer: bool,
    /// Whether the gateway routes to it.
    pub haproxy_route: bool,
    /// Whether the cluster is registered with Argo CD.
    pub register_argocd: bool,
}

impl Spec {
    /// Checks what only name and spec together can tell.
    ///
    /// # Errors
    /// [`SpecError::NameForProvider`] when the provider refuses such a name.
    pub fn check_name(provider: Provider, name: &ClusterName) -> Result<(), SpecError> {
        match provider {
            Provider::K3d if name.as_str().len() > MAX_K3D_NAME => {
                Err(SpecError::NameForProvider(name.clone()))
            }
            Provider::K3d | Provider::Kind => Ok(()),
        }
    }

    /// Checks that each port of the host serves one purpose; what is not named
    /// yet is not judged. (The node port is within the cluster.)
    ///
    /// # Errors
    /// [`SpecError::SamePort`] names the first two that are equal.
    pub fn check_ports(
        pf: Option<Port>,
        http: Option<Port>,
        https: Option<Port>,
    ) -> Result<(), SpecError> {
        let (pf, http, https) = (("pf_port", pf), ("http_port", http), ("https_port", https));
        for ((one, port), (other, same)) in [(pf, http), (pf, https), (http, https)] {
            if let Some(port) = port.filter(|_| port == same) {
                return Err(SpecError::SamePort { one, other, port });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_stay_within_their_range() {
        assert_eq!(Port::new("http_port", 1).unwrap().get(), 1);
        assert_eq!(Port::new("http_port", 65535).unwrap().get(), 65535);
        for bad in [0, -1, 65536, i64::MAX] {
            let error = Port::new("http_port", bad).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("http_port {bad} is out of range: use 1 to 65535")
            );
        }
    }

    #[test]
    fn subnets_are_ipv4_networks_without_host_bits() {
        for good in ["10.101.0.0/16", "192.168.10.0/24", "10.0.0.0/8"] {
            assert_eq!(good.parse::<Subnet>().unwrap().to_string(), good);
        }
        for bad in [
            "10.0.0.1/16",
            "10.0.0.0",
            "fd00::/64",
            "10.0.0.0/29",
            "10.0.0.0/7",
            "x",
            "",
        ] {
            assert!(
                bad.parse::<Subnet>()
                    .unwrap_err()
                    .to_string()
                    .contains("8 to 28"),
                "{bad}"
            );
        }
    }

    #[test]
    fn each_port_of_the_host_serves_one_purpose() {
        let port = |n: i64| Port::new("http_port", n).ok();
        let none = None;
        for (pf, http, https, told) in [
            (port(1), port(2), port(3), None),
            (none, none, none, None),
            (port(1), none, port(2), None),
            (
                port(7),
                port(7),
                port(7),
                Some("pf_port and http_port are both 7"),
            ),
            (
                port(7),
                none,
                port(7),
                Some("pf_port and https_port are both 7"),
            ),
            (
                none,
                port(7),
                port(7),
                Some("http_port and https_port are both 7"),
            ),
        ] {
            let refused = Spec::check_ports(pf, http, https).err();
            let refused = refused.map(|error| error.to_string());
            let told = told.map(|told| format!("{told}: use a port of its own for each"));
            assert_eq!(refused, told);
        }
    }

    #[test]
    fn k3d_refuses_names_over_32_characters() {
        let name = ClusterName::parse(&"n".repeat(33)).unwrap();
        assert!(Spec::check_name(Provider::Kind, &name).is_ok());
        assert!(
            Spec::check_name(Provider::K3d, &name)
                .unwrap_err()
                .to_string()
                .contains("32")
        );
    }
}
