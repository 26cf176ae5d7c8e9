//! What the parts of one process share, and how they are created from the settings.
//! This module must not start any part.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, warn};

use super::ended_owners::EndedOwners;
use super::{driver, identity};
use crate::clusters::reconcile::{ClusterReconciler, SafetyLimits, UnwrittenResults};
use crate::command::{LogDir, OwnerLock, OwnerLocks, state_files};
use crate::config::DaemonSettings;
use crate::core::controller::{Controller, ControllerSettings};
use crate::core::database::Database;
use crate::core::resource::ResourceReconciler;
use crate::core::wakeups::WakeupQueue;
use crate::drivers::Driver;
use crate::http::{self, Readiness};
use crate::live::Feed;
use crate::metrics::Metrics;
use crate::store::{Replica, Store};

/// Connections in addition to one per worker: heartbeat, passes, scrapes.
const SPARE_CONNECTIONS: usize = 4;

/// Connections for the page and the API.
const PAGE_CONNECTIONS: usize = 8;

/// Time for releasing leases at shutdown, and for open requests.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(30);

/// One database, under the role of the daemon and under that of the page and the API.
pub(super) struct Databases {
    pub(super) daemon: Database,
    pub(super) page: Database,
}

/// What the parts of one process share.
pub(super) struct Process {
    pub(super) settings: DaemonSettings,
    pub(super) store: Store,
    pub(super) driver: Arc<dyn Driver>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) me: Replica,
    pub(super) limits: Arc<SafetyLimits>,
    owner_locks: Option<(OwnerLocks, OwnerLock)>,
}

impl Process {
    pub(super) fn new(
        settings: DaemonSettings,
        database: &Database,
        listen: Option<String>,
    ) -> Self {
        let me = identity::this_process(listen);
        let store = Store::new(
            database,
            settings.serving.concurrency + settings.serving.reserved_workers + SPARE_CONNECTIONS,
            &format!("kindler@{}", me.host),
        )
        .selecting(&settings.serving.selector);
        let owner_locks = owner_locks(&settings, database, &me.owner);
        let owner_lock = owner_locks.as_ref().map(|(_, own)| own.path().to_owned());
        let driver = driver::driver(&settings, owner_lock);
        let limits = Arc::new(SafetyLimits::new(&settings.policy().health));
        Self {
            limits,
            settings,
            store,
            driver,
            metrics: Arc::new(Metrics::new()),
            me,
            owner_locks,
        }
    }

    /// The owners on this host that have ended, if locks show that.
    pub(super) fn ended_owners(&self) -> Option<EndedOwners> {
        let (locks, _) = self.owner_locks.as_ref()?;
        Some(EndedOwners::new(self.store.clone(), locks.clone()))
    }

    pub(super) fn controller(
        &self,
        wakeups: WakeupQueue,
        standby: watch::Receiver<Option<String>>,
    ) -> Controller<ResourceReconciler<ClusterReconciler>> {
        let reconciler = ClusterReconciler {
            store: self.store.clone(),
            driver: self.driver.clone(),
            policy: self.settings.policy(),
            metrics: self.metrics.clone(),
            limits: self.limits.clone(),
            unwritten: UnwrittenResults::default(),
            standby,
        }
        .owned_by(&self.me.owner, self.settings.lease_policy());
        let settings = ControllerSettings {
            concurrency: self.settings.serving.concurrency,
            reserved: self.settings.serving.reserved_workers,
            resync: self.settings.serving.resync_interval,
            refused: self.settings.policy().backoff,
            finish_within: self.settings.serving.shutdown_grace,
            stop_within: self.stop_within(),
            ..ControllerSettings::default()
        };
        let metrics = reconciler.metrics.clone();
        Controller::new(Arc::new(reconciler), settings, wakeups, metrics)
    }

    /// The grace of the commands, and time to write their results.
    fn stop_within(&self) -> Duration {
        self.settings.deadlines().grace + Duration::from_secs(5)
    }

    /// Upper bound of an orderly shutdown, with its statements.
    pub(super) fn stop_bound(&self) -> Duration {
        self.settings.serving.shutdown_grace + self.stop_within() + RELEASE_TIMEOUT
    }

    /// A store under the role of the page and the API.
    pub(super) fn page_store(&self, databases: &Databases) -> Store {
        let page = &databases.page;
        let store = Store::new(page, PAGE_CONNECTIONS, &format!("api@{}", self.me.host));
        if page.same_server_and_database(&databases.daemon) {
            store.with_session_mode_of(&self.store)
        } else {
            store
        }
    }

    /// The context of the page and the API.
    pub(super) fn api(&self, store: Store, access: http::Access, vitals: &Readiness) -> http::Api {
        let settings = &self.settings;
        http::Api {
            store,
            access,
            feed: Feed::default(),
            logs: LogDir::new(settings.connection.log_dir()),
            readiness: vitals.clone(),
            driver: self.reconciles().then(|| self.driver.clone()),
            base_domain: settings.web.base_domain.as_str().into(),
            api_only: settings.web.api_only,
        }
    }

    /// Whether this daemon reconciles; otherwise it only serves the page and the API.
    pub(super) fn reconciles(&self) -> bool {
        !self.settings.web.api_only
    }

    /// Logs what the driver is missing, before the first cluster is declared. That is
    /// not fatal, because it can be repaired while the daemon runs.
    pub(super) async fn preflight(&self) {
        if let Err(problems) = self.driver.preflight().await {
            for problem in problems {
                error!(
                    driver = self.driver.name(),
                    problem, "the preflight check of the driver failed"
                );
            }
        }
    }

    /// Releases all leases and removes the heartbeat, so that other replicas need not
    /// wait.
    pub(super) async fn release(&self) {
        let released = async {
            self.store.claims().release_all(&self.me.owner).await?;
            self.store.remove_replica(&self.me.owner).await
        };
        if let Err(error) = released.await {
            let error = &error as &dyn std::error::Error;
            warn!(error, "leases could not be released; they expire");
        } else if let Some((_, own)) = &self.owner_locks {
            let path = own.path().to_owned();
            // As `OwnerLock::forget`, with a deadline.
            let removed = state_files().run(move || std::fs::remove_file(path)).await;
            let _ = removed.unwrap_or_else(Err);
        }
    }
}

/// Locks the file of this owner, so that others on this host see its end. Without the lock its
/// leases expire, as on other hosts.
fn owner_locks(
    settings: &DaemonSettings,
    database: &Database,
    owner: &str,
) -> Option<(OwnerLocks, OwnerLock)> {
    if settings.web.api_only {
        return None;
    }
    let state_dir = settings.connection.state_dir.clone();
    let (database, owner) = (database.to_string(), owner.to_owned());
    let taken = state_files().run_blocking(move || {
        let locks = OwnerLocks::new(&state_dir, database)?;
        locks.take(&owner).map(|own| (locks, own))
    });
    taken
        .unwrap_or_else(Err)
        .inspect_err(|error| {
            let error = error as &dyn std::error::Error;
            warn!(
                error,
                "the lock of this owner cannot be taken: after a crash its leases expire"
            );
        })
        .ok()
}
