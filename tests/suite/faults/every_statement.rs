//! At every database statement in a cluster's lifecycle, one at a time: the daemon is killed
//! before the statement, or after its execution and before its answer; the connection
//! is closed before or after it; or the statement is rejected. Every lifecycle must converge.

use std::time::Duration;

use tokio_postgres::Client;

use super::{at_many_points, converged, quick};
use crate::kit::{Daemon, FaultKind, Host, InjectedFault, Proxy, Sql, migrated};

/// One lifecycle: created, changed, stopped, started; another cluster is deleted.
pub(super) const STEPS: [(&str, &str); 5] = [
    (
        "INSERT INTO clusters (name, provider) VALUES ('kept', 'k3d'), ('gone', 'k3d')",
        "SELECT count(*) - 2 FROM clusters WHERE actual_state = 'running'",
    ),
    (
        "UPDATE clusters SET http_port = 18999 WHERE name = 'kept'",
        "SELECT count(*) - 1 FROM clusters WHERE name = 'kept' AND actual_state = 'running' AND observed_generation = 2",
    ),
    (
        "UPDATE clusters SET desired_state = 'stopped' WHERE name = 'kept'",
        "SELECT count(*) - 1 FROM clusters WHERE name = 'kept' AND actual_state = 'stopped'",
    ),
    (
        "DELETE FROM clusters WHERE name = 'gone'",
        "SELECT count(*) FROM clusters WHERE name = 'gone'",
    ),
    (
        "UPDATE clusters SET desired_state = 'present' WHERE name = 'kept'",
        "SELECT count(*) - 1 FROM clusters WHERE name = 'kept' AND actual_state = 'running'",
    ),
];

/// Runs the lifecycle; starts the daemon again whenever it was killed.
pub(super) async fn run_lifecycle(sql: &Client, host: &Host, url: &str, mut daemon: Daemon) {
    for (change, done) in STEPS {
        sql.run(change).await;
        let giving_up = std::time::Instant::now() + Duration::from_secs(60);
        while sql.number(done).await != 0 {
            if daemon.has_ended() {
                daemon = quick(url, host).spawn();
            }
            assert!(
                std::time::Instant::now() < giving_up,
                "stuck at {change}\n{}",
                daemon.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    if daemon.has_ended() {
        daemon = quick(url, host).spawn();
        daemon.ready().await;
    }
    converged(sql, host).await;
    drop(daemon);
}

/// The fault for the daemon with this process id.
pub(super) type Fault = fn(i32) -> FaultKind;

pub(super) const DISCONNECT: Fault = |_| FaultKind::Disconnect;
pub(super) const REFUSE: Fault = |_| FaultKind::Refuse;

/// One lifecycle with a fault; whether the fault occurred.
async fn with_fault(at: usize, after: bool, fault: Fault) -> bool {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let proxy = Proxy::to(&database).await;
    let daemon = quick(&proxy.url(), &host).spawn();
    let kind = fault(daemon.pid());
    proxy.inject(InjectedFault { at, after, kind });
    run_lifecycle(&sql, &host, &proxy.url(), daemon).await;
    proxy.fault_occurred()
}

/// The number of statements in a lifecycle without a fault.
async fn statements() -> usize {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    let proxy = Proxy::to(&database).await;
    let daemon = quick(&proxy.url(), &host).spawn();
    run_lifecycle(&sql, &host, &proxy.url(), daemon).await;
    proxy.statements()
}

async fn at_many_statements(after: bool, fault: Fault) {
    let last = statements().await;
    assert!(last > 20, "only {last} statements in a lifecycle");
    let (occurred, lifecycles) = at_many_points(last, 8, |at| with_fault(at, after, fault)).await;
    assert!(
        occurred * 2 > lifecycles,
        "only {occurred} faults in {lifecycles} lifecycles"
    );
}

#[tokio::test]
async fn converges_if_killed_before_a_statement() {
    at_many_statements(false, FaultKind::Kill).await;
}

#[tokio::test]
async fn converges_if_killed_before_the_answer_to_a_statement() {
    at_many_statements(true, FaultKind::Kill).await;
}

#[tokio::test]
async fn converges_if_disconnected_before_a_statement() {
    at_many_statements(false, DISCONNECT).await;
}

#[tokio::test]
async fn converges_if_disconnected_after_the_commit() {
    at_many_statements(true, DISCONNECT).await;
}

#[tokio::test]
async fn converges_if_a_statement_is_rejected() {
    at_many_statements(false, REFUSE).await;
}
