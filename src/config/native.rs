//! Settings of the native driver.

use clap::Args;

use super::limits::{LimitError, number_within};

/// The memory of a node: at least what a server of k3s needs, at most a large machine's.
const MEMORY: std::ops::RangeInclusive<i64> = 512 * MIB..=1024 * 1024 * MIB;
const MIB: i64 = 1024 * 1024;

/// How the native driver makes clusters.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Native driver")]
pub struct NativeArgs {
    /// Image of k3d nodes, such as rancher/k3s:v1.31.5-k3s1; default: that of k3d
    #[arg(long, env = "KINDLER_K3D_IMAGE", value_name = "IMAGE")]
    pub k3d_image: Option<String>,

    /// Image of kind nodes, such as kindest/node:v1.31.12; default: that of kind
    #[arg(long, env = "KINDLER_KIND_IMAGE", value_name = "IMAGE")]
    pub kind_image: Option<String>,

    /// Processor cores of each node, at most those of the engine (0.1 to 1024)
    #[arg(
        long,
        env = "KINDLER_NODE_CPUS",
        default_value = "4",
        value_name = "CORES",
        value_parser = number_within("node_cpus", 0.1_f64..=1024.0)
    )]
    pub node_cpus: f64,

    /// Memory of each node, such as 8g or 1500m (512m to 1024g)
    #[arg(
        long,
        env = "KINDLER_NODE_MEMORY",
        default_value = "8g",
        value_name = "SIZE",
        value_parser = memory
    )]
    pub node_memory: i64,

    /// Images of this host that are copied into the nodes, separated by commas; none switches it off
    #[arg(
        long,
        env = "KINDLER_IMAGES",
        default_value = "traefik:v2.10,traefik/whoami:v1.10.2",
        value_delimiter = ',',
        value_name = "IMAGES"
    )]
    pub images: Vec<String>,

    /// Whether the container engine pulls those images that it does not have
    #[arg(
        long,
        env = "KINDLER_PULL_IMAGES",
        default_value = "false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL",
        action = clap::ArgAction::Set
    )]
    pub pull_images: bool,

    /// Whether clusters get Traefik as ingress controller, at the node_port of their row
    #[arg(
        long,
        env = "KINDLER_INGRESS",
        default_value = "true",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL",
        action = clap::ArgAction::Set
    )]
    pub ingress: bool,

    /// Whether clusters are merged into the kubeconfig of the daemon's user, as contexts k3d-NAME and kind-NAME
    #[arg(
        long,
        env = "KINDLER_KUBECONFIG_MERGE",
        default_value = "true",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL",
        action = clap::ArgAction::Set
    )]
    pub kubeconfig_merge: bool,
}

/// Bytes, with the units of the `docker` command.
fn memory(text: &str) -> Result<i64, LimitError> {
    let lower = text.trim().to_lowercase();
    let unit = |suffix: char| lower.strip_suffix(suffix);
    let (number, factor) = match (unit('g'), unit('m')) {
        (Some(number), _) => (number, 1024 * MIB),
        (_, Some(number)) => (number, MIB),
        (None, None) => (lower.as_str(), 1),
    };
    let bytes = number
        .parse::<i64>()
        .ok()
        .and_then(|number| number.checked_mul(factor));
    bytes
        .filter(|bytes| MEMORY.contains(bytes))
        .ok_or_else(|| LimitError::OutOfRange {
            field: "node_memory",
            given: text.chars().take(40).collect(),
            least: "512m".to_owned(),
            most: "1024g".to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_the_units_of_docker_and_limits() {
        for (text, bytes) in [
            ("8g", 8 * 1024 * MIB),
            ("1500M", 1500 * MIB),
            ("536870912", 512 * MIB),
        ] {
            assert_eq!(memory(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "8", "0g", "8 g", "2000g", "99999999999g", "8t", "-8g"] {
            let error = memory(text).unwrap_err().to_string();
            assert!(error.contains("use 512m to 1024g"), "{text}: {error}");
        }
    }
}
