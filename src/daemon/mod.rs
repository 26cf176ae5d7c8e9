//! The running process: its parts, each with an owner that waits for its end.
//!
//! [`serve`] reconciles until it is asked to end, [`once`] makes one complete
//! pass, [`dev`] brings a private Postgres. No decision about clusters here.

mod admission;
mod begun;
mod dev;
mod driver;
mod error;
mod heartbeat;
mod identity;
mod logging;
mod orphans;
mod reconnects;
mod seed;
mod signals;
mod systemd;
#[cfg_attr(not(feature = "otel"), path = "no_traces.rs")]
mod traces;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::backoff::Backoff;
use crate::cause::chain;
use crate::command::{LogDir, Orphans};
use crate::config::DaemonSettings;
use crate::controller::{Controller, ControllerSettings, Reconciler};
use crate::driver::Driver;
use crate::http::{self, FleetReader, Source, Vitals};
use crate::listener::{Doorbell, Listener};
use crate::live::{Feed, Follower};
use crate::metrics::Metrics;
use crate::reconcile::{CONTROLLER, Caution, ClusterReconciler};
use crate::store::{Database, Replica, Store, StoreError, newer_schema};

use admission::Admission;
use begun::begin;

pub use dev::dev;
pub use error::DaemonError;

/// Connections besides one for each worker: heartbeat, passes, scrapes.
const SPARE_CONNECTIONS: usize = 4;

/// Connections for the page and the API.
const PAGE_CONNECTIONS: usize = 8;

/// Between attempts to reach the database at start.
const CONNECT: Backoff = Backoff {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(10),
};

/// For the statements that release what this process held, and open requests.
const RELEASE_WITHIN: Duration = Duration::from_secs(30);

/// How a daemon's command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it was asked to; everything is as declared, for a single pass.
    Well,
    /// A single pass left something that failed or is not as declared yet.
    Unconverged,
}

/// Reconciles until SIGTERM or SIGINT.
///
/// # Errors
/// [`DaemonError`] for what no waiting mends; an unreachable database is
/// waited for.
pub async fn serve(settings: DaemonSettings) -> Result<Ended, DaemonError> {
    let begun = begin(&settings)?;
    let ended = serving(settings, begun.shutdown).await;
    begun.traces.end().await;
    ended
}

async fn serving(
    settings: DaemonSettings,
    shutdown: CancellationToken,
) -> Result<Ended, DaemonError> {
    let page = settings.api_database()?;
    let databases = Databases {
        // Where nothing is reconciled, no right to do so is needed.
        daemon: if settings.web.api_only {
            page.clone()
        } else {
            settings.connection.database()?
        },
        page,
    };
    let socket = http::bind(settings.serving.listen).await?;
    run(settings, databases, socket, shutdown)
        .await
        .map(|()| Ended::Well)
}

/// Makes one complete pass and waits for what it started: exit code 0 when
/// everything is as declared, 1 when something failed or is not yet.
///
/// # Errors
/// [`DaemonError`], also when the database cannot be reached.
pub async fn once(settings: DaemonSettings) -> Result<Ended, DaemonError> {
    let begun = begin(&settings)?;
    let ended = one_pass(settings, begun.shutdown).await;
    begun.traces.end().await;
    ended
}

async fn one_pass(
    settings: DaemonSettings,
    shutdown: CancellationToken,
) -> Result<Ended, DaemonError> {
    let database = settings.connection.database()?;
    let process = Process::new(settings, &database, None);
    if let Some(newer) = newer_schema(process.store.check().await?) {
        return Err(newer.into());
    }
    process.preflight().await;
    orphans::look(Orphans::default()).await;
    let (_schema, known) = watch::channel(None);
    let controller = process.controller(Doorbell::default(), known);
    let ended = controller.run_once(shutdown.clone()).await;
    process.release().await;
    ended?;
    let left = process.store.unconverged().await?;
    info!(
        failed = left.failed,
        unsettled = left.unsettled,
        "pass ended"
    );
    let converged = left.failed == 0 && left.unsettled == 0 && !shutdown.is_cancelled();
    Ok(if converged {
        Ended::Well
    } else {
        Ended::Unconverged
    })
}

/// One database, under the role that reconciles and under the one that declares.
struct Databases {
    daemon: Database,
    page: Database,
}

