//! The ports of the host that a create needs: free of any listener, and of any other create of this
//! daemon that has not published them yet.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clusters::Cluster;
use crate::drivers::port;

use super::error::NativeError;

/// The ports that creates of this daemon are about to publish, with the name of the cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct PortReservations {
    reserved: Arc<Mutex<HashMap<u16, String>>>,
}

/// The ports of one create; they are released when it is dropped.
#[derive(Debug)]
pub(super) struct ReservedPorts {
    all: PortReservations,
    ports: Vec<u16>,
}

impl PortReservations {
    /// Reserves the ports of a cluster that is about to be created.
    pub async fn reserve(&self, cluster: &Cluster) -> Result<ReservedPorts, NativeError> {
        let spec = &cluster.spec;
        let wanted = [
            ("http_port", spec.http_port.get()),
            ("https_port", spec.https_port.get()),
        ];
        let mut held = ReservedPorts {
            all: self.clone(),
            ports: Vec::new(),
        };
        for (field, port) in wanted {
            if let Some(other) = self.taken(port, cluster.name.as_str(), &mut held) {
                let by = format!("the create of cluster {other}");
                return Err(NativeError::PortTaken { field, port, by });
            }
            if !port::is_free(Ipv4Addr::UNSPECIFIED, port) {
                // It reads many small files.
                let named = tokio::task::spawn_blocking(move || port::listener_name(port)).await;
                let by = named.unwrap_or_else(|_| "another process".to_owned());
                return Err(NativeError::PortTaken { field, port, by });
            }
        }
        Ok(held)
    }

    /// Reserves one port; the name of the cluster whose create has it, if one has.
    fn taken(&self, port: u16, name: &str, held: &mut ReservedPorts) -> Option<String> {
        let mut reserved = self.lock();
        if let Some(other) = reserved.get(&port) {
            return Some(other.clone());
        }
        reserved.insert(port, name.to_owned());
        held.ports.push(port);
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, String>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ReservedPorts {
    fn drop(&mut self) {
        let mut reserved = self.all.lock();
        for port in &self.ports {
            reserved.remove(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::clusters::samples::dev;
    use crate::clusters::{ClusterName, Port};

    fn free() -> (TcpListener, Port) {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, Port::new("http_port", i64::from(port)).unwrap())
    }

    fn named(name: &str, http: Port, https: Port) -> Cluster {
        let mut cluster = dev();
        cluster.name = ClusterName::parse(name).unwrap();
        (cluster.spec.http_port, cluster.spec.https_port) = (http, https);
        cluster
    }

    #[tokio::test]
    async fn two_creates_never_get_one_port() {
        let (first, second, third) = (free(), free(), free());
        let ports = (first.1, second.1, third.1);
        drop((first, second, third));
        let all = PortReservations::default();
        let held = all.reserve(&named("a", ports.0, ports.1)).await.unwrap();
        let other = named("b", ports.2, ports.1);
        let refused = all.reserve(&other).await.unwrap_err().to_string();
        assert!(
            refused.contains("https_port") && refused.contains("the create of cluster a"),
            "{refused}"
        );
        drop(held);
        all.reserve(&other).await.unwrap();
    }

    #[tokio::test]
    async fn a_listener_that_is_no_cluster_is_named() {
        let (listener, port) = free();
        let all = PortReservations::default();
        let refused = all.reserve(&named("a", port, free().1)).await;
        let refused = refused.unwrap_err().to_string();
        let me = format!("is in use by process {}", std::process::id());
        assert!(refused.contains(&me), "{refused}");
        drop(listener);
    }
}
