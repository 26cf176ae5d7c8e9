//! One running daemon: its parts in the order in which they begin and end, each
//! with an owner that waits for its end.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::admission::Admission;
use super::error::DaemonError;
use super::heartbeat::Heartbeat;
use super::opening::{Channels, wait_for_database};
use super::process::{Databases, Process};
use super::senses::{Senses, senses};
use super::systemd::Systemd;
use super::{orphans, reconnects, seed};
use crate::clusters::reconcile::CONTROLLER;
use crate::config::DaemonSettings;
use crate::core::listener::Listener;
use crate::core::runtime::Controllers;
use crate::core::wakeups::WakeupQueue;
use crate::http::{self, FleetReader, MonitoringState, Readiness};
use crate::live::{Feed, Follower};
use crate::store::Store;

/// The daemon on a given database, until `shutdown`.
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
        // Known before the database is, so that every series is there from the start.
        process.metrics.controller(CONTROLLER);
    }
    let (senses, vitals) = senses();
    let returns = process.metrics.listen_reconnects_total.clone();
    tokio::spawn(reconnects::count(vitals.listening.clone(), returns));
    let front = Front::open(&process, &databases, (socket, address), &vitals, &shutdown);
    let (wakeups, everything_ended) = (WakeupQueue::default(), CancellationToken::new());
    let systemd = Systemd::new(vitals.clone(), wakeups.clone(), process.stop_bound());
    let systemd = tokio::spawn(systemd.run(shutdown.clone(), everything_ended.clone()));

    // Nothing is claimed before the schema is known to be the right one.
    let opened = tokio::select! {
        opened = wait_for_database(&process.store, &front.admission, &senses, &shutdown) => opened,
        never = wakeups.drain() => match never {},
    };
    let refused = match opened {
        Ok(Some(channels)) => {
            let work = Work {
                process: &process,
                databases,
                front: &front,
                senses,
                vitals,
                wakeups,
            };
            work.until(channels, shutdown).await;
            None
        }
        Ok(None) => None,
        Err(error) => {
            shutdown.cancel();
            Some(error)
        }
    };
    ended("HTTP", front.serving.await);
    everything_ended.cancel();
    ended("systemd", systemd.await);
    info!("ended");
    refused.map_or(Ok(()), Err)
}

/// Page, API, health and metrics: there before the database is, and to the end.
struct Front {
    store: Store,
    feed: Feed,
    admission: Admission,
    serving: JoinHandle<()>,
}

impl Front {
    fn open(
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
        };
        let store = process.page_store(databases);
        let admission = Admission::new(&process.settings, address, &store);
        let api = process.api(store.clone(), admission.access(shutdown), vitals);
        let (feed, doors) = (api.feed.clone(), admission.doors(&process.settings));
        let serving = http::serve(socket, source, api, doors, shutdown.clone());
        Self {
            store,
            feed,
            admission,
            serving: tokio::spawn(serving),
        }
    }
}

/// What is done once the database serves.
struct Work<'a> {
    process: &'a Process,
    databases: Databases,
    front: &'a Front,
    senses: Senses,
    vitals: Readiness,
    wakeups: WakeupQueue,
}

impl Work<'_> {
    /// Works until `shutdown`, ends all parts, and gives back what was held.
    async fn until(self, channels: Channels, shutdown: CancellationToken) {
        let Self {
            process,
            databases,
            front,
            senses,
            vitals,
            wakeups,
        } = self;
        let seeding = seeding(process, &front.store, &shutdown);
        let mut controllers = Controllers::default();
        if process.reconciles() {
            // One for each reconciled table; another is another line here.
            let clusters = process.controller(wakeups.clone(), vitals.schema.clone());
            controllers.add(channels.wake, wakeups.clone(), clusters);
        } else {
            controllers.listen(channels.wake, wakeups.clone());
        }
        let listener = Listener::new(databases.daemon, controllers.routes(), senses.listening);
        let follower = Follower {
            database: databases.page,
            channel: channels.page,
            store: front.store.clone(),
            owner: process.me.owner.clone(),
            feed: front.feed.clone(),
        };
        let heartbeat = Heartbeat {
            store: process.store.clone(),
            me: process.me.clone(),
            vitals,
            database: senses.trouble,
            schema: senses.schema,
            wakeups: wakeups.clone(),
            reconciles: process.reconciles(),
        };
        let parts = [
            tokio::spawn(listener.run(shutdown.clone())),
            tokio::spawn(follower.run(shutdown.clone())),
            tokio::spawn(heartbeat.run(shutdown.clone())),
        ];
        if process.reconciles() {
            let lease = process.settings.lease_policy().ttl;
            let orphans = tokio::select! {
                orphans = orphans::end_before_the_start(lease, &shutdown) => orphans,
                never = wakeups.drain() => match never {},
            };
            let orphans = tokio::spawn(orphans::end_all(lease, orphans, shutdown.clone()));
            controllers.run(shutdown).await;
            ended("orphans", orphans.await);
        } else {
            tokio::select! {
                () = shutdown.cancelled() => {}
                never = wakeups.drain() => match never {},
            }
        }
        for part in parts {
            ended("listener, heartbeat or follower", part.await);
        }
        if let Some(seeding) = seeding {
            ended("seed", seeding.await);
        }
        if process.reconciles() {
            process.release().await;
        }
    }
}

/// The clusters of the settings' list are declared meanwhile.
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

fn ended(part: &'static str, joined: Result<(), JoinError>) {
    if joined.is_err() {
        error!(part, "a part of the daemon panicked");
    }
}
