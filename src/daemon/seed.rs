//! Declares the clusters of `environments.csv` at start, once the database is
//! available. It delays no other part: if the database rejects the list, that is
//! logged, and the declared clusters are reconciled.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::cause::chain;
use crate::clusters::Selector;
use crate::config::Environments;
use crate::core::backoff::Backoff;
use crate::store::Store;

/// Between attempts while the database is unreachable.
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
            "this daemon does not select some clusters of the seed list: label them for the daemon that is to create them"
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
        if !error.is_temporary() {
            let error = &error as &dyn std::error::Error;
            return error!(
                error,
                "the seed list is rejected; none of its clusters is declared"
            );
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
