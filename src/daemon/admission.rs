//! Who gets in over HTTP: by which names, and whether they have to show a token.
//! What reaches an address that others reach must not be open to everybody.

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::DaemonError;
use crate::config::{AuthMode, DaemonSettings};
use crate::core::database::DatabaseError;
use crate::http::{Access, OriginPolicy};
use crate::store::Store;

/// Whom this process lets in.
pub(super) struct Admission {
    address: SocketAddr,
    required: bool,
    store: Store,
}

impl Admission {
    /// By the settings, on this address; tokens are looked up in `store`.
    pub(super) fn new(settings: &DaemonSettings, address: SocketAddr, store: &Store) -> Self {
        let everywhere = settings.web.auth == AuthMode::Required;
        Self {
            address,
            required: everywhere || !address.ip().is_loopback(),
            store: store.clone(),
        }
    }

    /// What the API asks.
    pub(super) fn access(&self, shutdown: &CancellationToken) -> Access {
        Access::new(self.store.clone(), self.required, shutdown.clone())
    }

    /// By which names it is called, and from which pages.
    pub(super) fn doors(&self, settings: &DaemonSettings) -> OriginPolicy {
        OriginPolicy {
            address: self.address,
            allowed_hosts: settings.web.allowed_hosts.clone().into(),
            allowed_origins: settings.web.allowed_origins.clone().into(),
        }
    }

    /// Whether somebody could get in at all. Until this is known nobody does:
    /// without a live token there is none to show.
    pub(super) async fn someone_gets_in(&self) -> Result<Result<(), DaemonError>, DatabaseError> {
        if !self.required || self.store.has_live_token().await? {
            return Ok(Ok(()));
        }
        if self.address.ip().is_loopback() {
            warn!("nobody gets into the API yet: kindler token create NAME --scope admin");
            return Ok(Ok(()));
        }
        Ok(Err(DaemonError::NoToken {
            address: self.address,
        }))
    }
}
