//! One running daemon: starts its parts in order, and waits for the end of each.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::api_auth::ApiAuth;
use super::database_wait::wait_for_database;
use super::error::DaemonError;
use super::ground::GroundCheck;
use super::health_channels::{HealthChannels, health_channels};
use super::heartbeat::{Beat, Heartbeat};
use super::process::{Databases, Process};
use super::replicas::own_scripts;
use super::rowless::RowlessClusters;
use super::systemd::Systemd;
use super::terms::SeenTerms;
use super::{
    ended_owners, host_faults, orphans, port_conflicts, reconnects, seed, terms, workload,
};
use crate::clusters::reconcile::CONTROLLER;
use crate::config::{DaemonSettings, HEARTBEAT};
use crate::core::listener::Listener;
use crate::core::refusals::Refusals;
use crate::core::runtime::Controllers;
use crate::core::wakeups::WakeupQueue;
use crate::http::{self, FleetReader, MonitoringState, Readiness};
use crate::live::{Feed, Follower};
use crate::metrics::StateFolder;
use crate::store::{Channels, DatabaseUser, Store};

/// Runs the daemon on a database until `shutdown`.
pub(super) async fn run(
    settings: DaemonSettings,
    databases: Databases,
    socket: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), DaemonError> {
    let address = socket.local_addr().unwrap_or(settings.serving.listen);
    let process = Process::new(settings, &databases.daemon, Some(address.to_string()));
    info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %address,
        database = %databases.daemon,
        driver = process.driver.name(),
        selector = %process.settings.serving.selector,
        owner = process.me.owner,
        "starting"
    );
    if process.reconciles() {
        process.preflight().await;
        // Before the database is reached, so that every series exists from the start.
        process.metrics.controller(CONTROLLER);
    }
    let (health, vitals) = health_channels();
    let reconnects = process.metrics.listen_reconnects_total.clone();
    tokio::spawn(reconnects::count(vitals.listening.clone(), reconnects));
    let server = HttpServer::start(&process, &databases, (socket, address), &vitals, &shutdown);
    let (wakeups, everything_ended) = (WakeupQueue::default(), CancellationToken::new());
    let systemd = Systemd::new(vitals.clone(), wakeups.clone(), process.stop_bound());
    let systemd = tokio::spawn(systemd.run(shutdown.clone(), everything_ended.clone()));

    let mut terms = SeenTerms::new(&process.settings.connection.state_dir);
    let checked = process.reconciles().then_some(&mut terms);
    // No lease is claimed before the schema is checked.
    let available = tokio::select! {
        available = wait_for_database(&process.store, &server.auth, &health, checked, &shutdown) => available,
        never = wakeups.drain() => match never {},
    };
    let failure = match available {
        Ok(Some(channels)) => {
            let parts = RunningParts {
                process: &process,
                databases,
                server: &server,
                health,
                vitals,
                wakeups,
                terms,
            };
            parts.run(channels, shutdown).await;
            None
        }
        Ok(None) => None,
        Err(error) => {
            shutdown.cancel();
            Some(error)
        }
    };
    check_end("HTTP", server.task.await);
    everything_ended.cancel();
    check_end("systemd", systemd.await);
    info!("ended");
    failure.map_or(Ok(()), Err)
}

/// Page, API, health and metrics: from before the database is reached until the end.
struct HttpServer {
    store: Store,
    feed: Feed,
    auth: ApiAuth,
    task: JoinHandle<()>,
}

impl HttpServer {
    fn start(
        process: &Process,
        databases: &Databases,
        (socket, address): (TcpListener, SocketAddr),
        vitals: &Readiness,
        shutdown: &CancellationToken,
    ) -> Self {
        let per_cluster = process.settings.serving.metrics_per_cluster;
        let source = MonitoringState {
            metrics: process.metrics.clone(),
            fleet: FleetReader::new(process.store.clone(), per_cluster),
            readiness: vitals.clone(),
            folder: StateFolder::new(process.settings.connection.state_dir.clone()),
        };
        let store = process.page_store(databases);
        let auth = ApiAuth::new(&process.settings, address, &store);
        let api = process.api(store.clone(), auth.access(shutdown), vitals);
        let (feed, policy) = (api.feed.clone(), auth.origin_policy(&process.settings));
        let server = http::serve(socket, source, api, policy, shutdown.clone());
        Self {
            store,
            feed,
            auth,
            task: tokio::spawn(server),
        }
    }
}

/// The parts that run once the database is available.
struct RunningParts<'a> {
    process: &'a Process,
    databases: Databases,
    server: &'a HttpServer,
    health: HealthChannels,
    vitals: Readiness,
    wakeups: WakeupQueue,
    terms: SeenTerms,
}

