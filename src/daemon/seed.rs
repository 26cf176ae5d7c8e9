//! Declares the clusters of the old system's list at start, when the database is
//! there. It must not keep anything else from starting: a list that the database
//! refuses is reported, and the clusters that are known go on.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::cause::chain;
use crate::clusters::Selector;
use crate::config::Environments;
use crate::core::backoff::Backoff;
use crate::store::Store;

/// Between attempts while the database is away.
const RETRY: Backoff = Backoff {
    initial: Duration::from_secs(1),
    max: Duration::from_secs(30),
};

pub(super) async fn declare(
    store: Store,
    list: Environments,
    selector: Selector,
    shutdown: CancellationToken,
) {
    let unselected = list.clusters.iter();
    let unselected = unselected.filter(|new| !selector.matches(&new.labels));
    let unselected = unselected.count();
    if unselected > 0 {
        warn!(
            unselected,
            %selector,
            "clusters of the seed list are not for this daemon: label them for the one that is to make them"
        );
    }
    let store = store.declaring_as("seed");
    let mut failures = 0;
    loop {
        let error = match store.seed(&list.clusters).await {
            Ok(names) => {
                let new = names.len();
                return info!(
                    new,
                    named = list.clusters.len(),
                    "the seed list is declared"
                );
            }
            Err(error) => error,
        };
        if !error.is_unreachable() {
            let error = &error as &dyn std::error::Error;
            return error!(error, "the seed list is refused, nothing of it is declared");
        }
        warn!(
            reason = chain(&error),
            "the seed list waits for the database"
        );
        failures += 1;
        tokio::select! {
            () = tokio::time::sleep(RETRY.delay(failures, fastrand::f64())) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
