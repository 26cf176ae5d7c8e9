//! The network of a cluster: of k3d `k3d-NAME` if the row has a subnet, else `k3d-shared`; of kind
//! `kind`, as kind itself makes it.
//!
//! The engine allows several networks of one name, after which no cluster can be created. So a
//! network is looked up and created under one lock of the host.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use ipnet::Ipv4Net;
use rustix::fs::{FlockOperation, flock};
use tokio::time::sleep;

use crate::clusters::{Cluster, Provider};

use super::engine::{Engine, EngineError, EngineNetwork, NetworkShape};
use super::error::NativeError;

const SHARED: &str = "k3d-shared";
const OF_KIND: &str = "kind";

/// The time between two attempts to take the lock.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// How often it is looked for, while others create it too.
const ATTEMPTS: u32 = 20;

/// The name of the network of a cluster.
pub(super) fn name(cluster: &Cluster) -> String {
    match (cluster.spec.provider, &cluster.spec.subnet) {
        (Provider::Kind, _) => OF_KIND.to_owned(),
        (Provider::K3d, None) => SHARED.to_owned(),
        (Provider::K3d, Some(_)) => format!("k3d-{}", cluster.name),
    }
}

/// The subnet of the cluster's own network, and its gateway: the first address.
fn own_subnet(cluster: &Cluster) -> Option<(Ipv4Net, Ipv4Addr)> {
    let subnet = cluster
        .spec
        .subnet
        .filter(|_| cluster.spec.provider == Provider::K3d)?;
    let net: Ipv4Net = subnet.to_string().parse().ok()?;
    Some((net, net.hosts().next()?))
}

/// Why the network is not as declared; none if it is.
pub(super) async fn difference(
    engine: &Engine,
    cluster: &Cluster,
) -> Result<Option<String>, NativeError> {
    let name = name(cluster);
    let found = engine.networks(&name).await?;
    let one = only(&name, &found)?;
    let Some(network) = one else {
        return Ok(Some(format!("there is no network {name}")));
    };
    let Some((subnet, _)) = own_subnet(cluster) else {
        return Ok(None);
    };
    let is_same = network.subnets.contains(&subnet.to_string());
    Ok((!is_same).then(|| {
        let has = network.subnets.join(", ");
        format!("network {name} has the subnet {has}, not {subnet}")
    }))
}

/// Creates the network unless it exists. Another process may create it at the same moment: then
/// each removes its own and looks again.
pub(super) async fn ensure(
    engine: &Engine,
    cluster: &Cluster,
    lock: &Path,
) -> Result<(), NativeError> {
    let _lock = take(lock).await?;
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        match create_if_missing(engine, cluster).await {
            Err(NativeError::SeveralNetworks { .. }) if attempts > 0 => {
                sleep(LOCK_RETRY.mul_f64(1.0 + 4.0 * fastrand::f64())).await;
            }
            ended => return ended,
        }
    }
}

async fn create_if_missing(engine: &Engine, cluster: &Cluster) -> Result<(), NativeError> {
    if difference(engine, cluster).await?.is_none() {
        return Ok(());
    }
    let name = name(cluster);
    if !engine.networks(&name).await?.is_empty() {
        // Another process may have created it since.
        let still = self::difference(engine, cluster).await?;
        return still.map_or(Ok(()), |why| Err(NativeError::NeedsRecreation(why)));
    }
    let subnet = own_subnet(cluster);
    if let Some((subnet, _)) = subnet
        && let Some(neighbour) = overlapping(engine, subnet).await?
    {
        return Err(NativeError::SubnetTaken { subnet, neighbour });
    }
    let created = match cluster.spec.provider {
        Provider::Kind => create_as_kind(engine).await?,
        Provider::K3d => {
            let subnet = subnet.map(|(subnet, gateway)| (subnet.to_string(), gateway));
            engine
                .create_network(&name, NetworkShape::of_subnet(subnet))
                .await?
        }
    };
    let several = only(&name, &engine.networks(&name).await?).map(drop);
    if several.is_err() {
        engine.remove_network(&created).await?;
    }
    several
}

/// As kind's `ensureNetwork`: with the subnet that it derives from the name, and without IPv6 if
/// this host has none.
async fn create_as_kind(engine: &Engine) -> Result<String, NativeError> {
    let mtu = engine.default_mtu().await?;
    let shape = NetworkShape::of_kind(true, mtu.clone());
    match engine.create_network(OF_KIND, shape).await {
        Ok(created) => Ok(created),
        Err(EngineError::Refused { .. }) => {
            let shape = NetworkShape::of_kind(false, mtu);
            Ok(engine.create_network(OF_KIND, shape).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes the cluster's own network, unless something else is connected to it.
pub(super) async fn remove(engine: &Engine, cluster: &Cluster) -> Result<(), NativeError> {
    if own_subnet(cluster).is_none() {
        return Ok(());
    }
    for network in engine.networks(&name(cluster)).await? {
        if !network.in_use {
            engine.remove_network(&network.id).await?;
        }
    }
    Ok(())
}

/// The network whose subnet overlaps, if there is one.
async fn overlapping(engine: &Engine, subnet: Ipv4Net) -> Result<Option<String>, NativeError> {
    let overlaps = |other: &String| {
        let other = other.parse::<Ipv4Net>();
        other.is_ok_and(|other| other.contains(&subnet) || subnet.contains(&other))
    };
    let all = engine.all_networks().await?;
    let found = all
        .into_iter()
        .find(|network| network.subnets.iter().any(overlaps));
    Ok(found.map(|network| format!("{} ({})", network.name, network.subnets.join(", "))))
}

/// The only network of this name.
fn only<'a>(
    name: &str,
    found: &'a [EngineNetwork],
) -> Result<Option<&'a EngineNetwork>, NativeError> {
    match found {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => {
            let unused = several.iter().find(|network| !network.in_use);
            let id = &unused.unwrap_or(&several[0]).id;
            let id = id.chars().take(12).collect();
            Err(NativeError::SeveralNetworks {
                name: name.to_owned(),
                id,
            })
        }
    }
}

/// The lock of the host's networks; the kernel releases it when the file is closed.
async fn take(path: &Path) -> Result<File, NativeError> {
    let failed = |source| NativeError::File {
        operation: "open the lock",
        path: path.to_owned(),
        source,
    };
    let file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(failed)?;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        sleep(LOCK_RETRY).await;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusters::samples;

    #[test]
    fn only_a_k3d_row_with_a_subnet_has_its_own_network() {
        let mut dev = samples::dev();
        dev.spec.subnet = None;
        assert_eq!(
            (name(&dev).as_str(), own_subnet(&dev)),
            ("k3d-shared", None)
        );
        for (subnet, gateway) in [
            ("10.101.0.0/16", "10.101.0.1"),
            ("10.9.8.16/28", "10.9.8.17"),
        ] {
            dev.spec.subnet = Some(subnet.parse().unwrap());
            assert_eq!(name(&dev), "k3d-dev");
            let (net, first) = own_subnet(&dev).unwrap();
            assert_eq!(
                (net.to_string().as_str(), first.to_string().as_str()),
                (subnet, gateway)
            );
        }
        dev.spec.provider = Provider::Kind;
        assert_eq!((name(&dev).as_str(), own_subnet(&dev)), ("kind", None));
    }
}