impl RunningParts<'_> {
    /// Runs until `shutdown`, then ends all parts and releases the leases.
    async fn run(self, channels: Channels, shutdown: CancellationToken) {
        let Self {
            process,
            databases,
            server,
            health,
            vitals,
            wakeups,
            terms,
        } = self;
        let unlisted = clusters_without_row(process, &health, &shutdown);
        let seeding = seeding(process, &server.store, &shutdown);
        let mut controllers = Controllers::default();
        let mut refusals = Refusals::default();
        if process.reconciles() {
            // One controller for each reconciled table.
            let clusters = process.controller(wakeups.clone(), vitals.schema.clone());
            refusals = clusters.refusals();
            tokio::spawn(workload::report(
                process.store.clone(),
                process.me.owner.clone(),
                process.settings.serving.delete_cap,
                clusters.workload(),
                shutdown.clone(),
            ));
            controllers.add(channels.wake, wakeups.clone(), clusters);
        } else {
            controllers.listen(channels.wake, wakeups.clone());
        }
        let listener = Listener::new(databases.daemon, controllers.routes(), health.listening);
        let follower = Follower {
            database: databases.page,
            channel: channels.page,
            store: server.store.clone(),
            owner: process.me.owner.clone(),
            heartbeat: HEARTBEAT,
            feed: server.feed.clone(),
        };
        let findings = vitals.findings.clone();
        let heartbeat = Heartbeat {
            store: process.store.clone(),
            me: process.me.clone(),
            limits: process.limits.clone(),
            vitals,
            terms,
            went_back: health.went_back,
            database: health.trouble,
            schema: health.schema,
            queue: health.queue,
            wakeups: wakeups.clone(),
            reconciles: process.reconciles(),
            refusals,
            lease: process.settings.lease_policy().ttl,
            metrics: process.metrics.clone(),
            state_dir: process.settings.connection.state_dir.clone(),
            scripts: own_scripts(&process.settings),
            ground: GroundCheck::new(match process.reconciles() {
                true => DatabaseUser::Daemon,
                false => DatabaseUser::Api,
            }),
            search_refused: false,
            next: Beat::Short,
        };
        let parts = [
            tokio::spawn(listener.run(shutdown.clone())),
            tokio::spawn(follower.run(shutdown.clone())),
            tokio::spawn(heartbeat.run(shutdown.clone())),
        ];
        if process.reconciles() {
            let lease = process.settings.lease_policy().ttl;
            let orphans = tokio::select! {
                orphans = orphans::end_at_start(lease, &shutdown) => orphans,
                never = wakeups.drain() => match never {},
            };
            let orphans = tokio::spawn(orphans::end_all(lease, orphans, shutdown.clone()));
            let conflicts = tokio::spawn(port_conflicts::report(
                process.store.clone(),
                findings.clone(),
                shutdown.clone(),
            ));
            let driver = process.driver.clone();
            let rowless =
                RowlessClusters::new(process.store.clone(), driver.clone(), findings.clone());
            let rowless = tokio::spawn(rowless.report(shutdown.clone()));
            let host = tokio::spawn(host_faults::report(driver, findings, shutdown.clone()));
            let ended_owners = process.ended_owners().map(|owners| {
                let release =
                    ended_owners::release_always(owners, wakeups.clone(), shutdown.clone());
                tokio::spawn(release)
            });
            controllers.run(shutdown).await;
            check_end("orphans", orphans.await);
            check_end("port conflicts", conflicts.await);
            check_end("clusters without a row", rowless.await);
            check_end("faults of the host", host.await);
            if let Some(ended_owners) = ended_owners {
                check_end("ended owners", ended_owners.await);
            }
        } else {
            tokio::select! {
                () = shutdown.cancelled() => {}
                never = wakeups.drain() => match never {},
            }
        }
        for part in parts {
            check_end("listener, heartbeat or follower", part.await);
        }
        if let Some(seeding) = seeding {
            check_end("seed", seeding.await);
        }
        if let Some(unlisted) = unlisted {
            check_end("clusters without a row", unlisted.await);
        }
        if process.reconciles() {
            process.release().await;
        }
    }
}

/// Reports in the background what exists on this host without a row, if the database has gone
/// back.
fn clusters_without_row(
    process: &Process,
    health: &HealthChannels,
    shutdown: &CancellationToken,
) -> Option<JoinHandle<()>> {
    let notice = health.went_back.borrow().clone()?;
    let (store, driver) = (process.store.clone(), process.driver.clone());
    let logs = process.settings.connection.log_dir();
    let (shutdown, went_back) = (shutdown.clone(), health.went_back.clone());
    Some(tokio::spawn(async move {
        let found = terms::without_row(&store, &*driver, &logs);
        if let Some(Ok(names)) = shutdown.run_until_cancelled(found).await
            && !names.is_empty()
        {
            let names = names.join(", ");
            error!(
                names,
                "clusters on this host have no row; they are not touched"
            );
            let named = format!("{notice}; clusters on this host without a row: {names}");
            went_back.send_replace(Some(named));
        }
    }))
}

/// Declares the clusters of the settings' list in the background.
fn seeding(
    process: &Process,
    store: &Store,
    shutdown: &CancellationToken,
) -> Option<JoinHandle<()>> {
    let list = process.settings.web.seed_csv.clone()?;
    let selector = process.settings.serving.selector.clone();
    let seed = seed::declare(store.clone(), list, selector, shutdown.clone());
    Some(tokio::spawn(seed))
}

fn check_end(part: &'static str, joined: Result<(), JoinError>) {
    if joined.is_err() {
        error!(part, "a part of the daemon panicked");
    }
}
