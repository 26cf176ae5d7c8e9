//! Waits at start until the database is available with a usable schema.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::api_auth::ApiAuth;
use super::error::DaemonError;
use super::health_channels::HealthChannels;
use super::terms::{SeenTerms, report};
use crate::cause::chain;
use crate::core::backoff::Backoff;
use crate::core::database::DatabaseError;
use crate::store::{Channels, Store, newer_schema};

/// Between attempts to reach the database at start.
const CONNECT: Backoff = Backoff {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(10),
};

/// Waits until the database has the schema of this release or a newer one, and logs
/// why it waits. Checks `terms` of a daemon that reconciles. Returns the channels to listen
/// on, or `None` on shutdown. Fails if the API requires a token and none exists.
pub(super) async fn wait_for_database(
    store: &Store,
    auth: &ApiAuth,
    health: &HealthChannels,
    mut terms: Option<&mut SeenTerms>,
    shutdown: &CancellationToken,
) -> Result<Option<Channels>, DaemonError> {
    let mut failures = 0;
    loop {
        let error = tokio::select! {
            opened = open(store, auth, health, terms.as_deref_mut()) => match opened {
                Ok(channels) => return channels.map(Some),
                Err(error) => error,
            },
            () = shutdown.cancelled() => return Ok(None),
        };
        failures += 1;
        let delay = CONNECT.delay(failures, fastrand::f64());
        let reason = chain(&error);
        warn!(reason, retry_in = ?delay, "waiting for the database");
        health.trouble.send_replace(Some(reason));
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = shutdown.cancelled() => return Ok(None),
        }
    }
}

/// One attempt. The outer error is one after which waiting can help.
async fn open(
    store: &Store,
    auth: &ApiAuth,
    health: &HealthChannels,
    terms: Option<&mut SeenTerms>,
) -> Result<Result<Channels, DaemonError>, DatabaseError> {
    let version = store.check().await?;
    let channels = store.channels().await?;
    if let Err(no_token) = auth.check_tokens().await? {
        return Ok(Err(no_token));
    }
    // Before anything is claimed.
    if let Some(terms) = terms
        && let Some(went_back) = terms.check(store).await?
    {
        health.went_back.send_replace(Some(report(&went_back)));
    }
    health.trouble.send_replace(None);
    if let Some(newer) = newer_schema(version) {
        warn!(reason = %newer, "on standby: no work is started");
        health.schema.send_replace(Some(newer.to_string()));
    }
    Ok(Ok(channels))
}
