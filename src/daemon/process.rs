//! What the parts of one process share, and how each is made of the settings.
//! It must not start any of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, warn};

use super::{driver, identity};
use crate::clusters::reconcile::{Caution, ClusterReconciler};
use crate::command::LogDir;
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

/// Connections besides one for each worker: heartbeat, passes, scrapes.
const SPARE_CONNECTIONS: usize = 4;

/// Connections for the page and the API.
const PAGE_CONNECTIONS: usize = 8;

/// For the statements that release what this process held, and open requests.
const RELEASE_WITHIN: Duration = Duration::from_secs(30);

/// One database, under the role that reconciles and under the one that declares.
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
            settings.serving.concurrency + SPARE_CONNECTIONS,
            &format!("kindler@{}", me.host),
        )
        .selecting(&settings.serving.selector);
        let driver = driver::driver(&settings);
        Self {
            settings,
            store,
            driver,
            metrics: Arc::new(Metrics::new()),
            me,
        }
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
            caution: Caution::new(&self.settings.policy().health),
            standby,
        }
        .owned_by(&self.me.owner, self.settings.lease_policy());
        let settings = ControllerSettings {
            concurrency: self.settings.serving.concurrency,
            resync: self.settings.serving.resync_interval,
            finish_within: self.settings.serving.shutdown_grace,
            stop_within: self.stop_within(),
            ..ControllerSettings::default()
        };
        let metrics = reconciler.metrics.clone();
        Controller::new(Arc::new(reconciler), settings, wakeups, metrics)
    }

    /// The grace of the commands, and a moment to say so.
    fn stop_within(&self) -> Duration {
        self.settings.deadlines().grace + Duration::from_secs(5)
    }

    /// How long an orderly end may take, with the database's answers to it.
    pub(super) fn stop_bound(&self) -> Duration {
        self.settings.serving.shutdown_grace + self.stop_within() + RELEASE_WITHIN
    }

    /// The database under the role of the page and the API.
    pub(super) fn page_store(&self, databases: &Databases) -> Store {
        let page = &databases.page;
        let store = Store::new(page, PAGE_CONNECTIONS, &format!("api@{}", self.me.host));
        if page.same_server_and_database(&databases.daemon) {
            store.with_session_mode_of(&self.store)
        } else {
            store
        }
    }

    /// What the page and the API work with.
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

    /// Whether this daemon works on clusters, or serves page and API alone.
    pub(super) fn reconciles(&self) -> bool {
        !self.settings.web.api_only
    }

    /// What cannot work is known before the first cluster is declared; it is
    /// reported and not fatal, because it may be mended while this runs.
    pub(super) async fn preflight(&self) {
        if let Err(problems) = self.driver.preflight().await {
            for problem in problems {
                error!(
                    driver = self.driver.name(),
                    problem, "the driver cannot work like this"
                );
            }
        }
    }

    /// Leaves nothing behind that another replica would have to wait for.
    pub(super) async fn release(&self) {
        let released = async {
            self.store.claims().release_all(&self.me.owner).await?;
            self.store.retire(&self.me.owner).await
        };
        if let Err(error) = released.await {
            let error = &error as &dyn std::error::Error;
            warn!(
                error,
                "leases could not be released; they end with their lifetime"
            );
        }
    }
}
