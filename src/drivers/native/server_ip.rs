//! The step `server_ip`: the address of the server's container on the cluster's network. Every
//! observation notes it, and the reconciler writes it to the row.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;

use crate::core::steps::StepObservation;

use super::error::NativeError;
use super::network;
use super::node::{Node, NodeRole};
use super::work::{LOOK_AGAIN, NativeWork, in_place, is_in_place};

/// How long the engine may take to give an address.
const WITHIN: Duration = Duration::from_secs(60);

/// The addresses at the last observations, by the UID of the row; empty if there was none.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerAddresses(Arc<Mutex<HashMap<Uuid, String>>>);

impl ServerAddresses {
    pub fn note(&self, uid: Uuid, address: Option<Ipv4Addr>) {
        let text = address.map(|address| address.to_string());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(uid, text.unwrap_or_default());
    }

    pub fn forget(&self, uid: Uuid) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&uid);
    }

    pub fn of(&self, uid: Uuid) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&uid).cloned()
    }
}

/// The first address of the server on this network, else on any: a cluster that was taken over may
/// have another network.
pub(super) fn address(nodes: &[Node], network: &str) -> Option<Ipv4Addr> {
    let server = nodes.iter().find(|node| node.role == NodeRole::Server)?;
    let usable = |of: &&(String, Ipv4Addr)| !of.1.is_unspecified();
    let addresses = || server.addresses.iter().filter(usable);
    let on_network = addresses().find(|(name, _)| name == network);
    let any = || addresses().min_by(|a, b| a.0.cmp(&b.0));
    on_network.or_else(any).map(|(_, address)| *address)
}

impl NativeWork<'_> {
    pub async fn observe_server_ip(&self) -> Result<StepObservation, NativeError> {
        let network = network::name(self.cluster());
        let (_, nodes) = self.driver.shape(self.cluster()).await?;
        let found = address(&nodes, &network);
        self.driver.addresses.note(self.cluster().uid, found);
        let why = || format!("its server has no address on the network {network}");
        Ok(in_place(found.is_none().then(why)))
    }

    pub async fn wait_for_server_ip(&self) -> Result<(), NativeError> {
        let within = self.at_most(WITHIN);
        let until = within.end();
        while !is_in_place(self.observe_server_ip().await?, until, &within)? {
            self.driver.engine.changed().await;
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }
}
