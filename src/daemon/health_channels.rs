//! Channels on which the parts of a daemon report their health, for health checks,
//! metrics, systemd and each other.

use tokio::sync::watch;

use crate::core::listener::Listening;
use crate::findings::Findings;
use crate::http::Readiness;

/// The senders; [`Readiness`] has the receivers.
pub(super) struct HealthChannels {
    /// Why the database is unavailable, if it is.
    pub(super) trouble: watch::Sender<Option<String>>,
    /// State of the listener.
    pub(super) listening: watch::Sender<Listening>,
    /// Why this daemon is on standby, if the schema is newer than its release.
    pub(super) schema: watch::Sender<Option<String>>,
    /// What was found at a database that has gone back.
    pub(super) went_back: watch::Sender<Option<String>>,
    /// What an operator should know of the notification queue, if anything.
    pub(super) queue: watch::Sender<Option<String>>,
}

/// The channels, with the values from before the first connection.
pub(super) fn health_channels() -> (HealthChannels, Readiness) {
    let (trouble, database) = watch::channel(Some("not reached yet".to_owned()));
    let (listener, listening) = watch::channel(Listening::No("waiting for the database".into()));
    let (newer, schema) = watch::channel(None);
    let (found, went_back) = watch::channel(None);
    let (filling, queue) = watch::channel(None);
    let channels = HealthChannels {
        trouble,
        listening: listener,
        schema: newer,
        went_back: found,
        queue: filling,
    };
    let vitals = Readiness {
        findings: Findings::default(),
        database,
        listening,
        schema,
        went_back,
        queue,
    };
    (channels, vitals)
}
