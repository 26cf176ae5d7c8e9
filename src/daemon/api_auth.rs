//! How the settings restrict access over HTTP: allowed host names and origins, and
//! whether a token is required. An address that other hosts can reach always requires
//! one.

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::DaemonError;
use crate::config::{AuthMode, DaemonSettings};
use crate::core::database::DatabaseError;
use crate::http::{Access, OriginPolicy};
use crate::store::Store;

/// The access rules of this process.
pub(super) struct ApiAuth {
    address: SocketAddr,
    required: bool,
    store: Store,
}

impl ApiAuth {
    /// The rules for this address; tokens are looked up in `store`.
    pub(super) fn new(settings: &DaemonSettings, address: SocketAddr, store: &Store) -> Self {
        let everywhere = settings.web.auth == AuthMode::Required;
        Self {
            address,
            required: everywhere || !address.ip().is_loopback(),
            store: store.clone(),
        }
    }

    /// The authentication of the API.
    pub(super) fn access(&self, shutdown: &CancellationToken) -> Access {
        Access::new(self.store.clone(), self.required, shutdown.clone())
    }

    /// The allowed host names and origins.
    pub(super) fn origin_policy(&self, settings: &DaemonSettings) -> OriginPolicy {
        OriginPolicy {
            address: self.address,
            allowed_hosts: settings.web.allowed_hosts.clone().into(),
            allowed_origins: settings.web.allowed_origins.clone().into(),
        }
    }

    /// Checks that a valid token exists where one is required. Otherwise every request
    /// would be rejected: an error, or a warning on a loopback address.
    pub(super) async fn check_tokens(&self) -> Result<Result<(), DaemonError>, DatabaseError> {
        if !self.required || self.store.has_live_token().await? {
            return Ok(Ok(()));
        }
        if self.address.ip().is_loopback() {
            warn!(
                "the API requires a token and none exists: run kindler token create NAME --scope admin"
            );
            return Ok(Ok(()));
        }
        Ok(Err(DaemonError::NoToken {
            address: self.address,
        }))
    }
}