/// The daemon on a given database, until `shutdown`.
async fn run(
    settings: DaemonSettings,
    Databases {
        daemon: database,
        page,
    }: Databases,
    socket: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), DaemonError> {
    let address = socket.local_addr().unwrap_or(settings.serving.listen);
    let process = Process::new(settings, &database, Some(address.to_string()));
    info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %address,
        database = %database,
        driver = process.driver.name(),
        selector = %process.settings.serving.selector,
        owner = process.me.owner,
        "starting"
    );
    let api_only = process.settings.web.api_only;
    if !api_only {
        process.preflight().await;
    }

    let doorbell = Doorbell::default();
    let (trouble, database_seen) = watch::channel(Some("not reached yet".to_owned()));
    let (listening_out, listening) = watch::channel(crate::listener::Listening::No(
        "waiting for the database".into(),
    ));
    let (schema, schema_seen) = watch::channel(None);
    let vitals = Vitals {
        database: database_seen,
        listening,
        schema: schema_seen.clone(),
    };
    // Known before the database is, so that every series is there from the start.
    if !api_only {
        process.metrics.controller(CONTROLLER);
    }
    tokio::spawn(reconnects::count(
        vitals.listening.clone(),
        process.metrics.listen_reconnects_total.clone(),
    ));
    let source = Source {
        metrics: process.metrics.clone(),
        fleet: FleetReader::new(
            process.store.clone(),
            process.settings.serving.metrics_per_cluster,
        ),
        vitals: vitals.clone(),
    };
    let mut store = process.page_store(&page);
    if page.leads_to_the_same(&database) {
        store = store.believing(&process.store);
    }
    let admission = Admission::new(&process.settings, address, &store);
    let web = process.web(store.clone(), admission.access(), &vitals, &shutdown);
    let (feed, doors) = (web.feed.clone(), admission.doors(&process.settings));
    let web = tokio::spawn(http::serve(socket, source, web, doors, shutdown.clone()));
    let everything_ended = CancellationToken::new();
    let systemd = systemd::Systemd::new(vitals.clone(), doorbell.clone(), process.stop_bound());
    let systemd = tokio::spawn(systemd.run(shutdown.clone(), everything_ended.clone()));

    // Nothing is claimed before the schema is known to be the right one.
    let channels = tokio::select! {
        channels = process.wait_for_database(&admission, &trouble, &schema, &shutdown) => channels,
        never = doorbell.unheeded() => match never {},
    };
    let (channels, refused) = match channels {
        Ok(channels) => (channels, None),
        Err(error) => (None, Some(error)),
    };
    if refused.is_some() {
        shutdown.cancel();
    }
    if let Some(channels) = channels {
        let seeding = process.settings.web.seed_csv.clone().map(|list| {
            let selector = process.settings.serving.selector.clone();
            let seed = seed::declare(store.clone(), list, selector, shutdown.clone());
            tokio::spawn(seed)
        });
        let listener = Listener::new(database, channels.wake, doorbell.clone(), listening_out);
        let listener = tokio::spawn(listener.run(shutdown.clone()));
        let follower = Follower {
            database: page,
            channel: channels.page,
            store,
            owner: process.me.owner.clone(),
            feed,
        };
        let follower = tokio::spawn(follower.run(shutdown.clone()));
        let heartbeat = process.heartbeat(vitals, trouble, schema, doorbell.clone());
        let heartbeat = tokio::spawn(heartbeat.run(shutdown.clone()));
        if api_only {
            tokio::select! {
                () = shutdown.cancelled() => {}
                never = doorbell.unheeded() => match never {},
            }
        } else {
            let orphans = tokio::spawn(orphans::end_all(
                process.settings.lease_policy().ttl,
                shutdown.clone(),
            ));
            let controller = process.controller(doorbell, schema_seen);
            controller.run(shutdown.clone()).await;
            ended("orphans", orphans.await);
        }
        for part in [listener, heartbeat, follower] {
            ended("listener, heartbeat or follower", part.await);
        }
        if let Some(seeding) = seeding {
            ended("seed", seeding.await);
        }
        if !api_only {
            process.release().await;
        }
    }
    ended("HTTP", web.await);
    everything_ended.cancel();
    ended("systemd", systemd.await);
    info!("ended");
    refused.map_or(Ok(()), Err)
}

/// Where the database rings.
struct Channels {
    wake: String,
    page: String,
}

/// What the parts of one process share.
struct Process {
    settings: DaemonSettings,
    store: Store,
    driver: Arc<dyn Driver>,
    metrics: Arc<Metrics>,
    me: Replica,
}

