//! 1,000 no-op clusters under concurrency 64: declared in one statement, until all run
//! and no lease is left; declared absent in one statement, until no row is left. Once
//! with the daemon and the script driver, whose commands are `true` and `false`; once
//! with the same reconciler in this process and a driver without effects, which leaves
//! out the start of processes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kindler::clusters::plan::Policy;
use kindler::clusters::reconcile::{ClusterReconciler, SafetyLimits, UnwrittenResults};
use kindler::core::controller::{Controller, ControllerSettings};
use kindler::core::lease::LeasePolicy;
use kindler::core::listener::{Listener, Listening, Route};
use kindler::core::wakeups::WakeupQueue;
use kindler::metrics::Metrics;
use kindler::store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::kit::{Daemon, Database, Host, PrivateServer};
use crate::no_op::NoOpDriver;
use crate::report::{Target, figure};
use crate::rig::{answer, migrated, until, url};

const CLUSTERS: i64 = 1000;
const CONCURRENCY: usize = 64;
/// Additional connections besides one for each worker, as in the daemon.
const SPARE_CONNECTIONS: usize = 4;

const DECLARE: &str = "INSERT INTO clusters (name, provider)
    SELECT 'no-op-' || n, 'k3d' FROM generate_series(1, 1000) n";
const ALL_RUN: &str = "SELECT count(*) FILTER (WHERE actual_state = 'running') = 1000
    AND NOT EXISTS (SELECT FROM cluster_leases) FROM clusters";
const WITHDRAW: &str = "UPDATE clusters SET desired_state = 'absent'";
const ALL_GONE: &str = "SELECT NOT EXISTS (SELECT FROM clusters)";

/// Measures both ways.
pub async fn measure(server: &PrivateServer) {
    with_processes(&migrated(server).await).await;
    in_process(&migrated(server).await).await;
}

async fn with_processes(database: &Database) {
    let host = Host::new();
    answer(&host, &["create", "delete", "probe"], true);
    answer(&host, &["exists"], false);
    let mut builder = Daemon::with_defaults(&database.url(), &host)
        .set("KINDLER_CONCURRENCY", CONCURRENCY.to_string())
        // The speed of deletions is measured, not their cap.
        .set("KINDLER_DELETE_CAP", "0");
    for verb in ["create", "delete", "probe", "exists"] {
        let setting = format!("KINDLER_{}_COMMAND", verb.to_uppercase());
        builder = builder.set(&setting, host.command(verb));
    }
    let daemon = builder.start().await;
    let sql = database.connect().await;
    show(
        "1,000 with processes, made",
        timed(&sql, DECLARE, ALL_RUN).await,
    );
    // From now on no cluster answers or exists.
    answer(&host, &["probe", "exists"], false);
    show(
        "1,000 with processes, removed",
        timed(&sql, WITHDRAW, ALL_GONE).await,
    );
    assert!(
        daemon.stop().await.success(),
        "the daemon ends with success"
    );
}

async fn in_process(database: &Database) {
    let driver = Arc::new(NoOpDriver::default());
    driver.present.store(true, Ordering::Relaxed);
    let shutdown = CancellationToken::new();
    let parts = run(database, driver.clone(), shutdown.clone()).await;
    let sql = database.connect().await;
    show(
        "1,000 in process, made",
        timed(&sql, DECLARE, ALL_RUN).await,
    );
    driver.present.store(false, Ordering::Relaxed);
    show(
        "1,000 in process, removed",
        timed(&sql, WITHDRAW, ALL_GONE).await,
    );
    shutdown.cancel();
    for part in parts {
        part.await.expect("no panic");
    }
}

/// Listener and controller, composed as in the daemon.
async fn run(
    database: &Database,
    driver: Arc<NoOpDriver>,
    shutdown: CancellationToken,
) -> [JoinHandle<()>; 2] {
    let metrics = Arc::new(Metrics::new());
    let store = Store::new(&url(database), CONCURRENCY + SPARE_CONNECTIONS, "bench");
    let channel = store.channels().await.expect("the channels").wake;
    let (wakeups, state) = (
        WakeupQueue::default(),
        watch::Sender::new(Listening::No(String::new())),
    );
    let mut listening = state.subscribe();
    let route = Route {
        channel,
        wakeups: wakeups.clone(),
    };
    let listener = Listener::new(url(database), [route], state);
    let policy = Policy {
        delete_cap: 0,
        ..Policy::default()
    };
    let reconciler = ClusterReconciler {
        store,
        driver,
        policy,
        metrics: metrics.clone(),
        limits: SafetyLimits::new(&policy.health).into(),
        unwritten: UnwrittenResults::default(),
        standby: watch::Sender::new(None).subscribe(),
    }
    .owned_by("bench", LeasePolicy::default());
    let settings = ControllerSettings {
        concurrency: CONCURRENCY,
        ..ControllerSettings::default()
    };
    let metrics = reconciler.metrics.clone();
    let controller = Controller::new(Arc::new(reconciler), settings, wakeups, metrics);
    let parts = [
        tokio::spawn(listener.run(shutdown.clone())),
        tokio::spawn(controller.run(shutdown)),
    ];
    let connected = listening.wait_for(|state| *state == Listening::Yes).await;
    drop(connected.expect("a running listener"));
    parts
}

/// From before the statement is sent until its effect is complete.
async fn timed(sql: &Client, statement: &str, done: &str) -> Duration {
    let began = Instant::now();
    sql.batch_execute(statement).await.expect("declare");
    until(sql, done, &[]).await;
    began.elapsed()
}

/// There is no target for the time.
fn show(what: &str, took: Duration) {
    let seconds = took.as_secs_f64();
    figure(
        &format!("{what}, none left, in"),
        seconds,
        "s",
        Target::None,
    );
    figure(
        &format!("{what}, rate"),
        CLUSTERS as f64 / seconds,
        "/s",
        Target::None,
    );
}
