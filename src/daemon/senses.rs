//! What the parts of a daemon tell of themselves, for health checks, metrics,
//! systemd and each other.

use tokio::sync::watch;

use crate::core::listener::Listening;
use crate::http::Readiness;

/// The ends that tell; [`Readiness`] are those that hear.
pub(super) struct Senses {
    /// Why the database does not serve, if it does not.
    pub(super) trouble: watch::Sender<Option<String>>,
    /// How the listener is.
    pub(super) listening: watch::Sender<Listening>,
    /// Why nothing new may be begun, if the schema is newer than this release.
    pub(super) schema: watch::Sender<Option<String>>,
}

/// As it is before the database was reached.
pub(super) fn senses() -> (Senses, Readiness) {
    let (trouble, database) = watch::channel(Some("not reached yet".to_owned()));
    let (told, listening) = watch::channel(Listening::No("waiting for the database".into()));
    let (newer, schema) = watch::channel(None);
    let senses = Senses {
        trouble,
        listening: told,
        schema: newer,
    };
    let vitals = Readiness {
        database,
        listening,
        schema,
    };
    (senses, vitals)
}
