//! What is declared of a cluster: provider, subnet, ports and registrations.
//!
//! A value is checked when it is created. The database checks the same limits with the same
//! messages (`sql/migrations`), because people also declare with `psql`; a test compares the
//! two.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::name::ClusterName;

mod field;

pub use field::{FieldKind, HostPort, SpecField, SpecValue};
use field::{FieldType, spec};

/// The longest name that k3d accepts.
pub const MAX_K3D_NAME: usize = 32;

/// The longest name that kind can make: the host name of its node has 14 characters more, and the
/// kernel allows 64.
pub const MAX_KIND_NAME: usize = 50;

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
        /// The rejected value.
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
    #[error("name \"{0}\" is too long: {1} allows at most {max} characters", max = max_name(*.1))]
    NameForProvider(ClusterName, Provider),
}

/// The tool that makes the cluster.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = SpecError, parse_err_fn = Self::unknown)]
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
        self.into()
    }

    /// The kubeconfig context of a cluster of this provider.
    pub fn context(self, name: &ClusterName) -> String {
        format!("{}-{name}", self.as_str())
    }

    fn unknown(given: &str) -> SpecError {
        SpecError::Provider(given.to_owned())
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

    /// Checks a text.
    ///
    /// # Errors
    /// [`SpecError::Port`] with the field's name.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, SpecError> {
        match text.parse() {
            Ok(number) => Self::new(field, number),
            Err(_) => Err(SpecError::Port {
                field,
                given: text.chars().take(40).collect(),
            }),
        }
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
        let rejected = || SpecError::Subnet(text.chars().take(64).collect());
        let net: Ipv4Net = text.parse().map_err(|_| rejected())?;
        if net.trunc() != net || !SUBNET_PREFIX.contains(&net.prefix_len()) {
            return Err(rejected());
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

spec! {
    /// `k3d` or `kind`.
    provider: Provider =
        SpecField::provider("Its provider; k3d by default for a new one")
            .short_flag('p')
            .fixed()
            .csv_column(1);
    /// The subnet of its network, if it has its own.
    subnet: Option<Subnet> as text =
        SpecField::subnet("Subnet of its own network, such as 10.101.0.0/16")
            .api_name("cluster_subnet")
            .csv_column(8);
    /// The node port that the gateway uses.
    node_port: Port =
        SpecField::port("Node port that the gateway uses", 30080)
            .label("node")
            .csv_column(2);
    /// The port-forward port on the host.
    pf_port: Port =
        SpecField::host_port("Port-forward port on the host", 19000, "pf", 19001..=19999)
            .label("port-forward")
            .csv_column(3);
    /// The HTTP port on the host.
    http_port: Port =
        SpecField::host_port("HTTP port on the host", 18080, "web", 18090..=18442)
            .label("http")
            .main()
            .csv_column(6);
    /// The HTTPS port on the host.
    https_port: Port =
        SpecField::host_port("HTTPS port on the host", 18443, "web", 18443..=18999)
            .label("https")
            .main()
            .csv_column(7);
    /// Whether it is registered with Portainer.
    register_portainer: bool =
        SpecField::flag("Do not register it with Portainer", true)
            .service("portainer")
            .csv_column(4);
    /// Whether the gateway routes to it.
    haproxy_route: bool =
        SpecField::flag("Do not route to it in HAProxy", true)
            .service("haproxy")
            .csv_column(5);
    /// Whether it is registered with Argo CD.
    register_argocd: bool =
        SpecField::flag("Do not register it with Argo CD", true)
            .service("argocd");
}

impl Spec {
    /// The field of this name.
    pub fn field(name: &str) -> Option<&'static SpecField> {
        Self::FIELDS.iter().find(|field| field.name == name)
    }

    /// Checks what only name and spec together can tell.
    ///
    /// # Errors
    /// [`SpecError::NameForProvider`] when the provider rejects such a name.
    pub fn check_name(provider: Provider, name: &ClusterName) -> Result<(), SpecError> {
        if name.as_str().len() > max_name(provider) {
            return Err(SpecError::NameForProvider(name.clone(), provider));
        }
        Ok(())
    }
}

fn max_name(provider: Provider) -> usize {
    match provider {
        Provider::K3d => MAX_K3D_NAME,
        Provider::Kind => MAX_KIND_NAME,
    }
}

impl PartialSpec {
    /// The spec with the default of every field that is not given.
    pub fn or_default(&self) -> Spec {
        let mut whole = Self::default();
        for field in Spec::FIELDS {
            whole.set(field, field.default());
        }
        for (field, value) in self.values() {
            whole.set(field, value);
        }
        let value = |field: &SpecField| whole.values().find(|(known, _)| known.name == field.name);
        Spec::read(|field| value(field).map(|(_, value)| value).ok_or(()))
            .expect("every field has a default")
    }

    /// The given fields in the order of commands and statements for people.
    pub fn listed(&self) -> Vec<(&'static SpecField, SpecValue)> {
        let mut listed: Vec<_> = self.values().collect();
        listed.sort_by_key(|(field, _)| field.statement_order());
        listed
    }

    /// The given ports of the host.
    pub fn host_ports(&self) -> impl Iterator<Item = (&'static SpecField, Port)> {
        self.values().filter_map(|(field, value)| match value {
            SpecValue::Port(port) => field.host_port_of().map(|_| (field, port)),
            _ => None,
        })
    }

    /// Checks that the given ports of the host differ. (The node port is within the
    /// cluster.)
    ///
    /// # Errors
    /// [`SpecError::SamePort`] names the first two that are equal.
    pub fn check_ports(&self) -> Result<(), SpecError> {
        let ports: Vec<_> = self.host_ports().collect();
        for (index, (one, port)) in ports.iter().enumerate() {
            if let Some((other, _)) = ports[index + 1..].iter().find(|(_, same)| same == port) {
                return Err(SpecError::SamePort {
                    one: one.name,
                    other: other.name,
                    port: *port,
                });
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
        for (pf, http, https, expected) in [
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
            let spec = PartialSpec {
                pf_port: pf,
                http_port: http,
                https_port: https,
                ..PartialSpec::default()
            };
            let rejected = spec.check_ports().err();
            let rejected = rejected.map(|error| error.to_string());
            let expected =
                expected.map(|expected| format!("{expected}: use a port of its own for each"));
            assert_eq!(rejected, expected);
        }
    }

    #[test]
    fn each_provider_rejects_names_that_it_cannot_make() {
        let name = ClusterName::parse(&"n".repeat(51)).unwrap();
        let rejected = Spec::check_name(Provider::Kind, &name).unwrap_err();
        assert!(
            rejected
                .to_string()
                .ends_with("kind allows at most 50 characters")
        );
        let name = ClusterName::parse(&"n".repeat(33)).unwrap();
        assert!(Spec::check_name(Provider::Kind, &name).is_ok());
        assert!(
            Spec::check_name(Provider::K3d, &name)
                .unwrap_err()
                .to_string()
                .contains("32")
        );
    }

    #[test]
    fn the_declaration_of_fields_is_consistent() {
        assert!(Spec::kinds_are_those_of_types());
        for field in Spec::FIELDS {
            assert!(!field.about.is_empty() && !field.help.is_empty());
        }
        let mut ranges: Vec<_> = Spec::FIELDS
            .iter()
            .filter_map(|field| Some((field, &field.host_port_of()?.free)))
            .collect();
        ranges.sort_by_key(|(_, free)| *free.start());
        for pair in ranges.windows(2) {
            let ((one, first), (other, second)) = (pair[0], pair[1]);
            assert!(
                first.end() < second.start(),
                "{} and {} look for free ports in one range",
                one.name,
                other.name
            );
        }
    }

    #[test]
    fn a_field_that_is_not_given_gets_its_default() {
        let given = PartialSpec {
            provider: Some(Provider::Kind),
            register_argocd: Some(false),
            ..PartialSpec::default()
        };
        let spec = given.or_default();
        assert_eq!(spec.provider, Provider::Kind);
        assert!(spec.register_portainer && !spec.register_argocd);
        let ports = [
            spec.node_port,
            spec.pf_port,
            spec.http_port,
            spec.https_port,
        ];
        assert_eq!(ports.map(Port::get), [30080, 19000, 18080, 18443]);
        assert_eq!(
            serde_json::json!(given),
            serde_json::json!({ "provider": "kind", "register_argocd": false })
        );
    }
}
