//! The wait for a database that this release may work on.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::admission::Admission;
use super::error::DaemonError;
use super::senses::Senses;
use crate::cause::chain;
use crate::core::backoff::Backoff;
use crate::core::database::DatabaseError;
use crate::store::{Store, newer_schema};

/// Between attempts to reach the database at start.
const CONNECT: Backoff = Backoff {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(10),
};

/// Where the database rings.
pub(super) struct Channels {
    pub(super) wake: String,
    pub(super) page: String,
}

/// Waits until the database serves the schema of this release or a later one,
/// saying why it waits; the channels to listen on, or `None` on shutdown. Fails
/// where nobody could ever get in.
pub(super) async fn wait_for_database(
    store: &Store,
    admission: &Admission,
    senses: &Senses,
    shutdown: &CancellationToken,
) -> Result<Option<Channels>, DaemonError> {
    let mut failures = 0;
    loop {
        let error = tokio::select! {
            opened = open(store, admission, senses) => match opened {
                Ok(channels) => return channels.map(Some),
                Err(error) => error,
            },
            () = shutdown.cancelled() => return Ok(None),
        };
        failures += 1;
        let delay = CONNECT.delay(failures, fastrand::f64());
        let reason = chain(&error);
        warn!(reason, retry_in = ?delay, "waiting for the database");
        senses.trouble.send_replace(Some(reason));
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = shutdown.cancelled() => return Ok(None),
        }
    }
}

/// One attempt. What waiting mends is the outer error.
async fn open(
    store: &Store,
    admission: &Admission,
    senses: &Senses,
) -> Result<Result<Channels, DaemonError>, DatabaseError> {
    let version = store.check().await?;
    let channels = Channels {
        wake: store.wake_channel().await?,
        page: store.page_channel().await?,
    };
    if let Err(nobody) = admission.someone_gets_in().await? {
        return Ok(Err(nobody));
    }
    senses.trouble.send_replace(None);
    if let Some(newer) = newer_schema(version) {
        warn!(reason = %newer, "nothing new is begun");
        senses.schema.send_replace(Some(newer.to_string()));
    }
    Ok(Ok(channels))
}