impl Process {
    fn new(settings: DaemonSettings, database: &Database, listen: Option<String>) -> Self {
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

    fn controller(
        &self,
        doorbell: Doorbell,
        stand_aside: watch::Receiver<Option<String>>,
    ) -> Controller<ClusterReconciler> {
        let reconciler = ClusterReconciler {
            store: self.store.clone(),
            driver: self.driver.clone(),
            policy: self.settings.policy(),
            lease: self.settings.lease_policy(),
            owner: self.me.owner.clone(),
            metrics: self.metrics.clone(),
            caution: Caution::new(&self.settings.policy().health),
            stand_aside,
        };
        let settings = ControllerSettings {
            concurrency: self.settings.serving.concurrency,
            resync: self.settings.serving.resync_interval,
            finish_within: self.settings.serving.shutdown_grace,
            stop_within: self.stop_within(),
            ..ControllerSettings::default()
        };
        let metrics = self.metrics.controller(reconciler.name());
        Controller::new(Arc::new(reconciler), settings, doorbell, metrics)
    }

    /// The grace of the commands, and a moment to say so.
    fn stop_within(&self) -> Duration {
        self.settings.deadlines().grace + Duration::from_secs(5)
    }

    /// How long an orderly end may take, with the database's answers to it.
    fn stop_bound(&self) -> Duration {
        self.settings.serving.shutdown_grace + self.stop_within() + RELEASE_WITHIN
    }

    fn heartbeat(
        &self,
        vitals: Vitals,
        database: watch::Sender<Option<String>>,
        schema: watch::Sender<Option<String>>,
        doorbell: Doorbell,
    ) -> heartbeat::Heartbeat {
        heartbeat::Heartbeat {
            store: self.store.clone(),
            me: self.me.clone(),
            vitals,
            database,
            schema,
            doorbell,
            reconciles: !self.settings.web.api_only,
        }
    }

    /// The database under the role of the page and the API.
    fn page_store(&self, database: &Database) -> Store {
        Store::new(database, PAGE_CONNECTIONS, &format!("api@{}", self.me.host))
    }

    /// What the page and the API work with.
    fn web(
        &self,
        store: Store,
        access: http::Access,
        vitals: &Vitals,
        shutdown: &CancellationToken,
    ) -> http::Api {
        let settings = &self.settings;
        http::Api {
            store,
            access,
            feed: Feed::default(),
            logs: LogDir::new(settings.connection.log_dir()),
            vitals: vitals.clone(),
            kubeconfigs: driver::kubeconfigs(settings),
            base_domain: settings.web.base_domain.as_str().into(),
            api_only: settings.web.api_only,
            closing: shutdown.clone(),
        }
    }

    /// What cannot work is known before the first cluster is declared; it is
    /// reported and not fatal, because it may be mended while this runs.
    async fn preflight(&self) {
        if let Err(problems) = self.driver.preflight().await {
            for problem in problems {
                error!(
                    driver = self.driver.name(),
                    problem, "the driver cannot work like this"
                );
            }
        }
    }

    /// Waits until the database serves the schema of this release or a later
    /// one, saying why it waits; the channels to listen on, or `None` on
    /// shutdown. Fails where nobody could ever get in.
    async fn wait_for_database(
        &self,
        admission: &Admission,
        trouble: &watch::Sender<Option<String>>,
        schema: &watch::Sender<Option<String>>,
        shutdown: &CancellationToken,
    ) -> Result<Option<Channels>, DaemonError> {
        let mut failures = 0;
        loop {
            let tried = async {
                let version = self.store.check().await?;
                let channels = Channels {
                    wake: self.store.wake_channel().await?,
                    page: self.store.page_channel().await?,
                };
                let someone = admission.someone_gets_in().await?;
                Ok::<_, StoreError>((version, channels, someone))
            };
            let error = tokio::select! {
                tried = tried => match tried {
                    Ok((version, channels, someone)) => {
                        someone?;
                        trouble.send_replace(None);
                        if let Some(newer) = newer_schema(version) {
                            warn!(reason = %newer, "nothing new is begun");
                            schema.send_replace(Some(newer.to_string()));
                        }
                        return Ok(Some(channels));
                    }
                    Err(error) => error,
                },
                () = shutdown.cancelled() => return Ok(None),
            };
            failures += 1;
            let delay = CONNECT.delay(failures, fastrand::f64());
            let reason = chain(&error);
            warn!(reason, retry_in = ?delay, "waiting for the database");
            trouble.send_replace(Some(reason));
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = shutdown.cancelled() => return Ok(None),
            }
        }
    }

    /// Leaves nothing behind that another replica would have to wait for.
    async fn release(&self) {
        let released = async {
            self.store.release_all(&self.me.owner).await?;
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

fn ended(part: &'static str, joined: Result<(), tokio::task::JoinError>) {
    if joined.is_err() {
        error!(part, "a part of the daemon panicked");
    }
}
